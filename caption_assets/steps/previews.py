"""Make a shard's previews: an animated WebP for every window."""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from caption_assets.errors import CaptionAssetsError, PreviewError
from caption_assets.media.previews import FfmpegError, check_ffmpeg, preview_fps
from caption_assets.records import Preview, Window, text_hash
from caption_assets.save_export import paths
from caption_assets.settings import PreviewSettings
from caption_assets.steps.buffer import RowBuffer
from caption_assets.steps.context import StepContext
from caption_assets.steps.costs import charged
from caption_assets.steps.documents import render_documents
from caption_assets.steps.report import Outcomes, ShardReport, Step, Used, shard_report, windows_per_second
from caption_assets.steps.samples import preview_samples
from caption_assets.steps.shards import each_shard, is_empty
from caption_assets.steps.versions import data_version
from caption_assets.steps.windows import probed_clips
from caption_assets.steps.writer import FileWriter
from caption_assets.store.rows import PreviewRow, WindowRow, window_key, window_of
from caption_assets.store.snapshot import Stamps
from caption_assets.store.store import Store, Stored
from caption_assets.store.tables import CLIP_WINDOWS, WINDOW_PREVIEWS
from caption_assets.workers.tasks import PreviewTask, preview_clip, preview_workers

log = logging.getLogger(__name__)
Made = list[str] | tuple[Window, Preview | PreviewError]
"""What a worker says of a clip: warnings, and a window's preview or why there is none."""
STEP: Final = Step(WINDOW_PREVIEWS, reads=(CLIP_WINDOWS,), version=2)
# Settings of cores and of logging: the files are the same.
CHANGE_NOTHING: Final = ("num_cpus_per_worker", "verbose")


def preview_shard(context: StepContext, shard: str, settings: PreviewSettings) -> ShardReport:
    """Makes the previews that are missing or made otherwise, and removes those whose window is gone.

    Reads the shard's `clip_windows`. A window whose preview fails is a row with its reason. Raises ConfigError before
    any work where ffmpeg cannot write WebP, ShardError where no preview could be made, StoreError.
    """
    check_ffmpeg()
    previews = _begin(context, shard, settings)
    previews.run()
    return previews.finish()


def preview_shards(context: StepContext, shards: Sequence[str], settings: PreviewSettings) -> Outcomes:
    """Makes the previews of `shards` as `preview_shard` does; yields how each shard ended."""
    if shards:
        check_ffmpeg()
    outcomes = each_shard(STEP, shards, lambda shard: _begin(context, shard, settings), context.shards_at_once)
    yield from charged(context, STEP, outcomes)


def _begin(context: StepContext, shard: str, settings: PreviewSettings) -> "ShardPreviews":
    return ShardPreviews(context, shard, context.store.read_table(CLIP_WINDOWS, shard), settings)


class ShardPreviews:
    """One shard's previews on their way, whoever makes them. For one thread at a time."""

    def __init__(self, context: StepContext, shard: str, planned: Stored[WindowRow], settings: PreviewSettings) -> None:
        """`planned` is the shard's `clip_windows`. Raises ShardError where there are rows and none is a good one."""
        began = time.perf_counter()
        self._files = FileWriter(context.store)
        self._context, self._shard, self.settings = context, shard, settings
        self._planned = planned.looked.stamp
        self._input_versions = {CLIP_WINDOWS.name: data_version(planned.rows)}
        good, chosen = [row for row in planned.rows if row.status == "ok"], context.trial.clips_of(planned.rows)
        self._windows = [row for row in good if row.clip_id in chosen]
        self._probed = probed_clips(planned.rows)
        if not self._windows and not is_empty(planned):
            raise STEP.not_ready(shard, "it has no windows")
        self._clips = {row.clip_id: row.relative_path for row in good}
        self.buffer: RowBuffer[PreviewRow] = RowBuffer(
            context.store, WINDOW_PREVIEWS, shard, clips={row.clip_id for row in planned.rows}
        )
        self.buffer.keep(window_key(row) for row in good if row.clip_id not in chosen)
        self._pending = _pending(context.store, self._windows, settings, self.buffer)
        opened = {row.clip_id: row.num_bytes or 0 for rows in self._pending.values() for row in rows.values()}
        self._used = Used(sum(map(len, self._pending.values())), sum(opened.values()))
        self.buffer.announce([_file(row) for rows in self._pending.values() for row in rows.values()])
        frames = sum(window.num_frames for rows in self._pending.values() for window in rows)
        context.progress.start(STEP.name, shard, len(self._windows), reused=self.buffer.reused, work=frames)
        self._clock = time.perf_counter()
        self._seconds = self._clock - began

    def pending_by_clip(self) -> dict[str, tuple[Window, ...]]:
        """The windows that have no outcome yet, by the location of their clip."""
        return {location: tuple(rows) for location, rows in self._pending.items()}

    def run(self) -> None:
        """Makes them all."""
        at_once = preview_workers(self.settings, self._context.workers.processes)
        seconds, self._clock = self._context.stopwatch(), time.perf_counter()
        with self.buffer:
            for task, made in self._context.workers.run(preview_clip, self.tasks(), at_once=at_once):
                self.settle(task.location, made)
            self._files.finish()
        self._seconds += seconds()

    def save(self) -> None:
        """Makes durable what there is."""
        try:
            self._files.finish()
        finally:
            self.buffer.flush()

    def tasks(self) -> list[PreviewTask]:
        """What is to be done, a task a clip."""
        return [
            PreviewTask(
                location,
                next(iter(rows.values())).content_hash or "",
                tuple(rows),
                self.settings,
                self._probed.get(location),
            )
            for location, rows in self._pending.items()
        ]

    def settle(self, location: str, made: Made | CaptionAssetsError) -> None:
        """Makes a row of what a worker says of a clip: warnings, a window's preview, or why there are none."""
        seconds, self._clock = time.perf_counter() - self._clock, time.perf_counter()
        rows = self._pending[location]
        if isinstance(made, list):
            for warning in made:
                log.warning("%s: %s", next(iter(rows.values())).relative_path, warning)
        elif isinstance(made, CaptionAssetsError):
            for row in rows.values():
                self._add(_failed(row, made, 0.0))
            rows.clear()
        else:
            window, preview = made
            row = rows.pop(window)
            if isinstance(preview, PreviewError):
                self._add(_failed(row, preview, seconds))
                return
            rel = paths.preview(row.clip_id, window.start_frame, window.end_frame)
            done = _done(row, preview, rel, preview_fingerprint(row, self.settings), seconds)
            self._files.add(rel, preview.data, lambda: self._add(done))

    def finish(self) -> ShardReport:
        """Commits the rows, and writes the documents. Raises ShardError, StoreError."""
        began = time.perf_counter()
        done = self.buffer.commit()
        planned: Stamps = {(CLIP_WINDOWS.name, None): self._planned}
        render_documents(self._context, self._shard, [planned, done.unchanged])
        return self.report(done.location, self._seconds + time.perf_counter() - began)

    def report(self, location: str, seconds: float) -> ShardReport:
        """What the shard's previews came to. Raises ShardError."""
        store = self._context.store
        good = [row for row in self.buffer.rows if row.status == "ok"]
        return shard_report(
            STEP,
            self._shard,
            self.buffer.rows,
            seconds=seconds,
            location=location,
            input_versions=self._input_versions,
            reused=self.buffer.reused,
            figures={
                "preview_frames": sum(row.num_frames or 0 for row in good),
                "preview_bytes": sum(row.num_bytes or 0 for row in good),
                **windows_per_second(len(self._windows) - self.buffer.reused, seconds),
            },
            samples=preview_samples(store, good, lambda row: self._clips[row.clip_id]),
            used=self._used,
        )

    def _add(self, row: PreviewRow) -> None:
        self.buffer.add(row)
        frames = Window(row.start_frame, row.end_frame).num_frames
        self._context.progress.advance(STEP.name, self._shard, work=frames)


def _pending(
    store: Store, windows: list[WindowRow], settings: PreviewSettings, buffer: RowBuffer[PreviewRow]
) -> dict[str, dict[Window, WindowRow]]:
    """The windows, by clip, without a file that would be made again just so; the rows of the others are reused."""
    pending: dict[str, dict[Window, WindowRow]] = {}
    # On an object store, what was written once is taken to be there still: a look is a request.
    sizes = store.sizes(map(_file, windows)) if store.looks_cost_nothing else None
    for row in windows:
        good = sizes is None or sizes[_file(row)] == buffer.file_bytes(window_key(row))
        if not good or not buffer.reuse(window_key(row), preview_fingerprint(row, settings)):
            pending.setdefault(row.location, {})[window_of(row)] = row
    return pending


def _done(row: WindowRow, made: Preview, rel: str, fingerprint: str, seconds: float) -> PreviewRow:
    return PreviewRow(
        **_of(row),
        path=rel,
        num_frames=made.num_frames,
        width=made.width,
        height=made.height,
        frame_ms=made.frame_ms,
        num_bytes=len(made.data),
        fingerprint=fingerprint,
        seconds=seconds,
    )


def _failed(row: WindowRow, error: CaptionAssetsError, seconds: float) -> PreviewRow:
    log.warning("no preview of %s %s: %s", row.relative_path, window_of(row), error)
    if isinstance(error, FfmpegError):
        log.warning("command: %s\noutput: %s", error.command, error.output)
    return PreviewRow(**_of(row), seconds=seconds, status="failed", error_kind=error.kind, error=str(error))


def _of(row: WindowRow) -> Mapping[str, Any]:
    return {
        "clip_id": row.clip_id,
        "start_frame": row.start_frame,
        "end_frame": row.end_frame,
        "content_hash": row.content_hash,
    }


def _file(row: WindowRow) -> str:
    return paths.preview(row.clip_id, row.start_frame or 0, row.end_frame or 0)


def preview_fingerprint(row: WindowRow, settings: PreviewSettings) -> str:
    """Covers all that a window's preview depends on."""
    # The picks of the caption model change nothing, either. The bound on frames does where it acts.
    made_by = settings.model_dump(exclude={*CHANGE_NOTHING, "max_frames"})
    fps = preview_fps((row.end_s or 0.0) - (row.start_s or 0.0), settings)
    if fps < settings.target_fps:
        made_by["fps"] = fps
    return text_hash(json.dumps([STEP.version, row.content_hash, row.start_frame, row.end_frame, made_by]))
