"""Tables as users' assets take and return them: pandas, polars or pyarrow, by annotation. polars is never required."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from caption_assets.errors import StoreError
from caption_assets.store.added import WINDOW_COLUMNS

SHARD_COLUMN = "shard"
_KINDS = "a DataFrame of pandas or polars, or a Table of pyarrow"


def as_arrow(frame: Any, asked: str) -> pa.Table:
    """A frame as an Arrow table, with whole numbers for frames. Raises StoreError for what is no frame."""
    import pandas as pd  # takes a code server that needs none a third of a second

    if isinstance(frame, pd.DataFrame):
        table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    elif isinstance(frame, pa.Table):
        table = frame
    elif type(frame).__module__.partition(".")[0] == "polars":
        table = (frame.collect() if hasattr(frame, "collect") else frame).to_arrow()
    else:
        raise StoreError(asked, f"it is of type {type(frame).__name__}", f"return {_KINDS}")
    for position, name in enumerate(table.column_names):
        if name in WINDOW_COLUMNS[1:]:  # pandas makes floats of them where one is missing
            table = table.set_column(position, name, table.column(name).cast(pa.int64()))
    return table


def as_annotated(table: pa.Table, annotation: Any, asked: str) -> Any:
    """An Arrow table as what an asset's parameter is annotated with; a pandas DataFrame where it is not."""
    import pandas as pd

    if annotation is pa.Table:
        return table
    if annotation in (pd.DataFrame, Any, None, type(None)):
        return table.to_pandas()
    if getattr(annotation, "__module__", "").partition(".")[0] == "polars":
        import polars

        frame = polars.DataFrame(table)
        return frame.lazy() if annotation is polars.LazyFrame else frame
    name = getattr(annotation, "__name__", str(annotation))
    raise StoreError(asked, f"it is annotated as {name}", f"annotate it as {_KINDS}")


def by_shard(table: pa.Table, shards: Sequence[str], asked: str) -> dict[str, pa.Table]:
    """The rows of each shard, without the column that says whose they are. Raises StoreError for rows of no shard."""
    if SHARD_COLUMN not in table.column_names:
        if len(shards) == 1:
            return {shards[0]: table}
        fix = f"keep the column {SHARD_COLUMN!r} of what it was made from"
        raise StoreError(asked, f"nothing says which of its rows are of which of {len(shards)} shards", fix)
    column = table.column(SHARD_COLUMN).cast(pa.string())
    others = sorted({str(value) for value in column.unique().to_pylist()} - set(shards))
    if others:
        raise StoreError(asked, f"it has rows of shard {others[0]!r}", f"return rows of {', '.join(shards)} only")
    rows = table.drop_columns([SHARD_COLUMN])
    return {shard: rows.filter(pa.compute.equal(column, shard)) for shard in shards}
