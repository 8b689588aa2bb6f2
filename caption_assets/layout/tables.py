"""Rows and Arrow tables: one explicit schema for each row class, and the way there and back.

The schemas are spelled out because files outlive the code that wrote them. A column that an older file lacks is
filled with the row's default; a column that this version does not know is left out.
"""

import operator
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal, TypeVar, cast, get_args

import numpy as np
import pyarrow as pa

from caption_assets.errors import StoreError
from caption_assets.records import CaptionRow, EnhancedRow, PreviewRow, Row, WindowRow

Asset = Literal["clip_windows", "window_previews", "window_captions", "enhanced_captions"]

ROW_TYPES: dict[Asset, type[Row]] = {
    "clip_windows": WindowRow,
    "window_previews": PreviewRow,
    "window_captions": CaptionRow,
    "enhanced_captions": EnhancedRow,
}
KEYED_ASSETS: tuple[Asset, ...] = ("window_captions", "enhanced_captions")

R = TypeVar("R", bound=Row)


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, Arrow type and what it holds, with units."""

    name: str
    type: pa.DataType
    description: str

    @property
    def type_name(self) -> str:
        return str(self.type)


_STR, _INT, _FLOAT = pa.string(), pa.int64(), pa.float64()

_OUTCOME = (
    Column("status", _STR, "ok, failed or skipped."),
    Column("error_kind", _STR, "Short stable word for the reason; empty where status is ok."),
    Column("error", _STR, "The reason in words; empty where status is ok."),
)
_BOOKKEEPING = (
    Column("finish_reason", _STR, "Why the model stopped: stop, length, …"),
    Column("prompt_tokens", _INT, "Tokens of the request."),
    Column("output_tokens", _INT, "Tokens of the answer."),
    Column("model_id", _STR, "The model."),
    Column("model_revision", _STR, "The model's revision."),
    Column("precision", _STR, "Precision of the weights."),
    Column("engine", _STR, "The engine that ran the model."),
    Column("engine_version", _STR, "The engine's version."),
    Column("prompt_hash", _STR, "Hash of the prompt text."),
    Column("fingerprint", _STR, "Covers everything that the text depends on; equal means no new text is needed."),
    Column("seconds", _FLOAT, "Time spent, in seconds."),
)
_TIME_LINE = (
    Column("decode_s", _FLOAT, "Seconds to decode and resize the window's frames."),
    Column("render_s", _FLOAT, "Seconds to make the engine's input of them."),
    Column("wait_s", _FLOAT, "Seconds from then until the model began with it."),
    Column("prefill_s", _FLOAT, "Seconds from then to the first token."),
    Column("generate_s", _FLOAT, "Seconds from the first to the last token."),
)
_CLIP_ID = Column("clip_id", _STR, "The clip.")
_START = Column("start_frame", _INT, "First frame of the window, counted from 0 in the clip.")
_END = Column("end_frame", _INT, "Last frame of the window, inclusive.")
_CONTENT_HASH = Column("content_hash", _STR, "Hash of the clip's bytes that this row is about.")

COLUMNS: dict[type[Any], tuple[Column, ...]] = {
    WindowRow: (
        _CLIP_ID,
        Column("relative_path", _STR, "The clip's path below the dataset root, posix."),
        Column("source", _STR, "The clip's path or URL."),
        Column("width", _INT, "Stored pixels; null where the clip could not be probed, like all video columns."),
        Column("height", _INT, "Stored pixels."),
        Column("display_width", _INT, "Pixels upright, with square pixels."),
        Column("display_height", _INT, "Pixels upright, with square pixels."),
        Column("rotation", _INT, "Degrees clockwise that the file asks to be turned by: 0, 90, 180 or 270."),
        Column("frame_rate", _FLOAT, "Average frames a second."),
        Column("duration_s", _FLOAT, "Length of the clip in seconds."),
        Column("clip_frames", _INT, "Frames of the clip's first video stream, counted."),
        Column("codec", _STR, "Video codec."),
        Column("pixel_format", _STR, "Pixel format."),
        Column("audio_codec", _STR, "Audio codec; null without sound."),
        Column("num_bytes", _INT, "Size of the clip file in bytes."),
        Column("content_hash", _STR, "Hash of the clip's bytes."),
        Column("window_size", _INT, "Setting: frames in a full window."),
        Column("remainder_threshold", _INT, "Setting: a remainder of at least this many frames is its own window."),
        Column("sampling_fps", _FLOAT, "Setting: frames a second that the caption model is to see."),
        Column("max_frame_pixels", _INT, "Setting: pixels of a stored frame, at most."),
        Column("max_clip_seconds", _FLOAT, "Setting: length of the clip in seconds, at most."),
        Column("max_clip_frames", _INT, "Setting: frames of the clip, at most."),
        Column("max_decode_seconds", _FLOAT, "Setting: seconds that reading the clip may take."),
        Column("max_window_bytes", _INT, "Setting: bytes of the window's frames, at most."),
        Column("start_frame", _INT, "First frame of the window, counted from 0; null for a clip without windows."),
        Column("end_frame", _INT, "Last frame of the window, inclusive; null for a clip without windows."),
        Column("start_s", _FLOAT, "Start of the window in seconds of the clip."),
        Column("end_s", _FLOAT, "End of the window in seconds of the clip."),
        Column("frame_ids", pa.list_(_INT), "Frames that the caption model sees, by their number in the clip."),
        Column("times_s", pa.list_(_FLOAT), "True times of those frames in seconds after the window's first."),
        Column("window_hash", _STR, "Covers the clip's bytes, the window and its frames."),
        Column("mp4_path", _STR, "The window as a video, below the output root; null where it is not kept."),
        *_OUTCOME,
    ),
    PreviewRow: (
        _CLIP_ID,
        _START,
        _END,
        _CONTENT_HASH,
        Column("path", _STR, "The WebP below the output root."),
        Column("num_frames", _INT, "Frames of the preview."),
        Column("width", _INT, "Pixels."),
        Column("height", _INT, "Pixels."),
        Column("frame_ms", _INT, "How long each frame is shown, in milliseconds."),
        Column("num_bytes", _INT, "Size in bytes."),
        Column("fingerprint", _STR, "Covers everything that the preview depends on."),
        Column("seconds", _FLOAT, "Time spent, in seconds."),
        *_OUTCOME,
    ),
    CaptionRow: (
        Column("key", _STR, "The variant's name in the output."),
        _CLIP_ID,
        _START,
        _END,
        _CONTENT_HASH,
        Column("window_hash", _STR, "The captioned window's hash."),
        Column("text", _STR, "The caption; null where there is none."),
        Column("first_text", _STR, "The caption before a second pass; null without one."),
        *_BOOKKEEPING,
        *_TIME_LINE,
        *_OUTCOME,
    ),
    EnhancedRow: (
        Column("key", _STR, "The enhancer's name in the output."),
        Column("caption_key", _STR, "The variant whose caption was rewritten."),
        Column("caption_hash", _STR, "Hash of that caption's text; it no longer counts once the caption changed."),
        _CLIP_ID,
        _START,
        _END,
        Column("text", _STR, "The enhanced caption; null where there is none."),
        *_BOOKKEEPING,
        *_OUTCOME,
    ),
}


def as_asset(name: str) -> Asset:
    """`name` as one of the four assets; StoreError for any other."""
    if name not in get_args(Asset):
        raise StoreError(f"table of {name!r}", "there is no such asset", f"use one of {', '.join(get_args(Asset))}")
    return cast(Asset, name)


def schema(row_type: type[Any]) -> pa.Schema:
    """The Arrow schema of a row class, in the row's own order of fields."""
    return pa.schema([pa.field(column.name, column.type) for column in COLUMNS[row_type]])


def rows_to_table(rows: Sequence[R], row_type: type[R]) -> pa.Table:
    """Rows as a table, in the order given."""
    arrays = [_array([getattr(row, column.name) for row in rows], column.type) for column in COLUMNS[row_type]]
    return pa.Table.from_arrays(arrays, schema=schema(row_type))


def table_to_rows(table: pa.Table, row_type: type[R]) -> list[R]:
    """A table as rows; a missing column or a null where the row knows none gives the row's default.

    Raises ValueError (pa.ArrowInvalid is one) where a column that has no default is missing or of another type.
    """
    defaults = {field.name: field.default for field in fields(row_type)}
    columns: list[list[Any]] = []
    for column in COLUMNS[row_type]:
        default = defaults[column.name]
        if column.name in table.column_names:
            values = table.column(column.name).cast(column.type).to_pylist()
        elif default is MISSING:
            raise ValueError(f"column {column.name} is missing")
        else:
            values = [None] * table.num_rows
        if default == ():
            values = [() if value is None else tuple(value) for value in values]
        elif default is MISSING and None in values:
            raise ValueError(f"column {column.name} has empty cells")
        elif default is not None:
            values = [default if value is None else value for value in values]
        columns.append(values)
    names = [column.name for column in COLUMNS[row_type]]
    return [row_type(**dict(zip(names, values, strict=True))) for values in zip(*columns, strict=True)]


def merge_rows(rows: Iterable[R]) -> list[R]:
    """One row a window, the last one given, ordered by clip and start frame; rows without a window come first."""
    latest = {(row.clip_id, row.start_frame, row.end_frame): row for row in rows}
    return sorted(
        latest.values(),
        key=lambda row: (row.clip_id, row.start_frame is not None, row.start_frame or 0, row.end_frame or 0),
    )


def _array(values: Sequence[Any], arrow_type: pa.DataType) -> pa.Array:
    """What `pa.array` makes, from buffers: that function imports pandas, which can take seconds.

    A file name that is no UTF-8 reaches Python with lone surrogates; it is kept readable, as "\\udcff".
    """
    present = np.fromiter((value is not None for value in values), bool, len(values))
    validity = None if present.all() else pa.py_buffer(np.packbits(present, bitorder="little"))
    children: list[pa.Array] = []
    if pa.types.is_list(arrow_type):
        buffers = [_offsets([len(value or ()) for value in values])]
        children = [_array([item for value in values for item in value or ()], arrow_type.value_type)]
    elif pa.types.is_string(arrow_type):
        texts = [b"" if value is None else value.encode("utf-8", "backslashreplace") for value in values]
        buffers = [_offsets([len(text) for text in texts]), pa.py_buffer(b"".join(texts))]
    else:
        # NumPy would cut 2.5 down to 2.
        number = operator.index if pa.types.is_integer(arrow_type) else float
        numbers = [number(0 if value is None else value) for value in values]
        buffers = [pa.py_buffer(np.array(numbers, arrow_type.to_pandas_dtype()))]
    return pa.Array.from_buffers(arrow_type, len(values), [validity, *buffers], children=children)


def _offsets(lengths: Sequence[int]) -> pa.Buffer:
    """Where each of consecutive values begins, and where the last one ends."""
    ends = np.cumsum([0, *lengths])
    if ends[-1] > np.iinfo(np.int32).max:
        raise StoreError("write a table", "a column holds more than 2 GiB", "make smaller shards")
    return pa.py_buffer(ends.astype(np.int32))
