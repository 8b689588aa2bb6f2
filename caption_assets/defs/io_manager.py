"""Where everything is written: tables, documents and previews below one output path."""

from collections.abc import Sequence
from typing import Any

import dagster as dg
import pandas as pd
from pydantic import Field

from caption_assets.errors import StoreError
from caption_assets.store.store import Store
from caption_assets.store.tables import TABLES, Table, rows_to_table

# In the metadata of an asset of ours: its table, and the table's key.
_TABLE, _KEY = "caption_assets/table", "caption_assets/key"


def table_metadata(table: Table[Any], keys: Sequence[str]) -> dict[str, str]:
    """What an asset says of its table, so that its rows are found again."""
    return {_TABLE: table.name, _KEY: "/".join(keys)}


class SaveExportIOManager(dg.ConfigurableIOManager):
    """The only writer. Assets write each shard through `store()` as soon as it is done, so that a run over many
    shards keeps the finished ones whatever happens later; downstream assets load a shard's table as a DataFrame.
    """

    output_path: str = Field(description="Output root: a folder or fsspec URL (memory://, s3://…).")
    source_root: str | None = Field(
        default=None,
        description="Root that the source videos of clips cut elsewhere are relative to, if there are any.",
    )

    def store(self) -> Store:
        """The output root, checked to be writable. Raises StoreError."""
        store = self.place()
        store.check_writable()
        return store

    def place(self) -> Store:
        """The output root as it is."""
        return Store(self.output_path)

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Refuses values: what an asset of this project makes is in the store before its step ends."""
        if obj is not None:
            raise StoreError(
                f"a value of type {type(obj).__name__} from {context.asset_key.to_user_string()}",
                "this IO manager stores no values",
                "write through `store()` and yield a MaterializeResult, or give the asset another IO manager",
            )

    def load_input(self, context: dg.InputContext) -> pd.DataFrame:
        """The upstream asset's rows for the requested shards, with a column `shard`."""
        metadata = (context.upstream_output.definition_metadata if context.upstream_output else None) or {}
        table, key = TABLES[metadata[_TABLE]], metadata[_KEY] or None
        store = self.place()
        frames = []
        for shard in sorted(context.asset_partition_keys):
            rows = store.read_rows(table, shard, key)
            frames.append(rows_to_table(rows, table.row).to_pandas().assign(shard=shard))
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
