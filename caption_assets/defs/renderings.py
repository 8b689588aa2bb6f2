"""Shards of an asset that renders tables, each told to Dagster as it is done."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from caption_assets.defs.history import History
from caption_assets.defs.reporting import REPORTED, Reports, failed_step
from caption_assets.errors import CaptionAssetsError


@dataclass(frozen=True)
class Rendered:
    """What was made of a shard: a version that changes with its content, and what Dagster is told besides."""

    version: str
    metadata: Mapping[str, Any]
    tags: Mapping[str, str] = field(default_factory=dict)


def render_shards(
    context: dg.AssetExecutionContext, render: Callable[[str], Rendered], finish: Callable[[], object]
) -> Reports:
    """Renders the shards of a run one by one, then what is about all of them.

    One that fails does not keep the others from being made and told of; the step then fails at its end.
    """
    failed: dict[str, CaptionAssetsError] = {}
    for shard in context.partition_keys:
        try:
            made = render(shard)
        except CaptionAssetsError as error:
            context.log.error(str(error))
            failed[shard] = error
            continue
        own = {"dagster/data_version": made.version, "dagster/data_version_is_user_provided": "true"}
        context.log_event(
            dg.AssetMaterialization(
                context.asset_key, partition=shard, metadata=made.metadata, tags={**own, **made.tags}
            )
        )
    finish()
    if len(failed) < len(context.partition_keys):
        yield dg.MaterializeResult(metadata=REPORTED)
    if failed:
        raise failed_step(" ".join(map(str, failed.values())), failed.values())


@dataclass(frozen=True)
class Inputs:
    """What the instance knows of the assets that others are made of, at one moment."""

    known: Sequence[History]

    def tags(self, shard: str, code_version: str) -> dict[str, str]:
        """The versions by which Dagster tells whether what is made of them is stale."""
        tags = {"dagster/code_version": code_version}
        for of in self.known:
            name = of.key.to_user_string()
            if shard in of.versions:
                tags[f"dagster/input_data_version/{name}"] = of.versions[shard]
                tags[f"dagster/input_event_pointer/{name}"] = str(of.latest[shard])
        return tags


def inputs_of(context: dg.AssetExecutionContext, keys: Sequence[dg.AssetKey]) -> Inputs:
    """Looked at now: what is made anew while one reads it makes the result stale, which the next run puts right."""
    known = [History(context.instance, key) for key in keys]
    for of in known:
        _ = of.versions, of.latest
    return Inputs(known)
