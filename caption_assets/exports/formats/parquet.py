"""Parquet: a row a sample, with the video's bytes, or the path of a clip that stays where it is."""

import json
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from caption_assets.exports.base import Entry, PackFormat
from caption_assets.exports.columns import COLUMNS, DATASETS_TYPES, fields, json_line
from caption_assets.settings import ExportVideos

# Videos that are in memory at once, and in a row group.
_GROUP_BYTES = 64 << 20
_GROUP_ROWS = 10_000
_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64()}
_VIDEO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


class Parquet(PackFormat):
    """`video` has bytes and path, as `datasets` has videos; of a clip that stays where it is the path alone."""

    name = "parquet"
    suffix = ".parquet"

    def takes_parts(self, videos: ExportVideos) -> bool:
        return videos != "clips"

    def about(self, entry: Entry) -> bytes:
        return json_line(_row(entry, None)).encode()

    def pack(self, entries: Sequence[Entry], drafts: Sequence[str], file: BinaryIO) -> None:
        rows: list[dict[str, Any]] = []
        held = 0
        with pq.ParquetWriter(file, _SCHEMA, compression="zstd") as writer:
            for entry, draft in zip_longest(entries, drafts):
                data = Path(draft).read_bytes() if draft else None
                rows.append(_row(entry, data))
                held += len(data or b"")
                if held >= _GROUP_BYTES or len(rows) >= _GROUP_ROWS:
                    writer.write_table(pa.Table.from_pylist(rows, _SCHEMA))
                    rows, held = [], 0
            if rows:
                writer.write_table(pa.Table.from_pylist(rows, _SCHEMA))


def _row(entry: Entry, data: bytes | None) -> dict[str, Any]:
    return {"video": {"bytes": data, "path": entry.path}, **fields(entry)}


def _schema() -> pa.Schema:
    columns = [pa.field(name, _TYPES[of]) for name, (of, _) in COLUMNS.items()]
    features: dict[str, Any] = {name: {"dtype": of, "_type": "Value"} for name, of in DATASETS_TYPES.items()}
    features = {"video": {"_type": "Video"}, **features}
    known = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema([pa.field("video", _VIDEO), *columns], metadata=known)


_SCHEMA = _schema()
