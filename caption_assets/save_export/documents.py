"""From rows and an existing clip document to the new `metas/v0/<clip>.json`. Pure functions, no I/O.

A clip document has several owners. Ours are the clip's identity and probed fields, its windows, the captions of
every key that has a table, and the additions listed below. Whatever else a document holds (scores, other codes in
`errors`, unknown keys, captions of keys without a table) belongs to other tools and is carried over. No string
among our additions to a window has "caption" in its key: a reader that looks for the first such key would take it
for one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from caption_assets.errors import ConfigError
from caption_assets.records import FramePicks, text_hash
from caption_assets.save_export import foreign
from caption_assets.save_export.files import parse_document
from caption_assets.save_export.foreign import usable
from caption_assets.store.rows import CaptionRow, EnhancedRow, PreviewRow, VerdictRow, WindowRow, key_of_text
from caption_assets.store.snapshot import ClipRows, Frames
from caption_assets.store.verdicts import standing

Document = dict[str, Any]

FIELDS: Mapping[str, foreign.Clean] = {
    "source_video": foreign.text,
    "errors": foreign.codes,
    "error_details": foreign.mapping,
    "windows": foreign.windows,
}
"""What is read of a clip's existing document; all other keys are others', whatever they hold."""

# Our codes in a clip's `errors`. The first is one of the original's.
NO_WINDOWS = "windows"
# What follows the good windows of a clip cannot be used.
DAMAGED = "damaged"
OWN_CODES = frozenset((NO_WINDOWS, DAMAGED))
# Other tools' word for whether any window has a caption. Like their codes for windows that they had none of
# ("window-1", by its place in the list), it follows the captions that are there.
_HAS_CAPTION = "has_caption"

CAPTION_SUFFIX = "_caption"
ENHANCED_SUFFIX = "_enhanced_caption"
REVIEWED_SUFFIX = "_reviewed"
STRUCTURED_SUFFIX = "_structured"

_SOURCE_FIELDS = ("duration_span", "width_source", "height_source", "framerate_source")
_SCORES = ("motion_score", "aesthetic_score")  # other stages' keys that have a place in the order
_PROBED = {  # field of the document: field of the row
    "width": "width",
    "height": "height",
    "framerate": "frame_rate",
    "num_frames": "clip_frames",
    "video_codec": "codec",
    "num_bytes": "num_bytes",
}
_CLIP_ADDITIONS = ("windowing", "error_details")
_CLIP_KEYS = frozenset(
    ["span_uuid", "source_video", *_SOURCE_FIELDS, "clip_location", *_PROBED, *_SCORES, "errors", "windows", "valid"]
) | frozenset(_CLIP_ADDITIONS)
OWN_CLIP_KEYS = _CLIP_KEYS - set(_SCORES)
_WINDOW_ADDITIONS = ("status", "error", "start_s", "end_s", "sampling", "preview", "provenance", "findings")
OWN_WINDOW_KEYS = frozenset(("start_frame", "end_frame", *_WINDOW_ADDITIONS))
_MODEL_FIELDS = ("model_id", "model_revision", "precision", "engine", "engine_version")
_PROVENANCE = (*_MODEL_FIELDS, "prompt_hash", "prompt_tokens", "output_tokens", "finish_reason")
_CONFIDENCE = ("mean_logprob", "min_logprob", "low_logprob")


def is_caption_key(key: str) -> bool:
    """Whether a window's key names a caption as a model wrote it."""
    return key.endswith(CAPTION_SUFFIX) and not key.endswith(ENHANCED_SUFFIX)


def is_enhanced_key(key: str) -> bool:
    """Whether a window's key names an enhanced caption."""
    return key.endswith(ENHANCED_SUFFIX)


def check_added_name(name: str) -> None:
    """Raises ConfigError for the name of a user's table that cannot stand in a window."""
    if name in OWN_WINDOW_KEYS or is_caption_key(name) or is_enhanced_key(name):
        wrong = "a window has a key of that name, or readers would take it for a caption"
        raise ConfigError(f"asset {name!r}, to be rendered", wrong, "give it another name")


def reviewed_key(key: str) -> str:
    """The key of a text that a person has edited, from that of the model's: no reader takes it for a caption."""
    return key.removesuffix(CAPTION_SUFFIX) + REVIEWED_SUFFIX


def is_cut(clip: WindowRow, existing: Document | None) -> bool:
    """Whether a splitter cut the clip from a longer video, by what it left in the existing document.

    A document whose source is the clip file itself, be it at an earlier place of the dataset, is one of ours.
    """
    existing = existing or {}
    source = existing.get("source_video")
    return isinstance(source, str) and bool(source) and source not in (clip.location, existing.get("clip_location"))


def clip_document(rows: ClipRows, existing: Document | None) -> Document:
    """The clip's document, with everything that others put into the existing one."""
    existing = usable(existing or {}, FIELDS)[0]
    clip = rows.clip
    windows = _windows(rows, existing)
    document: Document = {"span_uuid": clip.clip_id, **_source(clip, existing), "clip_location": clip.location}
    probed = {key: getattr(clip, name) for key, name in _PROBED.items()}
    document |= {key: value for key, value in probed.items() if value is not None}
    document |= {key: existing[key] for key in _SCORES if key in existing}
    errors = existing.get("errors", [])
    settled = {*OWN_CODES, *_settled_codes(windows, existing.get("windows", ()))}
    codes = [code for code in ([errors] if isinstance(errors, str) else errors) if code not in settled]
    details = {code: text for code, text in existing.get("error_details", {}).items() if code not in settled}
    troubled = next((row for row in rows.windows if row.start_frame is None), clip)
    if not windows:
        codes.append(NO_WINDOWS)
        details[NO_WINDOWS] = clip.error or clip.error_kind or "the clip has no windows"
    elif troubled.start_frame is None:
        codes.append(DAMAGED)
        details[DAMAGED] = troubled.error
    if codes:
        document["errors"] = codes
    document |= {
        "windows": windows,
        "valid": bool(windows),
        "windowing": {
            "window_size": clip.window_size,
            "remainder_threshold": clip.remainder_threshold,
            "counted_frames": clip.clip_frames,
        },
    }
    if details:
        document["error_details"] = details
    document |= {key: value for key, value in existing.items() if key not in _CLIP_KEYS}
    if _HAS_CAPTION in document:
        document[_HAS_CAPTION] = any(map(_is_captioned, windows))
    return document


def _settled_codes(windows: Sequence[Document], before: Sequence[Document]) -> set[str]:
    """The codes of those windows of the document `before` that have a caption now, or are no more."""
    without = {(window["start_frame"], window["end_frame"]) for window in windows if not _is_captioned(window)}
    numbered = enumerate(before or windows)
    return {f"window-{at}" for at, each in numbered if (each["start_frame"], each["end_frame"]) not in without}


def _is_captioned(window: Document) -> bool:
    return any(is_caption_key(key) and isinstance(text, str) and text.strip() for key, text in window.items())


def _source(clip: WindowRow, existing: Document) -> Document:
    """What the clip was cut from: the splitter's words where there was one, else the clip itself."""
    span = [0.0, clip.duration_s or 0.0]
    if is_cut(clip, existing):
        unknown = {"duration_span": span, "width_source": None, "height_source": None, "framerate_source": None}
        kept = {key: existing.get(key, unknown[key]) for key in _SOURCE_FIELDS}
        return {"source_video": existing["source_video"], **kept}
    own = (span, clip.width, clip.height, clip.frame_rate)
    return {"source_video": clip.location, **dict(zip(_SOURCE_FIELDS, own, strict=True))}


def _windows(rows: ClipRows, existing: Document) -> list[Document]:
    known = {(window["start_frame"], window["end_frame"]): window for window in existing.get("windows", ())}
    windows = []
    for row in rows.windows:
        if row.start_frame is not None and row.end_frame is not None:
            frames = row.start_frame, row.end_frame
            windows.append(_window(row, frames, rows, known.get(frames, {})))
    return windows


def _window(row: WindowRow, frames: Frames, rows: ClipRows, existing: Document) -> Document:
    """One window: frames, captions, other tools' captions, enhanced captions, additions, other tools' keys."""
    own = _own_keys(rows)
    foreign = {key: value for key, value in existing.items() if key not in own and key not in OWN_WINDOW_KEYS}
    captions = {
        key: table[frames]
        for key, table in rows.captions.items()
        if frames in table and table[frames].content_hash == row.content_hash
    }
    window: Document = {"start_frame": frames[0], "end_frame": frames[1]}
    window |= {key + CAPTION_SUFFIX: caption.text for key, caption in captions.items() if _has_text(caption)}
    window |= {key: value for key, value in foreign.items() if is_caption_key(key)}
    enhanced = _enhanced(rows, frames, window)
    window |= {key: text.text for key, text in enhanced.items() if _has_text(text)}
    window |= {key: value for key, value in foreign.items() if is_enhanced_key(key)}
    texts: dict[str, CaptionRow | EnhancedRow] = {
        **{key + CAPTION_SUFFIX: caption for key, caption in captions.items()},
        **enhanced,
    }
    window |= {
        key + STRUCTURED_SUFFIX: answer
        for key, caption in captions.items()
        if caption.is_json
        and _has_text(caption)
        and (answer := parse_document((caption.text or "").encode())) is not None
    }
    edits = _edits(rows, frames, texts)
    window |= {reviewed_key(key): edit.edited for key, edit in edits.items()}
    window |= _outcome(row, captions, any(is_caption_key(key) for key in window))
    window |= {"start_s": row.start_s, "end_s": row.end_s}
    if row.frame_ids:
        window["sampling"] = {
            "frame_ids": list(row.frame_ids),
            "requested_fps": row.sampling_fps,
            "true_fps": round(FramePicks(row.frame_ids, row.times_s).fps, 6),
        }
    preview = rows.previews.get(frames)
    if preview is not None and preview.content_hash == row.content_hash:
        window["preview"] = _preview(preview)
    provenance = {key + CAPTION_SUFFIX: _provenance(caption) for key, caption in captions.items()}
    provenance |= {key: _provenance(text) for key, text in enhanced.items()}
    provenance |= {
        reviewed_key(key): {"of": key, "reviewer": edit.reviewer, "reviewed_at": edit.at} for key, edit in edits.items()
    }
    earlier = _mapping(existing.get("provenance"))
    provenance |= {key: value for key, value in earlier.items() if key in foreign}
    if provenance:
        window["provenance"] = provenance
    if findings := _findings(rows, frames, window, enhanced, foreign):
        window["findings"] = findings
    # As objects: whatever the table is called, no reader takes one for a caption.
    window |= {name: dict(table[frames]) for name, table in rows.added.items() if frames in table}
    return window | {key: value for key, value in foreign.items() if key not in window}


def _findings(
    rows: ClipRows, frames: Frames, window: Document, enhanced: Mapping[str, EnhancedRow], foreign: Document
) -> Document:
    """What the rules have against the texts that stand in the window, by their key in it."""
    judged = {key + CAPTION_SUFFIX: table.get(frames) for key, table in rows.findings.items()}
    judged |= {
        key: rows.enhanced_findings.get((row.key, row.caption_key), {}).get(frames) for key, row in enhanced.items()
    }
    return {
        key: [
            {"rule": rule, "severity": severity, "message": message}
            for rule, severity, message in zip(row.rules, row.severities, row.messages, strict=True)
        ]
        for key, row in judged.items()
        if row is not None and row.rules and key not in foreign and _is_hash_of(row.text_hash, window.get(key))
    }


def _enhanced(rows: ClipRows, frames: Frames, window: Document) -> dict[str, EnhancedRow]:
    """Rewritings of the captions that the window has, by their key in it.

    Of one text model, that of the first caption has the original's key, and comes before those of others.
    """
    order = [key.removesuffix(CAPTION_SUFFIX) for key in window if is_caption_key(key)]
    current: dict[str, dict[str, EnhancedRow]] = {}
    for (text_key, caption_key), table in rows.enhanced.items():
        if frames in table and _is_of(table[frames], window.get(caption_key + CAPTION_SUFFIX)):
            current.setdefault(text_key, {})[caption_key] = table[frames]
    first: dict[str, EnhancedRow] = {}
    others: dict[str, EnhancedRow] = {}
    for text_key, by_caption in current.items():
        leading, *following = sorted(by_caption, key=lambda key: (not _has_text(by_caption[key]), order.index(key)))
        first[text_key + ENHANCED_SUFFIX] = by_caption[leading]
        others |= {_enhanced_key(text_key, key): by_caption[key] for key in following}
    return first | others


def _enhanced_key(text_key: str, caption_key: str) -> str:
    """The key of a text whose caption is not the window's first. No text model's key has a plus sign."""
    return f"{caption_key}+{text_key}{ENHANCED_SUFFIX}"


def _own_keys(rows: ClipRows) -> frozenset[str]:
    """Window keys that are ours to replace or remove: those of every key that has a table."""
    enhanced = {key for text, of in rows.enhanced for key in (text + ENHANCED_SUFFIX, _enhanced_key(text, of))}
    models = [*(key + CAPTION_SUFFIX for key in rows.captions), *enhanced]
    structured = (key + STRUCTURED_SUFFIX for key in rows.captions)
    return frozenset([*models, *map(reviewed_key, models), *structured, *rows.added])


def _edits(rows: ClipRows, frames: Frames, texts: Mapping[str, CaptionRow | EnhancedRow]) -> dict[str, VerdictRow]:
    """What people have made of the texts that the window has now, by the model's key."""
    if not rows.verdicts:
        return {}
    said = standing(row for row in rows.verdicts if (row.start_frame, row.end_frame) == frames)
    found = {
        key: said.get((text.clip_id, *frames, key_of_text(text), text_hash(text.text)))
        for key, text in texts.items()
        if text.text is not None
    }
    return {key: of_text.edit for key, of_text in found.items() if of_text is not None and of_text.edit is not None}


def _outcome(row: WindowRow, captions: Mapping[str, CaptionRow], captioned: bool) -> Document:
    """`status` and `error` of a window.

    "failed" where the window itself or any caption of it failed, else "ok" where it has a caption, else "skipped".
    The error is the first one, in the order of the keys, and names its key.
    """
    if row.status != "ok":
        return {"status": row.status, "error": {"kind": row.error_kind, "message": row.error}}
    for status in ("failed",) if captioned else ("failed", "skipped"):
        for key, caption in captions.items():
            if caption.status == status:
                error = {"kind": caption.error_kind, "message": caption.error, "key": key + CAPTION_SUFFIX}
                return {"status": status, "error": error}
    return {"status": "ok" if captioned else "skipped"}


def _preview(row: PreviewRow) -> Document:
    if row.status != "ok":
        return {"status": row.status, "error": {"kind": row.error_kind, "message": row.error}}
    names = ("status", "path", "num_frames", "width", "height", "frame_ms", "num_bytes")
    return {name: getattr(row, name) for name in names}


def _provenance(row: CaptionRow | EnhancedRow) -> Document:
    """How a text came about. No times, and nothing else that differs from run to run, but for last digits."""
    provenance = {name: getattr(row, name) for name in _PROVENANCE}
    confidence = {name: getattr(row, name) for name in _CONFIDENCE}
    provenance |= {name: value and round(value, 4) for name, value in confidence.items()}
    if row.server_model:
        provenance["server_model"] = row.server_model
    if isinstance(row, EnhancedRow):
        provenance["caption_key"] = row.caption_key
    if row.status != "ok":
        provenance["error"] = {"kind": row.error_kind, "message": row.error}
    return provenance


def _has_text(row: CaptionRow | EnhancedRow) -> bool:
    return row.status == "ok" and row.text is not None


def _is_of(row: EnhancedRow, caption: object) -> bool:
    """Whether an enhanced row rewrote the caption that the window has now."""
    return _is_hash_of(row.caption_hash, caption)


def _is_hash_of(known: str, text: object) -> bool:
    try:
        return isinstance(text, str) and text_hash(text) == known
    except UnicodeEncodeError:  # half a surrogate pair in another tool's document
        return False


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
