"""The condition under which an asset makes its shards by itself."""

from weakref import WeakKeyDictionary

import dagster as dg
from dagster._core.asset_graph_view.asset_graph_view import AssetGraphView

from caption_assets.defs.work import Work

# Shards of an asset that are on their way at once: those that come meanwhile need not wait for all of a large dataset.
_MOST_AT_ONCE = 512
# A run starts an engine. So, while the asset is at work, fewer shards than a run may have wait so long for more.
_COMPANY_SECONDS = 600.0
DESCRIPTION = (
    "Asks for shards that are missing or out of date once all that they are made of is up to date, for none that is in "
    "progress, and for one that has failed again after a day, then after two, four and so on."
)
_work: "WeakKeyDictionary[AssetGraphView, Work]" = WeakKeyDictionary()


class AsShardsCome(dg.AutomationCondition[dg.AssetKey]):
    """True for shards that are missing or out of date and can be made now, in batches."""

    def __init__(self, settings_hash: str) -> None:
        """`settings_hash` is the pipeline's: see `Work`."""
        self._settings_hash = settings_hash

    @property
    def name(self) -> str:
        return "as_shards_come"

    @property
    def description(self) -> str:
        return DESCRIPTION

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        view, key = context.asset_graph_view, context.key
        work = _work.setdefault(view, Work(view, self._settings_hash))  # one for all assets of this moment
        shards = work.asset(key).node.partitions_def
        if shards is None:
            raise ValueError(f"{key.to_user_string()} has no shards")
        chosen = view.get_subset_from_partition_keys(key, shards, set(_batch(work, key)))
        return dg.AutomationResult(context, chosen.compute_intersection(context.candidate_subset))


def _batch(work: Work, key: dg.AssetKey) -> list[str]:
    """The shards to ask for now."""
    asset, ready = work.asset(key), work.ready(key)
    policy = asset.node.backfill_policy
    most_a_run = (policy and policy.max_partitions_per_run) or 1
    if asset.busy and len(ready) < most_a_run:
        waiting_since = min(work.changed_at(key, ready).values(), default=0.0)
        if work.now - waiting_since < _COMPANY_SECONDS:
            return []
    return ready[: max(0, _MOST_AT_ONCE - len(asset.busy))]
