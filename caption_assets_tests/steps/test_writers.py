"""Two runs at work on one shard at once, with different settings: no row says of its file what it is not."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from caption_assets.dataset import open_dataset
from caption_assets.errors import ShardError
from caption_assets.settings import PreviewSettings, WindowSettings
from caption_assets.steps import StepContext, preview_shard, window_shard
from caption_assets.steps.previews import ShardPreviews
from caption_assets.store import CLIP_WINDOWS, WINDOW_PREVIEWS, Store
from caption_assets.workers.local import Workers
from caption_assets.workers.tasks import preview_clip

SMALL, LARGE = PreviewSettings(target_height=60), PreviewSettings(target_height=90)


@pytest.fixture
def context(clips_root: Path, tmp_path: Path, workers: Workers) -> StepContext:
    context = StepContext(Store(str(tmp_path / "out")), workers)
    window_shard(context, open_dataset(str(clips_root)), "a", WindowSettings(window_size=32, remainder_threshold=16))
    return context


def opened(context: StepContext, settings: PreviewSettings) -> Callable[[], bool]:
    """Previews on their way, in a store of their own. Each call writes one; False when there is none left."""
    own = StepContext(Store(context.store.url()), context.workers)
    previews = ShardPreviews(own, "a", own.store.read_table(CLIP_WINDOWS, "a"), settings)
    made = own.workers.run(preview_clip, previews.tasks())

    def one() -> bool:
        for task, result in made:
            previews.settle(task.location, result)
            if isinstance(result, tuple):
                return True
        previews.buffer.commit()
        return False

    return one


def rows_and_sizes(context: StepContext) -> list[tuple[str, int | None, int | None]]:
    rows = context.store.read_rows(WINDOW_PREVIEWS, "a")
    sizes = context.store.sizes([row.path for row in rows if row.path])
    return [(row.status, row.num_bytes, sizes.get(row.path or "")) for row in rows]


@pytest.mark.parametrize("order", ["ab", "aab", "abb", "aabbb", "abbaa"])
def test_two_writers_of_previews_leave_rows_that_say_what_their_files_are(context: StepContext, order: str) -> None:
    writers = {"a": opened(context, SMALL), "b": opened(context, LARGE)}
    while writers:
        for name in order:
            if name in writers and not writers[name]():
                del writers[name]
    found = rows_and_sizes(context)
    assert len(found) == 5
    assert all(said == there for _, said, there in found)
    report = preview_shard(context, "a", SMALL)
    assert (report.ok, report.failed) == (5, 0)
    assert all(status == "ok" and said == there for status, said, there in rows_and_sizes(context))
    assert {row.height for row in context.store.read_rows(WINDOW_PREVIEWS, "a")} == {60}


def test_a_preview_that_somebody_has_written_over_is_made_again(context: StepContext) -> None:
    preview_shard(context, "a", SMALL)
    row = context.store.read_rows(WINDOW_PREVIEWS, "a")[0]
    context.store.write_bytes(str(row.path), b"another program's")
    assert preview_shard(context, "a", SMALL).reused == 4
    assert all(said == there for _, said, there in rows_and_sizes(context))


def test_previews_of_a_run_that_died_before_it_could_say_so_are_no_more_once_their_windows_are_gone(
    context: StepContext, clips_root: Path
) -> None:
    one = opened(context, SMALL)
    assert one()
    assert one()
    assert not context.store.read_rows(WINDOW_PREVIEWS, "a")
    window_shard(context, open_dataset(str(clips_root)), "a", WindowSettings(window_size=64, remainder_threshold=16))
    preview_shard(context, "a", SMALL)
    files = {path.name for path in Path(context.store.url("previews")).rglob("*.webp")}
    assert files == {str(row.path).rpartition("/")[2] for row in context.store.read_rows(WINDOW_PREVIEWS, "a")}
    assert not any("31" in name for name in files)


def test_a_window_file_that_another_run_has_removed_is_a_failed_window_and_made_by_the_next(
    clips_root: Path, tmp_path: Path, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, dataset = Store(str(tmp_path / "out")), open_dataset(str(clips_root))
    ours = WindowSettings(window_size=32, remainder_threshold=16, store_window_mp4=True)
    theirs = ours.model_copy(update={"window_size": 64})
    commit_rows, others = Store.commit_rows, [theirs]

    def another_run_first(self, *args, **options):
        if others:
            other = StepContext(Store(store.url()), workers)
            window_shard(other, dataset, "a", others.pop())
        return commit_rows(self, *args, **options)

    monkeypatch.setattr(Store, "commit_rows", another_run_first)
    with contextlib.suppress(ShardError):  # there may be none that the other has left alone
        window_shard(StepContext(store, workers), dataset, "a", ours)
    for row in store.read_rows(CLIP_WINDOWS, "a"):
        there = row.mp4_path is not None and store.read_bytes(row.mp4_path) is not None
        assert there == (row.status == "ok")
    report = window_shard(StepContext(store, workers), dataset, "a", ours)
    assert (report.ok, report.failed) == (5, 0)
    assert all(store.read_bytes(str(row.mp4_path)) for row in store.read_rows(CLIP_WINDOWS, "a"))
    assert len(list(Path(store.url()).rglob("*.mp4"))) == 5
