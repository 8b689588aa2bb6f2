"""Real clips, real checkpoints and real Dagster instances for every test."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from caption_assets.defs.resources import CaptionModel, TextModel
from caption_assets.defs.run import run_resources
from caption_assets.media.mp4 import write_mp4
from caption_assets.steps import Progress
from caption_assets.workers.local import Workers
from caption_assets_tests.checkpoints import save_qwen3, save_qwen25, save_text

pytest_plugins = ["caption_assets_tests.places"]

MakeClip = Callable[..., Path]


# From the longest on: started last, one of them would keep one of two processes busy alone.
_LONGEST = tuple(f"test_{name}.py" for name in ("vllm_cpu", "openai_engine", "assets", "truth", "cli", "server"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _LONGEST.index(item.path.name) if item.path.name in _LONGEST else len(_LONGEST))


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may ask for weights, nor write into somebody's instance."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("DAGSTER_HOME", raising=False)


@pytest.fixture(scope="session")
def make_clip() -> MakeClip:
    """Writes an H.264 clip whose frames differ: a bright bar that moves over a slowly changing ground."""

    def make(path: Path, frames: int = 48, size: tuple[int, int] = (160, 120), fps: int = 24) -> Path:
        width, height = size
        path.parent.mkdir(parents=True, exist_ok=True)

        def draw() -> Iterator[np.ndarray]:
            for k in range(frames):
                image = np.full((height, width, 3), (k * 3 % 200, 60, 120), np.uint8)
                left = k * 5 % width
                image[:, left : left + 12] = 255
                yield image

        write_mp4(str(path), draw(), Fraction(fps))
        return path

    return make


@pytest.fixture(scope="session")
def make_shards(make_clip: MakeClip) -> Callable[[Path], Path]:
    """Makes a dataset of two shards: `a` with a short and a two-window clip, `b` with a short clip in a sub-folder."""

    def make(root: Path) -> Path:
        make_clip(root / "a" / "short.mp4", 48)
        make_clip(root / "a" / "long.mp4", 100)
        make_clip(root / "b" / "deep" / "only.mp4", 40)
        return root

    return make


@pytest.fixture
def clips_root(tmp_path: Path, make_shards: Callable[[Path], Path]) -> Path:
    return make_shards(tmp_path / "clips")


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny checkpoints of the real architectures, by family."""
    root = tmp_path_factory.mktemp("checkpoints")
    savers = {"qwen2.5-vl": save_qwen25, "qwen3-vl": save_qwen3, "text": save_text}
    return {family: save(root / family) for family, save in savers.items()}


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    """Two worker processes, which live as long as a file of tests."""
    with Workers(2) as workers:
        yield workers


@pytest.fixture(scope="session")
def make_resources() -> Callable[[Path, Path], dict[str, object]]:
    """Makes the resources of a run over a dataset that writes to a folder, with the embedded models."""

    def make(clips_root: Path, out: Path) -> dict[str, object]:
        models = CaptionModel(device="cpu"), TextModel(device="cpu")
        return {**run_resources(str(clips_root), str(out), None, *models), "progress": Progress()}

    return make


@pytest.fixture
def resources(
    clips_root: Path, tmp_path: Path, make_resources: Callable[[Path, Path], dict[str, object]]
) -> dict[str, object]:
    """Resources of a run over `clips_root` that writes to `tmp_path / "out"`."""
    return make_resources(clips_root, tmp_path / "out")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """In memory; the tests of the command line use one on disk."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance
