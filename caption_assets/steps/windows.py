"""Plan a shard's windows: probe every clip, cut it into windows, pick the frames that a model will see."""

import hashlib
import json
import logging
import time
from collections.abc import Iterator
from typing import Any, Final

from caption_assets.dataset import Dataset
from caption_assets.dataset.clips import split_duplicates
from caption_assets.errors import CaptionAssetsError, ClipError
from caption_assets.layout import paths
from caption_assets.layout.store import Store
from caption_assets.media.decode import probe
from caption_assets.media.mp4 import cut_window_mp4
from caption_assets.media.sampling import sample_window
from caption_assets.media.windows import MIN_WINDOW_FRAMES, compute_windows
from caption_assets.records import Clip, FramePicks, VideoInfo, Window, WindowRow
from caption_assets.settings import WindowSettings
from caption_assets.steps.pool import bounded_map
from caption_assets.steps.report import Progress, ShardReport, shard_report

log = logging.getLogger(__name__)
ASSET: Final = "clip_windows"


def window_shard(
    store: Store, dataset: Dataset, shard: str, settings: WindowSettings, progress: Progress | None = None
) -> ShardReport:
    """Plans every clip of `shard` and replaces the shard's table.

    A clip that cannot be used is a row with its reason. Raises DatasetError for a shard without clips, ShardError
    where no clip has a window, StoreError.
    """
    started = time.perf_counter()
    progress = progress or Progress()
    clips, duplicates = split_duplicates(dataset.clips(shard))
    before = store.read_rows(ASSET, shard)
    progress.start(ASSET, shard, len(clips))

    def plan(clip: Clip) -> list[WindowRow]:
        taken_by = duplicates.get(clip.clip_id)
        return list(_plan_clip(store, clip, settings, taken_by))

    rows: list[WindowRow] = []
    for _, planned in bounded_map(plan, clips):
        rows += planned
        progress.advance(ASSET, shard)
    table = store.commit_rows(ASSET, shard, rows)
    kept = {row.mp4_path for row in rows}
    for row in before:
        if row.mp4_path and row.mp4_path not in kept:
            store.delete(row.mp4_path)
    for row in rows:
        if row.status != "ok":
            log.warning("%s: %s", row.relative_path, row.error)
    windows = [row for row in rows if row.status == "ok"]
    return shard_report(
        ASSET,
        shard,
        rows,
        seconds=time.perf_counter() - started,
        table=store.url(table),
        figures={
            "windows": len(windows),
            "frames_picked": sum(len(row.frame_ids) for row in windows),
            "video_seconds": round(sum({r.clip_id: r.duration_s or 0.0 for r in windows}.values()), 3),
        },
    )


def _plan_clip(store: Store, clip: Clip, settings: WindowSettings, taken_by: str | None) -> Iterator[WindowRow]:
    common: dict[str, Any] = {
        "clip_id": clip.clip_id,
        "relative_path": clip.relative_path,
        "source": clip.path,
        "window_size": settings.window_size,
        "remainder_threshold": settings.remainder_threshold,
        "sampling_fps": settings.sampling_fps,
    }
    try:
        if taken_by is not None:
            error = ClipError(f"clip {clip.relative_path!r}", f"its id is that of {taken_by!r}", "rename one of them")
            yield WindowRow(**common, status="failed", error_kind="duplicate_id", error=str(error))
            return
        info = probe(clip.path)
    except CaptionAssetsError as error:
        yield WindowRow(**common, status="failed", error_kind=error.kind, error=str(error))
        return
    common |= _video_fields(info)
    windows = compute_windows(info.num_frames, settings.window_size, settings.remainder_threshold)
    if not windows:
        short = f"it has {info.num_frames} frames, and a window needs {MIN_WINDOW_FRAMES}"
        yield WindowRow(**common, status="skipped", error_kind="too_short", error=short)
    for window in windows:
        picks = sample_window(window, info.pts_s, info.frame_rate, settings.sampling_fps)
        row: dict[str, Any] = {
            "start_frame": window.start_frame,
            "end_frame": window.end_frame,
            "start_s": float(info.pts_s[window.start_frame] - info.pts_s[0]),
            "end_s": _end_s(info, window),
            "frame_ids": picks.frame_ids,
            "times_s": picks.times_s,
            "window_hash": _window_hash(info, window, picks),
        }
        try:
            mp4 = _store_mp4(store, clip, info, window) if settings.store_window_mp4 else None
            yield WindowRow(**common, **row, mp4_path=mp4)
        except ClipError as error:
            yield WindowRow(**common, **row, status="failed", error_kind=error.kind, error=str(error))


def _store_mp4(store: Store, clip: Clip, info: VideoInfo, window: Window) -> str:
    rel = paths.window_mp4(clip.clip_id, window.start_frame, window.end_frame)
    store.write_bytes(rel, cut_window_mp4(clip.path, info, window))
    return rel


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


def _end_s(info: VideoInfo, window: Window) -> float:
    """When the window's last frame gives way to the next one, in seconds after the clip's first frame."""
    following = window.end_frame + 1
    return float(info.pts_s[following] - info.pts_s[0]) if following < info.num_frames else info.duration_s


def _window_hash(info: VideoInfo, window: Window, picks: FramePicks) -> str:
    seen = [info.content_hash, window.start_frame, window.end_frame, picks.frame_ids, picks.times_s]
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:32]
