"""Windows of real clips with captions that are hard to carry, and the exports of them."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from caption_assets.dataset import open_dataset
from caption_assets.exports import Export
from caption_assets.settings import ExportSettings, WindowSettings
from caption_assets.steps.context import StepContext
from caption_assets.steps.windows import window_shard
from caption_assets.store import CLIP_WINDOWS, WINDOW_CAPTIONS, Store
from caption_assets_tests.rows import caption

HARD_TEXTS = (
    'A man says "hello, world", then turns.\nHe leaves.',
    "  leading spaces, and trailing ones  ",
    "línea\r\nnueva\rretorno\tTabulador, 一只猫 坐在 桌子上 🐈\u200d⬛",
    "line\u2028separator, next\x85line, back\\slash, 'single', `tick`, ;|,",
    '"quoted from beginning to end"',
    '# Heading\n\n- list: {"json": [1, null]}\n\n',
)
"""As many as there are windows: shard a has two clips of one window and one of three, b one of one."""


@pytest.fixture(scope="session")
def captioned(make_clip, workers, tmp_path_factory) -> Path:
    """An output whose clips are beside it. Its captions have the key `qwen`."""
    root = tmp_path_factory.mktemp("captioned")
    make_clip(root / "clips" / "a" / "long.mp4", 150)
    make_clip(root / "clips" / "a" / "odd, näme.mp4", 41, size=(122, 90))
    make_clip(root / "clips" / "a" / "short.mp4", 48, fps=12)
    make_clip(root / "clips" / "b" / "deep" / "only.mp4", 45)
    plan(root, workers)
    return root


def plan(root: Path, workers) -> None:
    """Plans the windows of all shards, and gives each a caption."""
    store, dataset = Store(root / "out"), open_dataset(str(root / "clips"))
    texts = iter(HARD_TEXTS)
    for shard in dataset.shards():
        window_shard(
            StepContext(store, workers), dataset, shard, WindowSettings(window_size=48, remainder_threshold=24)
        )
        windows = [row for row in store.read_rows(CLIP_WINDOWS, shard) if row.start_frame is not None]
        rows = [caption(row, next(texts), window_hash=row.window_hash, mean_logprob=-0.25) for row in windows]
        store.commit_rows(WINDOW_CAPTIONS, shard, rows, "qwen")


@pytest.fixture
def out(captioned, tmp_path) -> Store:
    """The test's own copy of the output; the clips are those of all tests."""
    return Store(shutil.copytree(captioned / "out", tmp_path / "out"))


@pytest.fixture
def texts(out) -> dict[str, str]:
    """All captions by the name of their window."""
    rows = [row for shard in ("a", "b") for row in out.read_rows(WINDOW_CAPTIONS, shard, "qwen")]
    return {f"{row.clip_id}_{row.start_frame}_{row.end_frame}": row.text for row in rows}


@pytest.fixture
def export(out, workers):
    """Exports all shards, or those that are named, and gives what became of them, and of what is about all."""

    def run(form, to, *, shards=None, store=None, **settings):
        exporting = Export(store or out, str(to), form, ExportSettings(**settings), workers)
        known = (store or out).shards(CLIP_WINDOWS)
        done = [exporting.shard(shard) for shard in shards or known]
        return done, *exporting.finish(known)

    return run


def change(store: Store, shard: str, number: int, **values) -> None:
    """Changes one caption of a shard."""
    rows = store.read_rows(WINDOW_CAPTIONS, shard, "qwen")
    rows[number] = replace(rows[number], **values)
    store.commit_rows(WINDOW_CAPTIONS, shard, rows, "qwen")


def changed(done) -> int:
    """Files that an export has written."""
    shards, _, changes = done
    return sum((of.changes.written for of in shards), changes.written)
