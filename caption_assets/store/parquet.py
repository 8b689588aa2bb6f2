"""One file of a table: its rows, and in its metadata what is to go besides. Bytes in, bytes out; no I/O."""

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Generic, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from caption_assets.store.root import checked
from caption_assets.store.rows import AnyRow
from caption_assets.store.tables import Table, column_values, columns, rows_to_table, table_to_rows

# In a committed table's file metadata: the parts whose rows the commit has taken account of. A crash between the
# commit and their removal would otherwise bring rows back that the commit had replaced.
_SUPERSEDED = b"caption_assets.superseded_parts"
# Likewise: the files that no row names since the commit, which it removes when the table is there; in a part, files
# that were about to be written.
_STALE = b"caption_assets.stale_files"

R = TypeVar("R", bound=AnyRow)


@dataclass(frozen=True, slots=True)
class TableFile(Generic[R]):
    """What one file holds: rows, the parts that they supersede, and the files that were to go or about to come."""

    rows: list[R]
    superseded: frozenset[str] = frozenset()
    stale: frozenset[str] = frozenset()


def dump_rows(table: Table[R], rows: Sequence[R], superseded: Iterable[str], stale: Iterable[str]) -> bytes:
    """The file's bytes."""
    arrow = rows_to_table(rows, table.row)
    lists = {_SUPERSEDED: superseded, _STALE: stale}
    arrow = arrow.replace_schema_metadata({key: json.dumps(list(names)).encode() for key, names in lists.items()})
    buffer = io.BytesIO()
    pq.write_table(arrow, buffer, compression="zstd")
    return buffer.getvalue()


def parse_rows(table: Table[R], data: bytes) -> TableFile[R]:
    """The file that has these bytes. Raises ArrowException, ValueError, OSError or StoreError for one that is
    damaged."""
    arrow = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
    superseded, stale = (json.loads((arrow.schema.metadata or {}).get(key, b"[]")) for key in (_SUPERSEDED, _STALE))
    return TableFile(table_to_rows(arrow, table.row), frozenset(superseded), frozenset(map(checked, stale)))


def parse_columns(table: Table[R], file: BinaryIO, names: Sequence[str]) -> list[tuple[Any, ...]]:
    """Some columns of a file's rows. Raises as `parse_rows` does."""
    known = {column.name: column for column in columns(table.row) if column.name in names}
    wanted = [name for column in known.values() for name in (column.name, column.earlier) if name]
    arrow = pq.ParquetFile(file).read(columns=wanted, use_threads=False)
    return list(zip(*(column_values(arrow, known[name]) for name in names), strict=True))
