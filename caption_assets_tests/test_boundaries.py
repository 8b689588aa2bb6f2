"""The two rules of the house: who may import whom, and what is imported only when it is used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import caption_assets

PACKAGE = Path(caption_assets.__file__).parent

# Room -> the rooms that it may import. `records`, `errors` and `settings` are free to all.
MAY_IMPORT = {
    "dataset": set(),
    "media": set(),
    "models": set(),
    "layout": set(),
    "steps": {"dataset", "media", "models", "layout"},
    "demo": {"media", "models"},
    "defs": {"dataset", "media", "models", "layout", "steps"},
    "definitions": {"defs"},
    "console": {"dataset", "steps"},
    "flags": {"models"},
    "__main__": {"cli"},
    "cli": {"dataset", "media", "models", "layout", "steps", "defs", "demo", "console", "flags"},
}
FREE = {"records", "errors", "settings", "caption_assets"}
HEAVY = ("torch", "torchvision", "transformers", "vllm")


def imports(path: Path) -> set[str]:
    """Dotted names of all modules that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_only_the_rooms_it_may(path):
    own = room(path)
    if own in {"__init__", "records", "errors", "settings"}:
        allowed = set()
    else:
        assert own in MAY_IMPORT, f"give {own} a place in the house"
        allowed = MAY_IMPORT[own] | {own}
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "caption_assets" or len(parts) < 2 or parts[1] == "__version__":
            continue
        assert parts[1] in allowed | FREE, f"{path.name} in {own} imports {name}"


@pytest.mark.parametrize(
    ("package", "owners"),
    [
        ("dagster", {"defs"}),
        ("av", {"media"}),
        ("imageio_ffmpeg", {"media"}),
        ("torch", {"models"}),
        ("transformers", {"models"}),
        ("vllm", {"models"}),
        ("httpx2", {"models"}),
    ],
)
def test_a_package_is_imported_by_its_own_room_only(package, owners):
    users = {room(path) for path in MODULES if any(n.split(".")[0] == package for n in imports(path))}
    assert users <= owners


BLOCKED = """
import importlib, pkgutil, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ImportError(f"{{name}} is blocked")

sys.meta_path.insert(0, Block())
names = {names!r} or [m.name for m in pkgutil.walk_packages({path!r}, "caption_assets.")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def run_blocked(blocked: tuple[str, ...], names: list[str]) -> int:
    code = BLOCKED.format(blocked=blocked, names=names, path=[str(PACKAGE)])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return int(done.stdout.split()[-1])


def test_every_module_imports_without_torch_transformers_and_vllm():
    assert run_blocked(HEAVY, []) > 30


def test_the_work_can_be_done_without_dagster():
    names = [
        "caption_assets.steps",
        "caption_assets.dataset",
        "caption_assets.demo",
        "caption_assets.models.select",
        "caption_assets.cli",
    ]
    assert run_blocked((*HEAVY, "dagster"), names) == len(names)


def test_media_needs_neither_models_nor_layout():
    assert run_blocked((*HEAVY, "dagster", "pyarrow", "pandas", "upath"), ["caption_assets.media.previews"]) == 1
