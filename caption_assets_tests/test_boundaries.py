"""The two rules of the house: who may import whom, and what is imported only when it is used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import caption_assets

PACKAGE = Path(caption_assets.__file__).parent

# Room -> the rooms that it may import. Those in `FREE` are free to all; they import each other only.
GROUND = {"store", "dataset", "media", "models", "quality"}
RENDERINGS = {"save_export", "exports", "review", "workers", "demo"}
MAY_IMPORT: dict[str, set[str]] = {
    **{room: set() for room in GROUND},
    "save_export": {"store"},
    "review": {"dataset", "quality", "store"},
    "workers": {"media", "models"},
    "exports": {"store", "media", "models", "save_export", "workers"},
    "demo": {"media", "models"},
    "steps": GROUND | RENDERINGS - {"demo"},
    "defs": GROUND | RENDERINGS | {"steps"},
    "definitions": {"defs"},
    "cli": GROUND | RENDERINGS | {"steps", "defs"},
    "__main__": {"cli"},
}
FREE = {"errors", "extras", "names", "records", "settings"}
# The same within `models`: a file or folder of it -> what else of the room it may import.
MODELS: dict[str, set[str]] = {
    "families": set(),
    "templates": set(),
    "prompts": {"templates"},
    "rates": set(),
    "locks": set(),
    "waits": set(),
    "variants": {"families"},
    "thinking": set(),
    "confidence": {"thinking"},
    "schemas": set(),
    "structured": set(),
    "requests": {"families", "prompts", "variants", "confidence"},
    "contexts": {"families", "requests"},
    "chat": {"families", "requests"},
    "weights": {"families", "locks", "variants", "waits"},
    "gpus": {"families", "locks", "variants", "waits"},
    "seats": {"gpus", "variants"},
    "engines": {
        "families",
        "prompts",
        "locks",
        "variants",
        "confidence",
        "requests",
        "thinking",
        "schemas",
        "contexts",
        "chat",
        "weights",
        "gpus",
        "waits",
    },
    "choice": {"families", "variants", "requests", "weights", "gpus", "seats", "engines"},
}
# And within `engines`: no engine knows another one.
ENGINES: dict[str, set[str]] = {
    "base": set(),
    "shares": set(),
    "ahead": set(),
    "meter": set(),
    "session": {"ahead", "base", "shares", "meter"},
    "visits": set(),
    "draws": set(),
    "grammars": set(),
    "watched": {"base"},
    "transformers": {"base", "draws", "grammars", "visits", "watched"},
    "vllm": {"base", "grammars", "visits"},
    "openai": {"base", "visits"},
    "select": {"base", "transformers", "vllm", "openai"},
}
HEAVY = ("torch", "torchvision", "transformers", "vllm", "xgrammar")


def imports(path: Path) -> set[str]:
    """Dotted names of all modules that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def place(path: Path) -> tuple[str, ...]:
    """Where a file stands: its room, and the parts of its path within it."""
    return path.relative_to(PACKAGE).with_suffix("").parts


MODULES = sorted(PACKAGE.rglob("*.py"))
NESTED = [((), MAY_IMPORT), (("models",), MODELS), (("models", "engines"), ENGINES)]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_only_the_rooms_it_may(path):
    own = place(path)
    for prefix, rules in NESTED:
        if own[: len(prefix)] != prefix or own[len(prefix)] == "__init__":
            continue
        name = own[len(prefix)]
        ground = FREE if not prefix else set()
        assert name in rules or name in ground, f"give {'.'.join(own)} a place in the house"
        allowed = ground | rules.get(name, set()) | {name}
        for imported in imports(path):
            parts = tuple(imported.split(".")[1:]) if imported.startswith("caption_assets.") else ()
            if len(parts) > len(prefix) and parts[: len(prefix)] == prefix and parts != ("__version__",):
                assert parts[len(prefix)] in allowed, f"{'/'.join(own)} imports {imported}"


@pytest.mark.parametrize("rules", [MAY_IMPORT, MODELS, ENGINES], ids=["rooms", "models", "engines"])
def test_no_room_is_named_that_is_not_there(rules):
    prefix = next(prefix for prefix, named in NESTED if named is rules)
    there = {place(path)[len(prefix)] for path in MODULES if place(path)[: len(prefix)] == prefix}
    assert set(rules) <= there


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
    users = {place(path)[0] for path in MODULES if any(n.split(".")[0] == package for n in imports(path))}
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
        "caption_assets.models.choice",
        "caption_assets.cli",
    ]
    assert run_blocked((*HEAVY, "dagster"), names) == len(names)


def test_media_and_the_workers_need_no_tables():
    names = ["caption_assets.media.previews", "caption_assets.workers.tasks", "caption_assets.workers.main"]
    assert run_blocked((*HEAVY, "dagster", "pyarrow", "pandas", "upath"), names) == len(names)
