"""Rows as the steps would make them, with everything that a test does not care about filled in."""

from typing import Any

from caption_assets.records import text_hash
from caption_assets.save_export import paths
from caption_assets.store.rows import (
    CaptionRow,
    EnhancedFindingRow,
    EnhancedRow,
    FindingRow,
    PreviewRow,
    VerdictRow,
    WindowRow,
    key_of_text,
)

BIKES = "f8514004-2727-53a7-b0f6-accf70217df4"
COSMOS = "551d3b9d-7328-5ca5-bd5a-4a3736c25b54"


def video(**values: Any) -> dict[str, Any]:
    """Fields of a probed clip; bikes.mp4 unless told otherwise."""
    fields = {"width": 640, "height": 272, "frame_rate": 25.0, "duration_s": 10.0, "clip_frames": 250}
    fields |= {"codec": "h264", "pixel_format": "yuv420p", "num_bytes": 509868, "content_hash": "bikes"}
    return {**fields, **values}


def window(clip_id: str = BIKES, start: int | None = 0, end: int | None = 249, **values: Any) -> WindowRow:
    fields = {"relative_path": "bikes.mp4", "location": "/data/videos/bikes.mp4", "window_size": 256}
    fields |= {"remainder_threshold": 128, "sampling_fps": 2.0, **video()}
    if start is not None and end is not None:
        rate = values.get("frame_rate", 25.0)
        fields |= {"start_s": start / rate, "end_s": (end + 1) / rate}
        fields |= {"frame_ids": (start, end), "times_s": (0.0, (end - start) / rate)}
    return WindowRow(clip_id=clip_id, start_frame=start, end_frame=end, **{**fields, **values})


def failed_clip(clip_id: str = BIKES, **values: Any) -> WindowRow:
    """A clip that could not be probed."""
    unknown = dict.fromkeys(video())
    outcome = {"status": "failed", "error_kind": "decode", "error": "it holds no video"}
    return window(clip_id, None, None, **{**unknown, **outcome, **values})


def caption(row: WindowRow, text: str | None = "A bike.", key: str = "qwen", **values: Any) -> CaptionRow:
    fields = {"content_hash": row.content_hash, "text": text, "model_id": "some/model", "finish_reason": "stop"}
    return CaptionRow(key=key, **_frames(row), **{**fields, **values})


def failed_caption(row: WindowRow, key: str = "qwen") -> CaptionRow:
    return caption(row, None, key, status="failed", error_kind="engine", error="it ran out of memory")


def enhanced(of: CaptionRow, text: str | None = "A fine bike.", key: str = "qwen_lm", **values: Any) -> EnhancedRow:
    fields = {"caption_key": of.key, "caption_hash": text_hash(of.text or ""), "text": text}
    return EnhancedRow(key=key, **_frames(of), **{**fields, **values})


def finding(of: CaptionRow | EnhancedRow, severity: str = "warning", **messages: str) -> FindingRow:
    """Findings against a text, by rule."""
    fields: dict[str, Any] = {"key": of.key, "text_hash": text_hash(of.text or ""), **_frames(of)}
    fields |= {"rules": tuple(messages), "severities": (severity,) * len(messages), "messages": (*messages.values(),)}
    fields |= {"severity": severity if messages else ""}
    return (
        EnhancedFindingRow(caption_key=of.caption_key, **fields)
        if isinstance(of, EnhancedRow)
        else FindingRow(**fields)
    )


def preview(row: WindowRow, **values: Any) -> PreviewRow:
    frames = _frames(row)
    fields = {"content_hash": row.content_hash, "path": paths.preview(*frames.values()), "num_frames": 10}
    fields |= {"width": 565, "height": 240, "frame_ms": 1000, "num_bytes": 68210}
    return PreviewRow(**frames, **{**fields, **values})


def verdict(
    of: CaptionRow | EnhancedRow, said: Any = "right", reviewer: str = "ann", at: str = "1", **values: Any
) -> VerdictRow:
    text = {"key": key_of_text(of), "text": of.text or "", "text_hash": text_hash(of.text or "")}
    return VerdictRow(**_frames(of), **{**text, "verdict": said, "reviewer": reviewer, "at": at, **values})


def _frames(row: WindowRow | CaptionRow | EnhancedRow) -> dict[str, Any]:
    return {"clip_id": row.clip_id, "start_frame": row.start_frame, "end_frame": row.end_frame}
