"""Real clips, real checkpoints and real Dagster instances for every test."""

import gc
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from caption_assets.defs.names import Names
from caption_assets.defs.pipeline import Pipeline
from caption_assets.defs.workers import SharedWorkers
from caption_assets.media.mp4 import write_mp4
from caption_assets.settings import PipelineSettings
from caption_assets.workers.local import Workers
from caption_assets_tests.checkpoints import Checkpoints
from caption_assets_tests.openai_server import LoadedModels

# For the processes that tests start, what `site` says; for this one, the same.
_SITE = str(Path(__file__).parent / "site")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [_SITE, os.environ.get("PYTHONPATH")]))
gc.set_threshold(50_000, 10, 10)

pytest_plugins = ["caption_assets_tests.places", "caption_assets_tests.browser"]

MakeClip = Callable[..., Path]


# From the longest on: started last, one of them would keep one process busy alone.
_LONG = ("ui", "openai", "campaigns", "stopping", "judging", "captions", "confidence", "truth", "engines", "automation")
_LONG += ("stopped_runs", "component", "comparison", "rules", "cli")
_LONGEST = tuple(f"test_{name}.py" for name in _LONG)


# Files whose tests share what takes long to start: servers, whose models are loaded once, and the process that others
# are forked from (`commands.py`).
_TOGETHER = {
    "servers": (
        "test_openai.py",
        "test_openai_servers.py",
        "test_openai_several.py",
        "test_server.py",
        "test_wheel.py",
    ),
    "forks": ("test_campaigns.py", "test_stopping.py", "test_fetches.py"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _LONGEST.index(item.path.name) if item.path.name in _LONGEST else len(_LONGEST))


def pytest_sessionfinish() -> None:
    """pytest looks for garbage at its end, which takes seconds among all that has been imported."""
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadfile`: a file stays in one process, and so do those of `_TOGETHER`."""
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return next((what for what, files in _TOGETHER.items() if file.endswith(files)), file)

    return Files(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may ask for weights, nor write into somebody's instance, which one before it may have set."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("DAGSTER_HOME", raising=False)


@pytest.fixture(scope="session", autouse=True)
def _no_instance() -> None:
    """The same for what is made for many tests: make sets the checkout's instance."""
    os.environ.pop("DAGSTER_HOME", None)


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
def make_shards(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Makes a dataset of two shards: `a` with a short and a two-window clip, `b` with a short clip in a sub-folder."""
    made = tmp_path_factory.mktemp("shards")
    make_clip(made / "a" / "short.mp4", 48)
    make_clip(made / "a" / "long.mp4", 100)
    make_clip(made / "b" / "deep" / "only.mp4", 40)
    return lambda root: shutil.copytree(made, root)


@pytest.fixture
def clips_root(tmp_path: Path, make_shards: Callable[[Path], Path]) -> Path:
    return make_shards(tmp_path / "clips")


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Tiny checkpoints of the real architectures, by family. All processes of tests have the same."""
    base = tmp_path_factory.getbasetemp()
    return Checkpoints(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)


@pytest.fixture(scope="session")
def workers() -> Iterator[Workers]:
    """Two worker processes for all tests that want no others. They have the environment in which they were started."""
    with Workers(2) as workers:
        yield workers


@pytest.fixture(scope="session")
def served_models() -> Iterator[LoadedModels]:
    """For servers. The files that use it stand in `_TOGETHER`."""
    with LoadedModels() as models:
        yield models


@pytest.fixture(scope="session")
def make_pipeline(workers: Workers) -> Callable[..., Pipeline]:
    """Makes the pipeline of a dataset that writes to a folder: short windows, and few words of the embedded models.

    The worker processes are those of all tests, or with `own_workers` the run's.
    """

    def make(clips_root: Path, out: Path, *, own_workers: bool = False, **settings: Any) -> Pipeline:
        small = [{"device": "cpu", "max_output_tokens": 4}]
        usual = {
            "windows": {"window_size": 64, "remainder_threshold": 32},
            "captions": small,
            "enhanced": small,
            "dataset": str(clips_root),
            "output": str(out),
        }
        chosen = PipelineSettings.model_validate({**usual, **settings})
        shared = dg.ResourceDefinition(lambda _: SharedWorkers(workers))  # what they report is of one run
        return Pipeline(chosen, {} if own_workers else {Names(chosen.name).of("workers"): shared})

    return make


@pytest.fixture
def pipeline(clips_root: Path, tmp_path: Path, make_pipeline: Callable[..., Pipeline]) -> Pipeline:
    """The pipeline of `clips_root` that writes to `tmp_path / "out"`."""
    return make_pipeline(clips_root, tmp_path / "out")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """In memory; the tests of the command line use one on disk."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance
