"""What Dagster is told of a shard: one materialization event, with what people see in the catalog and in plots."""

from collections.abc import Iterable, Iterator, Mapping

import dagster as dg
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION

from caption_assets.defs.lineage import FAILED_SHARDS, event_pointer
from caption_assets.defs.metadata import choice_metadata, place_metadata, report_metadata
from caption_assets.defs.source import observation, observed
from caption_assets.defs.step_run import StepRun
from caption_assets.errors import CaptionAssetsError, ConfigError, ModelError, StoreError
from caption_assets.steps import Ended, ShardReport
from caption_assets.steps.choices import Choice
from caption_assets.steps.windows import SOURCE

# Dagster logs an event for every partition of the run when the step's result comes. Each shard has had its own by then,
# so the result carries Dagster's own mark for "reported already"; without a result, downstream steps would be skipped.
REPORTED = {SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True}

Reports = Iterator[dg.MaterializeResult]


def failed_step(
    said: str, errors: Iterable[CaptionAssetsError], metadata: Mapping[str, dg.MetadataValue] | None = None
) -> dg.Failure:
    """How a step fails. Where its assets have a policy for it, it is tried again if a store was to blame, which may be
    away for a moment; clips, settings and models stay as they are."""
    away = any(isinstance(error, StoreError) for error in errors)
    return dg.Failure(said, metadata=metadata or {}, allow_retries=away)


class ShardOutcomes:
    """How the shards of one step's run ended, each told to Dagster as soon as it is known."""

    def __init__(self, run: StepRun) -> None:
        self._run, self._context = run, run.context
        self._progress, self._reported = run.progress, run.reported
        self._errors: list[CaptionAssetsError] = []

    def report(self, outcomes: Iterable[Ended]) -> Reports:
        """Reports every outcome, then the step's.

        A shard that fails does not stop the others, nor the steps after this one, if any shard is good; the step then
        fails at the end, and the good shards stay materialized.
        """
        stopped: CaptionAssetsError | None = None
        shards, own = self._context.partition_keys, self._run.asset_of(self._run.choice).to_user_string()
        try:
            for ended in outcomes:
                asset = self._tell(ended)
                failure = str(ended.outcome) if isinstance(ended.outcome, CaptionAssetsError) else None
                self._reported[asset.to_user_string(), ended.shard] = failure
        except (ConfigError, ModelError, StoreError) as error:
            stopped = error  # nothing that another shard could do better
            for shard in shards:
                if (own, shard) not in self._reported:
                    self._progress.failed(self._run.step.name, shard, error, self._run.choice.key)
        if any(self._reported.get((own, shard), "") is None for shard in shards):
            yield dg.MaterializeResult(metadata=REPORTED)  # what reads this begins: see `build_defs`
        if stopped:
            raise failed_step(str(stopped), [stopped]) from stopped
        failed = {shard: text for shard in shards if (text := self._reported.get((own, shard)))}
        if failed:
            names = ", ".join(failed)
            said = f"{len(failed)} of {len(shards)} shards failed: {names}. " + " ".join(failed.values())
            raise failed_step(said, self._errors, {FAILED_SHARDS: dg.MetadataValue.json(failed)})

    def _tell(self, ended: Ended) -> dg.AssetKey:
        """Tells Dagster, under the asset that was made, which it returns."""
        choice = self._run.choice_of(ended)
        asset = self._run.asset_of(choice)
        if isinstance(ended.outcome, CaptionAssetsError):
            self._context.log.error(str(ended.outcome))
            self._progress.failed(ended.asset, ended.shard, ended.outcome, choice.key)
            self._errors.append(ended.outcome)
            return asset
        self._progress.done(ended.outcome)
        metadata = choice_metadata(choice) | report_metadata(ended.outcome) | self._places(ended.shard)
        if (limit := self._run.trial.limit) is None:
            tags = self._tags(choice, ended.outcome)
            self._context.log_event(dg.AssetMaterialization(asset, partition=ended.shard, metadata=metadata, tags=tags))
        else:  # the shard is not made: it is as missing, or as much out of date, as before
            metadata["only_first_clips"] = dg.MetadataValue.int(limit)
            self._context.log_event(dg.AssetObservation(asset, partition=ended.shard, metadata=metadata))
        return asset

    def _places(self, shard: str) -> dict[str, dg.MetadataValue]:
        save_export, dataset = self._run.resource("save_export"), self._run.resource("clips").root
        return place_metadata(save_export.place(), dataset, shard, save_export.review_url)

    def _tags(self, choice: Choice, report: ShardReport) -> dict[str, str]:
        """The versions that Dagster writes on its own events: by these it knows what is stale."""
        tags = {
            "dagster/code_version": choice.version,
            "dagster/data_version": report.data_version,
            "dagster/data_version_is_user_provided": "true",
        }
        for name, version in report.input_versions.items():
            is_source, names, shard = name == SOURCE, self._run.names, report.shard
            key = names.source if is_source else names.asset(name, *choice.keys)
            if is_source and observed(self._context.instance, key, shard) != version:
                self._context.log_event(observation(key, shard, version))
            pointer = event_pointer(self._context.instance, key, is_source, shard, version)
            tags[f"dagster/input_data_version/{key.to_user_string()}"] = version
            tags[f"dagster/input_event_pointer/{key.to_user_string()}"] = pointer
        return tags
