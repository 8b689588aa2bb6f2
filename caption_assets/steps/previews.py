"""Make a shard's previews: an animated WebP for every window."""

import json
import logging
import time
from collections.abc import Iterator
from itertools import groupby
from typing import Any, Final

from caption_assets.errors import CaptionAssetsError, PreviewError, ShardError
from caption_assets.media.previews import FfmpegError, check_ffmpeg
from caption_assets.records import Preview, text_hash
from caption_assets.save_export import paths
from caption_assets.save_export.render import remove_stale_previews
from caption_assets.settings import PreviewSettings
from caption_assets.steps.report import Progress, ShardReport, shard_report, windows_per_second
from caption_assets.steps.rows import RowBuffer, render_documents, window_key, window_of
from caption_assets.store.rows import PreviewRow, WindowRow
from caption_assets.store.store import Store
from caption_assets.store.tables import CLIP_WINDOWS, WINDOW_PREVIEWS
from caption_assets.workers.base import ClipWorkers
from caption_assets.workers.tasks import PreviewTask, preview_clip, preview_workers

log = logging.getLogger(__name__)
ASSET: Final = "window_previews"
_VERSION = 1  # goes up when equal settings give other files
_THUMBNAILS = 4


def preview_shard(
    store: Store,
    shard: str,
    settings: PreviewSettings,
    workers: ClipWorkers,
    progress: Progress | None = None,
    *,
    source_root: str | None = None,
) -> ShardReport:
    """Makes the previews that are missing or made otherwise, and removes those whose window is gone.

    Reads the shard's `clip_windows`. A window whose preview fails is a row with its reason. Raises ConfigError before
    any work where ffmpeg cannot write WebP, ShardError where no preview could be made, StoreError.
    """
    started = time.perf_counter()
    progress = progress or Progress()
    check_ffmpeg()
    windows = [row for row in store.read_rows(CLIP_WINDOWS, shard) if row.status == "ok"]
    if not windows:
        raise ShardError(f"{ASSET} of shard {shard!r}", "it has no windows", "materialize clip_windows for it first")
    progress.start(ASSET, shard, len(windows))
    buffer: RowBuffer[PreviewRow] = RowBuffer(store, WINDOW_PREVIEWS, shard)
    pending = _pending(store, windows, settings, buffer)
    progress.advance(ASSET, shard, buffer.reused)

    with buffer:
        for row in _previewed(store, pending, settings, workers):
            buffer.add(row)
            progress.advance(ASSET, shard)

    table = buffer.commit()
    remove_stale_previews(store, buffer.before, buffer.rows)
    render_documents(store, shard, source_root)
    good = [row for row in buffer.rows if row.status == "ok"]
    seconds = time.perf_counter() - started
    return shard_report(
        ASSET,
        shard,
        buffer.rows,
        seconds=seconds,
        table=store.url(table),
        reused=buffer.reused,
        figures={
            "preview_frames": sum(row.num_frames or 0 for row in good),
            "preview_bytes": sum(row.num_bytes or 0 for row in good),
            **windows_per_second(len(windows) - buffer.reused, seconds),
        },
        thumbnails=_thumbnails(store, good),
    )


def _pending(
    store: Store, windows: list[WindowRow], settings: PreviewSettings, buffer: RowBuffer[PreviewRow]
) -> list[WindowRow]:
    """The windows without a file that would be made again just so; the rows of the others are reused."""
    pending = []
    for clip_id, group in groupby(windows, key=lambda row: row.clip_id):
        files = set(store.names(paths.preview_folder(clip_id)))
        for row in group:
            if _file(row) not in files or not buffer.reuse(window_key(row), _fingerprint(row, settings)):
                pending.append(row)
    return pending


def _previewed(
    store: Store, pending: list[WindowRow], settings: PreviewSettings, workers: ClipWorkers
) -> Iterator[PreviewRow]:
    """One row for every pending window, its file written first."""
    by_source = groupby(pending, lambda row: row.location)
    left = {source: {window_of(row): row for row in rows} for source, rows in by_source}
    tasks = [
        PreviewTask(source, next(iter(rows.values())).content_hash or "", tuple(rows), settings)
        for source, rows in left.items()
    ]
    at_once = preview_workers(settings, workers.processes)
    clock = time.perf_counter()
    for task, made in workers.run(preview_clip, tasks, at_once=at_once):
        rows = left[task.location]
        seconds, clock = time.perf_counter() - clock, time.perf_counter()
        if isinstance(made, list):
            name = next(iter(rows.values())).relative_path
            for warning in made:
                log.warning("%s: %s", name, warning)
            continue
        if isinstance(made, CaptionAssetsError):
            yield from (_failed(row, made, 0.0) for row in rows.values())
            rows.clear()
            continue
        window, preview = made
        row = rows.pop(window)
        if isinstance(preview, PreviewError):
            yield _failed(row, preview, seconds)
            continue
        rel = paths.preview(row.clip_id, window.start_frame, window.end_frame)
        store.write_bytes(rel, preview.data)
        yield _done(row, preview, rel, _fingerprint(row, settings), seconds)


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


def _of(row: WindowRow) -> dict[str, Any]:
    return {
        "clip_id": row.clip_id,
        "start_frame": row.start_frame,
        "end_frame": row.end_frame,
        "content_hash": row.content_hash,
    }


def _file(row: WindowRow) -> str:
    return paths.preview(row.clip_id, row.start_frame or 0, row.end_frame or 0).rpartition("/")[2]


def _fingerprint(row: WindowRow, settings: PreviewSettings) -> str:
    # Cores and logging change nothing in the file; the picks of the caption model do not, either.
    made_by = settings.model_dump(exclude={"num_cpus_per_worker", "verbose"})
    return text_hash(json.dumps([_VERSION, row.content_hash, row.start_frame, row.end_frame, made_by]))


def _thumbnails(store: Store, rows: list[PreviewRow]) -> list[bytes]:
    """Files of windows spread over the shard."""
    step = max(1, len(rows) // _THUMBNAILS)
    found = (store.read_bytes(row.path) for row in rows[::step][:_THUMBNAILS] if row.path)
    return [data for data in found if data]
