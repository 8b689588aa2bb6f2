"""A sample's columns, for formats whose readers take any."""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from caption_assets.exports.base import Entry

COLUMNS: Mapping[str, tuple[type, str]] = MappingProxyType(
    {
        "caption": (str, "The text that goes out."),
        "clip_id": (str, "The clip."),
        "shard": (str, "The clip's shard."),
        "source": (str, "The clip's path below the dataset root."),
        "start_frame": (int, "The window's first frame in the clip, counted from 0."),
        "end_frame": (int, "Its last frame in the clip, inclusive."),
        "start_s": (float, "Its start in seconds of the clip."),
        "end_s": (float, "Its end in seconds of the clip."),
        "num_frames": (int, "Frames of the video."),
        "duration_s": (float, "Length of the video in seconds."),
        "fps": (float, "Its average frames a second."),
        "width": (int, "Pixels of the video, upright."),
        "height": (int, "Pixels of the video, upright."),
        "caption_key": (str, "Key of the caption, or of the enhanced caption."),
        "model": (str, "The model that wrote the text."),
        "prompt_hash": (str, "Hash of the prompt that it was asked with."),
        "reviewed": (
            str,
            "What people say of the text: right, or edited where it is a person's; empty where none looked.",
        ),
        "mean_logprob": (float, "Mean log-probability of the text's tokens; null where it is not known."),
        "columns": (str, "What else the dataset says of the clip, as a JSON object; empty where it says nothing."),
    }
)
"""Type and meaning of each column, in their order."""


DATASETS_TYPES: Mapping[str, str] = MappingProxyType(
    {name: {str: "string", int: "int64", float: "float64"}[of] for name, (of, _) in COLUMNS.items()}
)
"""The columns' types as `datasets` names them."""


def fields(entry: "Entry") -> dict[str, Any]:
    """The values of all columns."""
    sample, video, row = entry.sample, entry.video, entry.sample.window
    text = sample.written
    first, last = sample.frames
    values = (
        sample.text,
        row.clip_id,
        sample.shard,
        row.relative_path,
        first,
        last,
        round(row.start_s or 0.0, 6),
        round(row.end_s or 0.0, 6),
        video.num_frames,
        round(video.duration_s, 6),
        round(video.fps, 6),
        video.width,
        video.height,
        text.key,
        text.model_id,
        text.prompt_hash,
        sample.opinion,
        None if text.mean_logprob is None else round(text.mean_logprob, 6),
        row.columns or "",
    )
    return dict(zip(COLUMNS, values, strict=True))


def json_line(row: Mapping[str, Any]) -> str:
    """One line, in ASCII: no reader can take a character of a text for the end of the line, or for another one."""
    return json.dumps(row, ensure_ascii=True, allow_nan=False) + "\n"
