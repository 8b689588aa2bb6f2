"""Plan a shard's windows: probe every clip, cut it into windows, pick the frames that a model will see."""

import hashlib
import json
import logging
import time
from typing import Any, Final

from caption_assets.dataset import Dataset, split_duplicates
from caption_assets.errors import CaptionAssetsError, ClipError
from caption_assets.media.windows import MIN_WINDOW_FRAMES
from caption_assets.records import Clip, VideoInfo
from caption_assets.save_export import paths
from caption_assets.settings import WindowSettings
from caption_assets.steps.report import Progress, ShardReport, shard_report, windows_per_second
from caption_assets.store.rows import WindowRow
from caption_assets.store.store import Store
from caption_assets.store.tables import CLIP_WINDOWS
from caption_assets.workers.base import ClipWorkers
from caption_assets.workers.tasks import PlannedWindow, PlanTask, plan_clip

log = logging.getLogger(__name__)
ASSET: Final = "clip_windows"


def window_shard(
    store: Store,
    dataset: Dataset,
    shard: str,
    settings: WindowSettings,
    workers: ClipWorkers,
    progress: Progress | None = None,
) -> ShardReport:
    """Plans every clip of `shard` and replaces the shard's table.

    A clip that cannot be used is a row with its reason. Raises DatasetError for a shard without clips, ShardError
    where no clip has a window, StoreError.
    """
    started = time.perf_counter()
    progress = progress or Progress()
    clips, duplicates = split_duplicates(dataset.clips(shard))
    before = store.read_rows(CLIP_WINDOWS, shard)
    progress.start(ASSET, shard, len(clips))

    rows: list[WindowRow] = []
    for clip in clips:
        if clip.clip_id in duplicates:
            wrong = f"its id is that of {duplicates[clip.clip_id]!r}"
            error = ClipError(f"clip {clip.relative_path!r}", wrong, "rename one of them")
            rows.append(_failed(_common(clip, settings), error, "duplicate_id"))
            progress.advance(ASSET, shard)
    rows += _planned(store, [clip for clip in clips if clip.clip_id not in duplicates], settings, workers, progress)
    rows.sort(key=lambda row: (row.relative_path, row.start_frame or 0))
    table = store.commit_rows(CLIP_WINDOWS, shard, rows)
    _remove_stale_mp4(store, before, rows)
    for row in rows:
        if row.status != "ok":
            log.warning("%s: %s", row.relative_path, row.error)
    windows = [row for row in rows if row.status == "ok"]
    seconds = time.perf_counter() - started
    return shard_report(
        ASSET,
        shard,
        rows,
        seconds=seconds,
        table=store.url(table),
        figures={
            "windows": len(windows),
            **windows_per_second(len(windows), seconds),
            "frames_picked": sum(len(row.frame_ids) for row in windows),
            "video_seconds": round(sum({r.clip_id: r.duration_s or 0.0 for r in windows}.values()), 3),
        },
    )


def _planned(
    store: Store, clips: list[Clip], settings: WindowSettings, workers: ClipWorkers, progress: Progress
) -> list[WindowRow]:
    """The rows of all clips; window files are written as they come."""
    fields = {clip.path: _common(clip, settings) for clip in clips}
    found: dict[str, list[WindowRow]] = {clip.path: [] for clip in clips}
    for task, result in workers.run(plan_clip, [PlanTask(clip.path, settings) for clip in clips]):
        source = task.location
        if isinstance(result, VideoInfo):
            fields[source] |= _video_fields(result)
            short = f"it has {result.num_frames} frames, and a window needs {MIN_WINDOW_FRAMES}"
            if result.num_frames < MIN_WINDOW_FRAMES:
                found[source].append(WindowRow(**fields[source], status="skipped", error_kind="too_short", error=short))
            elif result.problem:
                # Its windows are good as far as the file goes; this row says that there was more.
                found[source].append(
                    WindowRow(**fields[source], status="failed", error_kind="damaged", error=result.problem)
                )
            progress.advance(ASSET, clips[0].shard)
        elif isinstance(result, CaptionAssetsError):
            if "content_hash" not in fields[source]:
                progress.advance(ASSET, clips[0].shard)
            found[source].append(_failed(fields[source], result))
        else:
            found[source].append(_window_row(store, fields[source], result))
    return [row for rows in found.values() for row in rows]


def _window_row(store: Store, fields: dict[str, Any], planned: PlannedWindow) -> WindowRow:
    window, picks, mp4 = planned.window, planned.picks, planned.mp4
    seen = [fields["content_hash"], window.start_frame, window.end_frame, picks.frame_ids, picks.times_s]
    fields = fields | {
        "start_frame": window.start_frame,
        "end_frame": window.end_frame,
        "start_s": planned.start_s,
        "end_s": planned.end_s,
        "frame_ids": picks.frame_ids,
        "times_s": picks.times_s,
        "window_hash": hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:32],
    }
    if isinstance(mp4, ClipError):
        return _failed(fields, mp4)
    if mp4 is not None:
        fields["mp4_path"] = paths.window_mp4(fields["clip_id"], window.start_frame, window.end_frame)
        store.write_bytes(fields["mp4_path"], mp4)
    return WindowRow(**fields)


def _failed(fields: dict[str, Any], error: CaptionAssetsError, kind: str | None = None) -> WindowRow:
    return WindowRow(**fields, status="failed", error_kind=kind or error.kind, error=str(error))


def _common(clip: Clip, settings: WindowSettings) -> dict[str, Any]:
    return {
        "clip_id": clip.clip_id,
        "relative_path": clip.relative_path,
        "location": clip.path,
        "window_size": settings.window_size,
        "remainder_threshold": settings.remainder_threshold,
        "sampling_fps": settings.sampling_fps,
    }


def _video_fields(info: VideoInfo) -> dict[str, Any]:
    return {
        "width": info.width,
        "height": info.height,
        "display_width": info.display_width,
        "display_height": info.display_height,
        "rotation": info.rotation,
        "frame_rate": float(info.frame_rate),
        "duration_s": info.duration_s,
        "clip_frames": info.num_frames,
        "codec": info.codec,
        "pixel_format": info.pixel_format,
        "audio_codec": info.audio_codec,
        "num_bytes": info.num_bytes,
        "content_hash": info.content_hash,
    }


def _remove_stale_mp4(store: Store, before: list[WindowRow], after: list[WindowRow]) -> None:
    kept = {row.mp4_path for row in after}
    for row in before:
        if row.mp4_path and row.mp4_path not in kept:
            store.delete(row.mp4_path)
            store.delete_empty_folder(row.mp4_path.rpartition("/")[0])
