"""The pages of shards as an asset: materialized, a shard's page is of its tables as they are, and what people have said
of its texts shows in Dagster."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from caption_assets.defs.catalog import deployment
from caption_assets.defs.io_manager import SaveExportIOManager
from caption_assets.defs.metadata import column_schema, page_link
from caption_assets.defs.names import Names
from caption_assets.defs.placing import on_hardly_anything
from caption_assets.defs.renderings import Rendered, inputs_of, render_shards
from caption_assets.defs.reporting import Reports
from caption_assets.errors import ShardError
from caption_assets.records import text_hash
from caption_assets.review import paths
from caption_assets.review.render import render_index, render_shard_page
from caption_assets.settings import PipelineSettings
from caption_assets.steps.documents import render_documents_of
from caption_assets.store.tables import SHARD_REVIEW

_SHARDS_PER_RUN = 96  # of none that it reads: see `assets`
_VERSION = "1"


def review_asset(
    pipeline: PipelineSettings,
    shards: dg.PartitionsDefinition,
    upstream: Sequence[dg.AssetKey],
    condition: dg.AutomationCondition[dg.AssetKey] | None,
) -> dg.AssetsDefinition:
    """The asset, which reads all that `upstream` writes and whatever else the shards have. By `condition`, Dagster asks
    for it by itself."""
    names = Names(pipeline.name)

    @dg.asset(
        key=names.asset(SHARD_REVIEW),
        deps=list(upstream),
        partitions_def=shards,
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=_SHARDS_PER_RUN),
        automation_condition=condition,
        group_name=names.group,
        kinds={"python", "html"},
        required_resource_keys={names.of("save_export")},
        output_required=False,  # every shard is reported as it is done
        code_version=_VERSION,
        metadata={"dagster/column_schema": column_schema(SHARD_REVIEW)},
        **on_hardly_anything(pipeline),
        **deployment(pipeline),
    )
    def shard_review(context: dg.AssetExecutionContext) -> Reports:
        """A page to look at each window of the shard with its captions, worst first; and how many texts people accept.

        Written to `review/<shard>.html`, with an index of all shards. `caption-assets review --serve` shows it with
        keys to judge, and keeps verdicts and edited texts, which stand in the documents as `<key>_reviewed`.
        """
        place = getattr(context.resources, names.of("save_export"))
        store, made_from = place.store(), inputs_of(context, upstream)

        def render(shard: str) -> Rendered:
            render_documents_of(store, shard, place.source_root)
            summary = render_shard_page(store, shard)
            if not summary["clips"]:
                asked = f"{SHARD_REVIEW} of shard {shard!r}"
                raise ShardError(asked, "it has no windows", "materialize clip_windows for it first")
            version = text_hash(json.dumps(summary, sort_keys=True))
            return Rendered(version, _metadata(place, shard, summary), made_from.tags(shard, _VERSION))

        yield from render_shards(context, render, lambda: render_index(store))

    return shard_review


def _metadata(place: SaveExportIOManager, shard: str, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Where the page is, and of each key how many of its texts were judged, and which share of these is right."""
    pages = {"review_page": paths.page(shard), "review_index": paths.INDEX}
    figures: dict[str, Any] = {"windows": summary["windows"], "failed": summary["failed"]}
    for key, of_key in summary["keys"].items():
        figures[f"judged {key}"] = of_key["judged"]
        if of_key["accepted_share"] is not None:
            figures[f"accepted_share {key}"] = of_key["accepted_share"]
    return {
        **{name: page_link(place.place(), page, place.review_url) for name, page in pages.items()},
        **figures,
        "keys": dg.MetadataValue.json(dict(summary["keys"])),
    }
