"""Where everything is written: tables, documents and previews below one output path."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import pyarrow as pa
from pydantic import Field

from caption_assets.defs.frames import SHARD_COLUMN, as_annotated, as_arrow, by_shard
from caption_assets.defs.metadata import few
from caption_assets.errors import StoreError
from caption_assets.save_export.documents import check_added_name
from caption_assets.save_export.rendered import outdate_rendered
from caption_assets.steps.documents import render_documents_of
from caption_assets.store.added import WINDOW_COLUMNS, read_added, render_columns, table_name, write_added
from caption_assets.store.earlier import move_earlier
from caption_assets.store.store import Store
from caption_assets.store.tables import TABLES, Table, rows_to_table

# In the metadata of an asset of ours: its table, and the table's key.
_TABLE, _KEY = "caption_assets/table", "caption_assets/key"
RENDER = "caption_assets/render"
"""In the metadata of a user's asset: the columns that each window's JSON is to show, under the asset's name."""


def table_metadata(table: Table[Any], keys: Sequence[str]) -> dict[str, str]:
    """What an asset says of its table, so that its rows are found again."""
    return {_TABLE: table.name, _KEY: "/".join(keys)}


class SaveExportIOManager(dg.ConfigurableIOManager):
    """The only writer. Our assets write each shard through `store()` as soon as it is done, so that a run over many
    shards keeps the finished ones whatever happens later. Users' assets take and return tables: the rows of all
    shards of the run, with a column `shard`. What they return is stored as `tables/<asset>/<shard>.parquet`.
    """

    output_path: str = Field(description="Output root: a folder or fsspec URL (memory://, s3://…).")
    source_root: str | None = Field(
        default=None,
        description="Root that the source videos of clips cut elsewhere are relative to, if there are any.",
    )
    review_url: str | None = Field(
        default=None, description="Address at which the output root is served, for links to the review pages."
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
        """Stores what a user's asset returns, a table a shard, and renders it where its metadata asks for that.

        All is checked before anything is written. A shard of which there was nothing to make it of is not stored, and
        keeps no other from being materialized. Raises StoreError for one, and for what is no table of the run's shards.
        """
        if obj is None:  # ours: it is in the store before its step ends
            return
        asset = context.asset_key.to_user_string()
        asked = f"what asset {asset} returns"
        if not context.has_asset_partitions:
            raise StoreError(asked, "the asset has no shards", "give it the pipeline's shards as partitions_def")
        shards, name = sorted(context.asset_partition_keys), table_name(_name(context.asset_key))
        tables = by_shard(as_arrow(obj, asked), shards, asked)
        columns = _columns(context.definition_metadata, name, tables, asked)
        store = self.store()
        missing = [shard for shard in shards if not tables[shard].num_rows and _lacks_inputs(context, store, shard)]
        told = {}
        for shard in sorted(set(shards) - set(missing)):
            outdate_rendered(store, shard)
            at = write_added(store, name, shard, tables[shard])
            told[shard] = {"dagster/partition_row_count": tables[shard].num_rows, "dagster/uri": at}
        render_columns(store, name, columns)
        for shard, metadata in told.items():
            render_documents_of(store, shard, self.source_root)
            if missing:  # the step fails, and Dagster would say nothing of the others
                event = dg.AssetMaterialization(context.asset_key, partition=shard, metadata=metadata)
                context.log_event(event)
            else:
                context.step_context.add_asset_metadata(metadata, context.asset_key, shard)
        if missing:
            asked = f"{asset} of {len(missing)} of {len(shards)} shards ({few(missing)})"
            raise StoreError(asked, "there is nothing to make it of", "materialize what it reads for them first")

    def load_input(self, context: dg.InputContext) -> Any:
        """The upstream asset's rows for the shards of the run, as the parameter is annotated, with a column `shard`.

        A shard without a table of ours has no rows. Raises StoreError where none has one, and for one without a table
        of a user's asset.
        """
        upstream = context.upstream_output
        metadata = (upstream.definition_metadata if upstream is not None else None) or {}
        store = self.place()
        shards, tables = sorted(context.asset_partition_keys), []
        for shard in shards:
            is_ours = _TABLE in metadata
            table = _own_rows(store, metadata, shard) if is_ours else _added_rows(store, context.asset_key, shard)
            if table is not None:
                tables.append(table.append_column(SHARD_COLUMN, pa.array([shard] * table.num_rows, pa.string())))
        if not tables:
            raise _no_table(context.asset_key, shards[0])
        rows = pa.concat_tables(tables, promote_options="permissive")
        return as_annotated(rows, context.dagster_type.typing_type, f"parameter {context.name}")


def _name(asset: dg.AssetKey) -> str:
    return "__".join(asset.path)


def _lacks_inputs(context: dg.OutputContext, store: Store, shard: str) -> bool:
    """Whether there is no table of ours for the shard, of those that the asset reads."""
    graph = context.step_context.job_def.asset_layer.asset_graph
    of = [graph.get(key).metadata for key in graph.get(context.asset_key).parent_keys]
    return any(_own_rows(store, metadata, shard) is None for metadata in of if _TABLE in metadata)


def _own_rows(store: Store, metadata: Mapping[str, Any], shard: str) -> pa.Table | None:
    """A shard's table of one of our assets, which has this metadata."""
    move_earlier(store, shard)
    table = TABLES[metadata[_TABLE]]
    read = store.read_table(table, shard, metadata[_KEY] or None)
    return rows_to_table(read.rows, table.row) if read.looked.stamp is not None or read.rows else None


def _added_rows(store: Store, asset: dg.AssetKey, shard: str) -> pa.Table:
    table = read_added(store, _name(asset), shard)
    if table is None:
        raise _no_table(asset, shard)
    return table


def _no_table(asset: dg.AssetKey, shard: str) -> StoreError:
    name = asset.to_user_string()
    return StoreError(f"{name} of shard {shard!r}", "there is no table", "materialize it for this shard first")


def _columns(metadata: Any, name: str, tables: Mapping[str, pa.Table], asked: str) -> list[str]:
    """The columns that the asset's metadata asks to be rendered, checked to be there and to be JSON."""
    columns = (metadata or {}).get(RENDER)
    if not columns:
        return []
    check_added_name(name)
    needed = [*WINDOW_COLUMNS, *columns]
    if missing := [column for table in tables.values() for column in needed if column not in table.column_names]:
        fix = f"keep {', '.join(WINDOW_COLUMNS)}, and return what {RENDER} names"
        raise StoreError(f"{asked}, to be rendered", f"it has no column {missing[0]!r}", fix)
    for shard, table in tables.items():
        for column in columns:
            try:
                json.dumps(table.column(column).to_pylist(), allow_nan=False)
            except (TypeError, ValueError) as error:
                of = f"{asked}, to be rendered: column {column!r} of shard {shard!r}"
                raise StoreError(of, f"it is no JSON ({error})", "make text of it, or null of a number") from None
    return list(columns)
