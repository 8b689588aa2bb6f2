"""Who may import whom among the folders of this repository. What holds within the package is in `test_boundaries`."""

from pathlib import Path

import pytest

from caption_assets_tests.test_boundaries import imports

ROOT = Path(__file__).parents[1]

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
