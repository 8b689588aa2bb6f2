"""Make a shard's previews: an animated WebP for every window."""

import json
import logging
import os
import time
from collections.abc import Iterator
from itertools import groupby
from typing import Any, Final

from caption_assets.errors import CaptionAssetsError, PreviewError, ShardError
from caption_assets.layout import paths
from caption_assets.layout.render import remove_stale_previews, render_shard
from caption_assets.layout.store import Store
from caption_assets.media.decode import probe
from caption_assets.media.previews import check_ffmpeg, preview_warnings, render_previews
from caption_assets.records import Preview, PreviewRow, Window, WindowRow, text_hash
from caption_assets.settings import PreviewSettings
from caption_assets.steps.pool import bounded_map
from caption_assets.steps.report import Progress, ShardReport, shard_report
from caption_assets.steps.rows import RowBuffer, window_key

log = logging.getLogger(__name__)
ASSET: Final = "window_previews"
_VERSION = 1  # goes up when equal settings give other files
_THUMBNAILS = 4


def preview_shard(
    store: Store,
    shard: str,
    settings: PreviewSettings,
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
    windows = [row for row in store.read_rows("clip_windows", shard) if row.status == "ok"]
    if not windows:
        raise ShardError(f"{ASSET} of shard {shard!r}", "it has no windows", "materialize clip_windows for it first")
    progress.start(ASSET, shard, len(windows))
    before = store.read_rows(ASSET, shard)
    previous = {window_key(row): row for row in before}

    buffer: RowBuffer[PreviewRow] = RowBuffer(store, ASSET, shard)
    todo: list[list[WindowRow]] = []
    for clip_id, group in groupby(windows, key=lambda row: row.clip_id):
        files = set(store.names(paths.preview_folder(clip_id)))
        pending = []
        for row in group:
            old = previous.get(window_key(row))
            if old and old.status == "ok" and old.fingerprint == _fingerprint(row, settings) and _file(row) in files:
                buffer.keep(old)
            else:
                pending.append(row)
        if pending:
            todo.append(pending)
    reused = len(buffer.rows)
    progress.advance(ASSET, shard, reused)

    def make(clip_rows: list[WindowRow]) -> list[PreviewRow]:
        return list(_preview_clip(store, clip_rows, settings))

    workers = max(1, round((os.cpu_count() or 1) / settings.num_cpus_per_worker))
    with buffer:
        for _, made in bounded_map(make, todo, workers):
            for preview in made:
                buffer.add(preview)
                progress.advance(ASSET, shard)
                if preview.status != "ok":
                    where = f"{preview.clip_id} {preview.start_frame}_{preview.end_frame}"
                    log.warning("no preview of %s: %s", where, preview.error)

    table = buffer.commit()
    remove_stale_previews(store, before, buffer.rows)
    render_shard(store, shard, source_root=source_root)
    good = [row for row in buffer.rows if row.status == "ok"]
    seconds = time.perf_counter() - started
    return shard_report(
        ASSET,
        shard,
        buffer.rows,
        seconds=seconds,
        table=store.url(table),
        reused=reused,
        figures={
            "preview_frames": sum(row.num_frames or 0 for row in good),
            "preview_bytes": sum(row.num_bytes or 0 for row in good),
            "windows_per_second": round((len(windows) - reused) / seconds, 3),
        },
        thumbnails=_thumbnails(store, good),
    )


def _preview_clip(store: Store, rows: list[WindowRow], settings: PreviewSettings) -> Iterator[PreviewRow]:
    """One row for every window, its file written first."""
    left = {Window(row.start_frame or 0, row.end_frame or 0): row for row in rows}
    clock = time.perf_counter()
    try:
        info = probe(rows[0].source)
        for warning in preview_warnings(info, settings):
            log.warning("%s: %s", rows[0].relative_path, warning)
        for window, made in render_previews(rows[0].source, info, list(left), settings):
            seconds, clock = time.perf_counter() - clock, time.perf_counter()
            row = left.pop(window)
            if isinstance(made, PreviewError):
                yield _failed(row, made, seconds)
                continue
            rel = paths.preview(row.clip_id, window.start_frame, window.end_frame)
            store.write_bytes(rel, made.data)
            yield _done(row, made, rel, _fingerprint(row, settings), seconds)
    except CaptionAssetsError as error:
        for row in left.values():
            yield _failed(row, error, 0.0)


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
