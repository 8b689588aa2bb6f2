"""The tables, and their rows as Arrow tables and back.

A row class declares its columns (see `rows`). A column that an older file lacks is filled with the row's default; a
column that this version does not know is left out.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cache
from inspect import get_annotations
from types import MappingProxyType, UnionType
from typing import Annotated, Any, Generic, Literal, TypeVar, get_args, get_origin, get_type_hints

import pyarrow as pa

from caption_assets.store.rows import (
    AnyRow,
    CaptionRow,
    Column,
    ComparisonRow,
    EnhancedFindingRow,
    EnhancedRow,
    FindingRow,
    PreviewRow,
    VerdictRow,
    WindowRow,
)

R = TypeVar("R", bound=AnyRow)
WINDOW = ("clip_id", "start_frame", "end_frame")


@dataclass(frozen=True, slots=True)
class Table(Generic[R]):
    """One kind of table. A shard has one of it, or one for each key.

    `key_columns` are the columns that make the key of a table, which is written with a slash between them: captions
    have the caption key, enhanced captions `<caption key>/<text key>`.

    `file` is the column that names a file of the row's, which goes when no row names it any more, and `file_bytes` the
    one that has its size, if any. `told_apart_by` are the columns of which two rows never have the same values.
    """

    name: str
    row: type[R]
    key_columns: tuple[str, ...] = ()
    file: str | None = None
    file_bytes: str | None = None
    told_apart_by: tuple[str, ...] = WINDOW

    @property
    def keyed(self) -> bool:
        return bool(self.key_columns)

    @property
    def key_form(self) -> str | None:
        """How its keys are written; None without keys."""
        return "/".join(("<caption key>", "<text key>")[: len(self.key_columns)]) or None

    def key_of(self, row: R) -> str | None:
        """The key of the table that a row belongs to."""
        return "/".join(getattr(row, column) for column in self.key_columns) or None

    def __str__(self) -> str:
        return self.name


CLIP_WINDOWS = Table("clip_windows", WindowRow, file="mp4_path", file_bytes="mp4_bytes")
WINDOW_PREVIEWS = Table("window_previews", PreviewRow, file="path", file_bytes="num_bytes")
WINDOW_CAPTIONS = Table("window_captions", CaptionRow, key_columns=("key",))
ENHANCED_CAPTIONS = Table("enhanced_captions", EnhancedRow, key_columns=("caption_key", "key"))

TABLES: Mapping[str, Table[Any]] = MappingProxyType(
    {table.name: table for table in (CLIP_WINDOWS, WINDOW_PREVIEWS, WINDOW_CAPTIONS, ENHANCED_CAPTIONS)}
)
"""The tables that assets write, by name, which is also the asset's."""

CAPTION_FINDINGS = Table("caption_findings", FindingRow, key_columns=("key",))
ENHANCED_FINDINGS = Table("enhanced_findings", EnhancedFindingRow, key_columns=("caption_key", "key"))
FINDING_TABLES: tuple[Table[Any], ...] = (CAPTION_FINDINGS, ENHANCED_FINDINGS)
"""The tables that assets write beside those of their texts. They have no parts: see `Store.read_committed`."""

SHARD_REVIEW = Table("shard_review", VerdictRow, told_apart_by=(*WINDOW, "key", "reviewer", "at"))
CAPTION_COMPARISONS = Table(
    "caption_comparisons", ComparisonRow, told_apart_by=(*WINDOW, "first_key", "second_key", "reviewer", "at")
)
REVIEW_TABLES: tuple[Table[Any], ...] = (SHARD_REVIEW, CAPTION_COMPARISONS)
"""The tables that people write, who look at pages. They have parts only: see `Store.put_part`."""


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column as a row class declares it: `default` is MISSING where every row must have a value."""

    name: str
    type: pa.DataType
    description: str
    default: Any
    earlier: str | None


def columns(row_type: type[Any]) -> tuple[TableColumn, ...]:
    """The columns of a row class: its own fields first, then those that it shares with others."""
    return _columns(row_type)  # type: ignore[arg-type]


@cache
def _columns(row_type: type[Any]) -> tuple[TableColumn, ...]:
    hints = get_type_hints(row_type, include_extras=True)
    defaults = {field.name: field.default for field in fields(row_type)}
    names = [name for part in row_type.__mro__ for name in get_annotations(part)]
    return tuple(_column(name, hints[name], defaults[name]) for name in names)


def _column(name: str, hint: Any, default: Any) -> TableColumn:
    annotation, declared = get_args(hint)
    assert isinstance(declared, Column), f"{name} is not declared as a column"
    return TableColumn(name, _arrow_type(annotation), declared.description, default, declared.earlier)


def _arrow_type(annotation: Any) -> pa.DataType:
    """Of `str`, `int`, `float`, `bytes`, a Literal of strings, a tuple of any of them, or any of them or None."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _arrow_type(arguments[0])
    if origin is UnionType:
        return _arrow_type(next(part for part in arguments if part is not type(None)))
    if origin is tuple:
        return pa.list_(_arrow_type(arguments[0]))
    if origin is Literal:
        return pa.string()
    return {str: pa.string(), int: pa.int64(), float: pa.float64(), bytes: pa.binary(), bool: pa.bool_()}[annotation]


def schema(row_type: type[Any]) -> pa.Schema:
    """The Arrow schema of a row class."""
    return pa.schema([pa.field(column.name, column.type) for column in columns(row_type)])


def rows_to_table(rows: Sequence[R], row_type: type[R]) -> pa.Table:
    """Rows as an Arrow table, in the order given."""
    arrays = [_array([getattr(row, column.name) for row in rows], column.type) for column in columns(row_type)]
    return pa.Table.from_arrays(arrays, schema=schema(row_type))


def table_to_rows(table: pa.Table, row_type: type[R]) -> list[R]:
    """An Arrow table as rows; a missing column or a null where the row knows none gives the row's default.

    Raises ValueError (pa.ArrowInvalid is one) where a column that has no default is missing or of another type.
    """
    names = [column.name for column in columns(row_type)]
    values = [column_values(table, column) for column in columns(row_type)]
    return [row_type(**dict(zip(names, row, strict=True))) for row in zip(*values, strict=True)]


def merge_rows(rows: Iterable[R], told_apart_by: Sequence[str] = WINDOW) -> list[R]:
    """Of rows with the same values in some columns the last one given, ordered by clip and start frame; rows without a
    window come first."""
    latest = {tuple(getattr(row, name) for name in told_apart_by): row for row in rows}
    return sorted(
        latest.values(),
        key=lambda row: (row.clip_id, row.start_frame is not None, row.start_frame or 0, row.end_frame or 0),
    )


def column_values(table: pa.Table, column: TableColumn) -> list[Any]:
    """A column's values, a row each, as `table_to_rows` has them. Raises ValueError."""
    default = column.default
    name = next((name for name in (column.name, column.earlier) if name in table.column_names), None)
    if name is not None:
        values = table.column(name).cast(column.type).to_pylist()
    elif default is MISSING:
        raise ValueError(f"column {column.name} is missing")
    else:
        values = [None] * table.num_rows
    if default == ():
        return [() if value is None else tuple(value) for value in values]
    if default is MISSING and None in values:
        raise ValueError(f"column {column.name} has empty cells")
    if default in (MISSING, None):
        return values
    return [default if value is None else value for value in values]


def _array(values: Sequence[Any], arrow_type: pa.DataType) -> pa.Array:
    if not pa.types.is_string(arrow_type):
        return pa.array(values).cast(arrow_type)  # when it is told the type, Arrow cuts 2.5 down to 2
    try:
        return pa.array(values, arrow_type)
    except UnicodeEncodeError:
        # A file name that is not UTF-8 reaches Python with lone surrogates; it is kept readable, as "\\udcff".
        readable = [value and value.encode("utf-8", "backslashreplace").decode() for value in values]
        return pa.array(readable, arrow_type)
