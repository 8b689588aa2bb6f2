"""Who may import whom among the folders of this repository, and what installs it. What holds within the package is in
`test_boundaries`."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from caption_assets_tests.test_boundaries import imports

ROOT = Path(__file__).parents[1]
PYTHONS = [f"3.{minor}" for minor in range(8, 20)]

# Folder -> the others that it may import. The package stands alone; benchmarks measure all the rest.
MAY_IMPORT: dict[str, set[str]] = {
    "caption_assets": set(),
    "caption_assets_tests": {"caption_assets"},
    "training": {"caption_assets"},
    "benchmarks": {"caption_assets", "caption_assets_tests", "training"},
}


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def test_every_folder_with_code_has_its_rule():
    assert {path.parent.name for path in ROOT.glob("[!.]*/*.py")} == set(MAY_IMPORT)


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_a_folder_imports_only_those_it_may(folder):
    forbidden = set(MAY_IMPORT) - MAY_IMPORT[folder] - {folder}
    for path in files(folder):
        assert not {name.split(".")[0] for name in imports(path)} & forbidden, path.relative_to(ROOT)


def test_constraints_hold_with_every_python_that_is_allowed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    allowed = list(SpecifierSet(project["requires-python"]).filter(PYTHONS))
    assert re.search("^PYTHONS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split() == allowed
    for python in allowed:
        ask = ["pip", "compile", "--quiet", "--python-version", python, "--python-platform", "linux", "--extra", "dev"]
        ask = [Path(sys.executable).with_name("uv"), *ask, "--constraint", "constraints.txt", "pyproject.toml"]
        if subprocess.run([*ask, "--offline"], cwd=ROOT, capture_output=True).returncode:  # uv's cache lacks some
            subprocess.run(ask, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
