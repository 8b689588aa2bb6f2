"""What is planned is not planned again, and a clip is decoded once for its previews and its captions."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from caption_assets.dataset import open_dataset
from caption_assets.errors import ClipError, StoreError
from caption_assets.models.engines.transformers import TransformersEngine
from caption_assets.settings import CaptionModelSettings, CaptionSettings, PreviewSettings, WindowSettings
from caption_assets.steps import (
    StepContext,
    caption_shards,
    model_session,
    preview_shard,
    window_shard,
)
from caption_assets.store import CLIP_WINDOWS, WINDOW_CAPTIONS, WINDOW_PREVIEWS, Store
from caption_assets.workers.local import Workers
from caption_assets.workers.tasks import Prepared

SMALL = WindowSettings(window_size=64, remainder_threshold=32)


class Watched:
    """Workers that note what they are given to do."""

    def __init__(self, workers):
        self._workers = workers
        self.processes, self.reading = workers.processes, workers.reading
        self.tasks = []

    @property
    def start_seconds(self):
        return self._workers.start_seconds

    def run(self, work, tasks, **bounds):
        tasks = list(tasks)
        self.tasks += tasks
        return self._workers.run(work, tasks, **bounds)

    def read(self):
        """The clips that were worked on since the last time, with the kind of work."""
        read = sorted((type(task).__name__, os.path.basename(task.location)) for task in self.tasks)
        self.tasks.clear()
        return read


@pytest.fixture
def watched(workers):
    return Watched(workers)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "out")


@pytest.fixture
def given(store, watched):
    return StepContext(store, watched)


@pytest.fixture
def plan(given, clips_root):
    return lambda settings=SMALL: window_shard(given, open_dataset(str(clips_root)), "a", settings)


def caption(given, **settings):
    with model_session(CaptionModelSettings(device="cpu")) as session:
        asked = CaptionSettings(max_output_tokens=4)
        return {e.asset: e.outcome for e in caption_shards(given, ["a"], session, asked, **settings)}


BOTH = [("PlanTask", "long.mp4"), ("PlanTask", "short.mp4")]


def test_planning_again_reads_nothing_and_gives_the_same_rows(plan, watched, store):
    assert plan().reused == 0
    rows = store.read_rows(CLIP_WINDOWS, "a")
    assert watched.read() == BOTH
    report = plan()
    assert (report.ok, report.reused, report.figures["windows"]) == (3, 3, 3)
    assert watched.read() == []
    assert store.read_rows(CLIP_WINDOWS, "a") == rows


def test_what_planning_found_out_is_kept_once_a_clip_and_handed_on(plan, watched, given, store):
    plan()
    rows = store.read_rows(CLIP_WINDOWS, "a")
    kept = {row.location: row.probed for row in rows if row.probed}
    assert [row.start_frame for row in rows if row.probed] == [0, 0]
    assert all(len(probed) < 400 for probed in kept.values())
    plan()
    watched.read()
    preview_shard(given, "a", PreviewSettings())
    caption(given)
    assert len(watched.tasks) == 4
    assert all(task.probed == kept[task.location] for task in watched.tasks)


def test_rows_of_before_anything_was_kept_do_as_well(plan, watched, given, store):
    plan()
    rows = [replace(row, probed=None) for row in store.read_rows(CLIP_WINDOWS, "a")]
    store.commit_rows(CLIP_WINDOWS, "a", rows)
    assert plan().reused == 3
    assert preview_shard(given, "a", PreviewSettings()).ok == 3
    assert caption(given)["window_captions"].ok == 3


def test_only_a_clip_that_has_changed_is_planned_again(plan, watched, clips_root, make_clip):
    before = plan()
    watched.read()
    make_clip(clips_root / "a" / "short.mp4", 30)
    os.utime(clips_root / "a" / "short.mp4", (1, 1))
    report = plan()
    assert watched.read() == [("PlanTask", "short.mp4")]
    assert (report.ok, report.reused) == (3, 2)
    assert report.data_version != before.data_version


def test_a_clip_behind_a_link_is_planned_again_when_it_changes(plan, watched, clips_root, make_clip, tmp_path):
    target = make_clip(tmp_path / "elsewhere" / "x.mp4", 24)
    (clips_root / "a" / "link.mp4").symlink_to(target)
    plan()
    watched.read()
    os.utime(target, (1, 1))
    plan()
    assert watched.read() == [("PlanTask", "link.mp4")]


def test_other_settings_and_lost_files_ask_for_planning(plan, watched, store):
    plan()
    watched.read()
    with_files = SMALL.model_copy(update={"store_window_mp4": True})
    plan(with_files)
    assert watched.read() == BOTH
    plan(with_files)
    assert watched.read() == []
    shutil.rmtree(store.url("window_clips"))
    plan(with_files)
    assert watched.read() == BOTH
    next(Path(store.url("window_clips")).rglob("*.mp4")).write_bytes(b"cut off")
    plan(with_files)
    assert len(watched.read()) == 1


def test_what_failed_is_tried_again(plan, watched, clips_root):
    (clips_root / "a" / "text.mp4").write_text("no video")
    plan()
    watched.read()
    assert plan().failed == 1
    assert watched.read() == [("PlanTask", "text.mp4")]


def test_captions_and_previews_of_one_call_come_from_one_decoding(plan, watched, given, store, tmp_path):
    plan()
    watched.read()
    outcomes = caption(given, previews=PreviewSettings())
    assert watched.read() == [("CaptionTask", "long.mp4"), ("CaptionTask", "short.mp4")]
    assert {asset: outcome.ok for asset, outcome in outcomes.items()} == {"window_captions": 3, "window_previews": 3}
    made = {row.path: store.read_bytes(row.path) for row in store.read_rows(WINDOW_PREVIEWS, "a")}

    alone = Store(tmp_path / "alone")
    alone.commit_rows(CLIP_WINDOWS, "a", store.read_rows(CLIP_WINDOWS, "a"))
    apart = StepContext(alone, given.workers)
    preview_shard(apart, "a", PreviewSettings())
    caption(apart)
    assert {row.path: alone.read_bytes(row.path) for row in alone.read_rows(WINDOW_PREVIEWS, "a")} == made
    texts = [[row.text for row in s.read_rows(WINDOW_CAPTIONS, "a", "demo")] for s in (store, alone)]
    assert texts[0] == texts[1]
    assert all(texts[0])
    for path in ("metas/v0", "processed_clip_chunks/a", "processed_videos/a"):
        for name in store.names(path):
            assert store.read_bytes(f"{path}/{name}") == alone.read_bytes(f"{path}/{name}")


def test_previews_that_come_after_the_last_answer_are_waited_for(plan, given, store, monkeypatch):
    def one_by_one(self, requests):
        for request in requests:
            yield from self._batch([request])

    plan()
    monkeypatch.setattr(TransformersEngine, "generate", one_by_one)
    outcomes = caption(given, previews=PreviewSettings(target_height=16))
    assert {asset: outcome.ok for asset, outcome in outcomes.items()} == {"window_captions": 3, "window_previews": 3}
    assert all(store.read_bytes(row.path) for row in store.read_rows(WINDOW_PREVIEWS, "a"))


def test_only_what_is_missing_is_made(plan, watched, given, store):
    plan()
    preview_shard(given, "a", PreviewSettings())
    watched.read()
    outcomes = caption(given, previews=PreviewSettings())
    assert outcomes["window_previews"].reused == 3
    assert all(task.previews == () and task.wanted for task in watched.tasks)
    watched.read()
    again = caption(given, previews=PreviewSettings())
    assert [outcome.reused for outcome in again.values()] == [3, 3]
    assert watched.read() == []
    shutil.rmtree(store.url("previews"))
    once_more = caption(given, previews=PreviewSettings())
    assert {asset: outcome.reused for asset, outcome in once_more.items()} == {
        "window_captions": 3,
        "window_previews": 0,
    }
    assert all(task.wanted == () and task.previews for task in watched.tasks)
    assert len(list(store.names("previews"))) == 2


def test_a_preview_that_fails_costs_no_caption(plan, store, monkeypatch, tmp_path):
    plan()
    broken = tmp_path / "ffmpeg"
    broken.write_text("#!/bin/sh\ncase \"$*\" in *-encoders*) echo ' V....D libwebp  WebP';; *) exit 9;; esac\n")
    broken.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(broken))
    with Workers(1) as fresh:
        outcomes = caption(StepContext(store, fresh), previews=PreviewSettings(quality=7))
    assert outcomes["window_captions"].ok == 3
    assert "not one of 3 items worked" in str(outcomes["window_previews"])
    assert {row.error_kind for row in store.read_rows(WINDOW_PREVIEWS, "a")} == {"ffmpeg"}


def test_a_window_that_no_model_takes_and_a_clip_that_is_gone_are_a_row_each(plan, given, store, clips_root):
    plan()
    rows = [
        replace(row, display_width=64_000) if row.start_frame == 0 and "long" in row.relative_path else row
        for row in store.read_rows(CLIP_WINDOWS, "a")
    ]
    store.commit_rows(CLIP_WINDOWS, "a", rows)
    (clips_root / "a" / "long.mp4").unlink()
    outcomes = caption(given, previews=PreviewSettings())
    assert (outcomes["window_captions"].ok, outcomes["window_captions"].failed) == (1, 2)
    assert (outcomes["window_previews"].ok, outcomes["window_previews"].failed) == (1, 2)
    failed = [row for row in store.read_rows(WINDOW_CAPTIONS, "a", "demo") if row.status == "failed"]
    assert [(row.start_frame, row.error_kind) for row in failed] == [(0, "decode"), (64, "missing")]


def test_a_clip_that_cannot_be_read_any_further_keeps_the_windows_before(plan, given, store, watched):
    class Fading(Watched):
        def run(self, *of_call, **bounds):
            over = set()
            for task, made in super().run(*of_call, **bounds):
                if task.location not in over:
                    yield task, made
                if isinstance(made, Prepared) and task.location not in over:
                    over.add(task.location)
                    yield task, ClipError(f"clip {task.location}", "it fades", "look at it")

    plan()
    report = caption(replace(given, workers=Fading(given.workers)))["window_captions"]
    assert (report.ok, report.failed) == (2, 1)
    rows = store.read_rows(WINDOW_CAPTIONS, "a", "demo")
    assert [(row.start_frame, row.error_kind) for row in rows if row.status == "failed"] == [(64, "decode")]
    assert all(row.text for row in rows if row.status == "ok")


def test_shards_that_only_lack_previews_end_one_after_the_other_and_are_durable(given, store, clips_root):
    for shard in ("a", "b"):
        window_shard(given, open_dataset(str(clips_root)), shard, SMALL)
    with model_session(CaptionModelSettings(device="cpu")) as session:
        list(caption_shards(given, ["a"], session, CaptionSettings(max_output_tokens=4)))
        asked = CaptionSettings(max_output_tokens=4)
        ended = []
        for one in caption_shards(given, ["a", "b"], session, asked, PreviewSettings()):
            ended.append((one.asset, one.shard))
            assert len(store.read_rows(WINDOW_PREVIEWS, one.shard)) == len(store.read_rows(CLIP_WINDOWS, one.shard))
    assert ended == [  # what only has previews to make comes last
        ("window_previews", "b"),
        ("window_captions", "b"),
        ("window_previews", "a"),
        ("window_captions", "a"),
    ]


def test_a_store_that_refuses_one_preview_keeps_the_others(plan, given, store, monkeypatch):
    plan()
    write, refused = Store.write_bytes, []

    def refuse_one(self, rel, data):
        if rel.endswith("0_47.webp"):
            refused.append(rel)
            raise StoreError(f"write {rel}", "the disk is full")
        write(self, rel, data)

    monkeypatch.setattr(Store, "write_bytes", refuse_one)
    outcomes = caption(given, previews=PreviewSettings())
    assert outcomes["window_captions"].ok == 3
    assert "the disk is full" in str(outcomes["window_previews"])
    assert refused
    assert len(store.read_rows(WINDOW_PREVIEWS, "a")) == 2


def test_a_link_that_leads_nowhere_and_a_loop_cost_themselves_only(plan, clips_root, store):
    (clips_root / "a" / "nowhere.mp4").symlink_to(clips_root / "gone")
    (clips_root / "a" / "loop.mp4").symlink_to(clips_root / "a" / "loop.mp4")
    report = plan()
    assert (report.ok, report.failed) == (3, 2)
    kinds = {row.relative_path: row.error_kind for row in store.read_rows(CLIP_WINDOWS, "a") if row.status != "ok"}
    assert kinds == {"a/nowhere.mp4": "missing", "a/loop.mp4": "missing"}


def test_a_change_that_keeps_size_and_time_is_seen_all_the_same(plan, watched, clips_root):
    plan()
    watched.read()
    clip = clips_root / "a" / "short.mp4"
    before, data = clip.stat(), clip.read_bytes()
    clip.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(clip, ns=(before.st_atime_ns, before.st_mtime_ns))
    plan()
    assert watched.read() == [("PlanTask", "short.mp4")]
