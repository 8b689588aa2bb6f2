"""From clip documents to `processed_videos/<rel>.json` and `processed_clip_chunks/<rel>_<n>.json`. No I/O.

A clip that is its own source makes both documents: one video, one chunk. Where a splitter cut the clips, both are
the splitter's, and only the keys about windows and captions are ours. Those are always counted anew from the
documents of all the chunk's clips, so that several shards can render clips of one chunk.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import add

from caption_assets.save_export import foreign
from caption_assets.save_export.documents import FIELDS, Document, is_caption_key, is_enhanced_key
from caption_assets.save_export.foreign import Clean, usable
from caption_assets.store.rows import WindowRow

VIDEO_FIELDS: Mapping[str, Clean] = {"num_total_clips": foreign.count, "num_clip_chunks": foreign.count}
CHUNK_FIELDS: Mapping[str, Clean] = {
    "clips": foreign.texts,
    "filtered_clips": foreign.texts,
    "num_clips_passed": foreign.number,
    "num_clips_transcoded": foreign.number,
    "total_clip_duration": foreign.number,
    "max_clip_duration": foreign.number,
    "all_windows": foreign.mapping,
    "all_windows_enhanced_caption": foreign.mapping,
}
"""What is read of the splitter's documents; all other keys are its own, whatever they hold."""


@dataclass(frozen=True, slots=True)
class ClipSummary:
    """What a chunk says about one of its clips, taken from the clip's document.

    `captions` and `enhanced` hold the first text of each window that has one, under "<start>_<end>".
    `has_preview` is None where the document says nothing about previews.
    """

    captions: Mapping[str, str]
    enhanced: Mapping[str, str]
    windows: int
    captioned: int
    failed: int
    has_preview: bool | None
    has_bytes: bool
    duration_s: float


def summarize(document: Document) -> ClipSummary:
    """A clip document in short; documents of the original pipeline are read just as well as ours."""
    windows = usable(document, FIELDS)[0].get("windows", ())
    captions: dict[str, str] = {}
    enhanced: dict[str, str] = {}
    for window in windows:
        name = f"{window['start_frame']}_{window['end_frame']}"
        for texts, wanted in ((captions, is_caption_key), (enhanced, is_enhanced_key)):
            text = next((value for key, value in window.items() if wanted(key) and isinstance(value, str)), None)
            if text is not None:
                texts[name] = text
    previews = [window["preview"] for window in windows if isinstance(window.get("preview"), dict)]
    return ClipSummary(
        captions=captions,
        enhanced=enhanced,
        windows=len(windows),
        captioned=len(captions),
        failed=sum(window.get("status") == "failed" for window in windows),
        has_preview=any(preview.get("num_bytes") for preview in previews) if previews else None,
        has_bytes=document.get("num_bytes") is not None,
        duration_s=_duration(document.get("duration_span")),
    )


def own_video_document(clip: WindowRow) -> Document:
    """The document of a source video that is the clip itself; null where the clip could not be probed."""
    return {
        "video": clip.location,
        "height": clip.height,
        "width": clip.width,
        "framerate": clip.frame_rate,
        "num_frames": clip.clip_frames,
        "duration": clip.duration_s,
        "video_codec": clip.codec,
        "pixel_format": clip.pixel_format,
        "audio_format": clip.audio_codec,
        "num_total_clips": 1,
        "num_clip_chunks": 1,
    }


def cut_video_document(existing: Document | None, clip: Document, num_clips: int, num_chunks: int) -> Document:
    """The splitter's document of a source video, with missing keys filled in from one of its clips' documents.

    What only the source file could tell is null. The counts grow where more clips and chunks are known of than
    the existing document counted.
    """
    existing = usable(existing or {}, VIDEO_FIELDS)[0]
    filled = {
        "video": clip["source_video"],
        "height": clip["height_source"],
        "width": clip["width_source"],
        "framerate": clip["framerate_source"],
        "num_frames": None,
        "duration": None,
        "video_codec": None,
        "pixel_format": None,
        "audio_format": None,
        "num_total_clips": num_clips,
        "num_clip_chunks": num_chunks,
    }
    counts = {key: max(filled[key], existing[key]) for key in VIDEO_FIELDS if key in existing}
    return filled | existing | counts


def listed_clips(chunk: Document | None) -> list[str]:
    """Ids of all clips of a chunk, kept or filtered."""
    known = usable(chunk or {}, CHUNK_FIELDS)[0]
    return [*known.get("clips", ()), *known.get("filtered_clips", ())]


def chunk_document(
    existing: Document | None, video: str, index: int, clips: Mapping[str, ClipSummary], new: tuple[str, ...]
) -> Document:
    """The document of a chunk: the splitter's (or None), with our keys counted from `clips`.

    `clips` holds a summary of every clip of the chunk that has a document; `new` names those which the existing
    document does not list yet, in the order in which they are to be added. Filtered clips do not count, as in the
    original.
    """
    existing = usable(existing or {}, CHUNK_FIELDS)[0]
    kept, filtered = [*existing.get("clips", ()), *new], existing.get("filtered_clips", [])
    own = {clip: clips[clip] for clip in kept if clip in clips}
    known = [clips[clip] for clip in (*kept, *filtered) if clip in clips]
    added = [clips[clip] for clip in new]

    def count(key: str, of: Callable[[list[ClipSummary]], float], join: Callable[..., float] = add) -> float:
        # The splitter's figure, with what the new clips add to it; without one, what is known of all clips.
        return join(existing[key], of(added)) if key in existing else of(known)

    document: Document = {
        "video": existing.get("video", video),
        "clip_chunk_index": existing.get("clip_chunk_index", index),
        "num_clips_filtered_by_motion": existing.get("num_clips_filtered_by_motion", 0),
        "num_clips_filtered_by_aesthetic": existing.get("num_clips_filtered_by_aesthetic", 0),
        "num_clips_passed": existing.get("num_clips_passed", len(kept) - len(new)) + len(new),
        "num_clips_transcoded": count("num_clips_transcoded", lambda clips: sum(clip.has_bytes for clip in clips)),
        "num_clips_with_embeddings": existing.get("num_clips_with_embeddings", 0),
        "num_clips_with_caption": sum(bool(clip.captions) for clip in own.values()),
        "num_clips_with_webp": sum(bool(clip.has_preview) for clip in own.values()),
        "total_clip_duration": count("total_clip_duration", lambda clips: sum(clip.duration_s for clip in clips)),
        "max_clip_duration": count("max_clip_duration", _longest, max),
        "clips": kept,
        "filtered_clips": filtered,
        "all_windows": _texts(existing, "all_windows", kept, {id_: clip.captions for id_, clip in own.items()}),
        "all_windows_enhanced_caption": _texts(
            existing, "all_windows_enhanced_caption", kept, {id_: clip.enhanced for id_, clip in own.items()}
        ),
        "num_windows": sum(clip.windows for clip in own.values()),
        "num_windows_with_caption": sum(clip.captioned for clip in own.values()),
        "num_windows_failed": sum(clip.failed for clip in own.values()),
    }
    return document | {key: value for key, value in existing.items() if key not in document}


def _texts(existing: Document, key: str, kept: list[str], own: Mapping[str, Mapping[str, str]]) -> Document:
    """Texts of every kept clip; a clip without a document keeps what the existing chunk says."""
    old = existing.get(key, {})
    return {clip: dict(own[clip]) if clip in own else old.get(clip, {}) for clip in kept}


def _longest(clips: list[ClipSummary]) -> float:
    return max((clip.duration_s for clip in clips), default=0.0)


def _duration(span: object) -> float:
    try:
        return float(foreign.number(span[1]) - foreign.number(span[0])) if isinstance(span, list) else 0.0
    except (ValueError, IndexError):
        return 0.0
