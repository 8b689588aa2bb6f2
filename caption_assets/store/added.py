"""Tables of assets that users add: whatever columns they have, a Parquet file a shard, replaced whole.

What of such a table is rendered into the documents stands in a file beside its shards', so that whoever renders a
document next, be it for captions, knows it.
"""

import io
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from caption_assets.errors import StoreError
from caption_assets.store import paths
from caption_assets.store.store import Store
from caption_assets.store.tables import FINDING_TABLES, REVIEW_TABLES, RUN_COSTS, TABLES

WINDOW_COLUMNS = ("clip_id", "start_frame", "end_frame")
"""What tells the windows of a shard apart, in every table."""

_OWN_TABLES = (*FINDING_TABLES, *REVIEW_TABLES, RUN_COSTS)
_OWN = frozenset(["documents", "pages", "aside", *TABLES, *(table.name for table in _OWN_TABLES)])


def table_name(name: str) -> str:
    """`name`, checked to be no table of the package's own. Raises StoreError."""
    if name in _OWN:
        raise StoreError(f"table {name!r} of an added asset", "it is one of ours", "give the asset another name")
    return paths.component(name, "table")


def write_added(store: Store, name: str, shard: str, table: pa.Table) -> str:
    """Replaces a shard's table, whole and durably; returns its URL."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    rel = paths.table(table_name(name), shard)
    store.write_bytes(rel, buffer.getvalue())
    return store.url(rel)


def read_added(store: Store, name: str, shard: str) -> pa.Table | None:
    """A shard's table; None where there is none. Raises StoreError for one that is damaged."""
    rel = paths.table(table_name(name), shard)
    data = store.read_bytes(rel)
    if data is None:
        return None
    try:
        return pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        fix = "delete it and materialize the shard again"
        raise StoreError(f"read {store.url(rel)}", f"it is no readable table: {str(error).rstrip('.')}", fix) from error


def render_columns(store: Store, name: str, columns: Sequence[str]) -> None:
    """Notes which columns of a table the documents show of each window; none where they are to show it no more."""
    rel = _note(table_name(name))
    if columns or store.read_bytes(rel) is not None:
        store.write_if_changed(rel, json.dumps(list(columns)).encode())


def rendered_columns(store: Store) -> dict[str, tuple[str, ...]]:
    """By the name of each table that documents show, or have shown, the columns of it that they show."""
    found = {}
    for name in store.names_once("tables"):
        if name in _OWN or (data := store.read_bytes_once(_note(name))) is None:
            continue
        try:
            found[name] = tuple(map(str, json.loads(data)))
        except (ValueError, TypeError):
            raise StoreError(
                f"read {store.url(_note(name))}", "it is damaged", "materialize that asset again"
            ) from None
    return found


def added_rows(store: Store, name: str, shard: str, columns: Sequence[str]) -> list[dict[str, Any]]:
    """What the documents show of a shard's table: `WINDOW_COLUMNS`, and those of `columns` that it has."""
    table = read_added(store, name, shard) if columns else None
    if table is None:
        return []
    return table.select([c for c in (*WINDOW_COLUMNS, *columns) if c in table.column_names]).to_pylist()


def _note(name: str) -> str:
    return f"{paths.table_folder(name)}/rendered.json"
