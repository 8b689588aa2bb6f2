"""One step in a Dagster run, as the assets' bodies and the reporting see it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import dagster as dg

from caption_assets.defs.lineage import failed_before
from caption_assets.defs.names import Names
from caption_assets.errors import CaptionAssetsError, ConfigError, ModelError
from caption_assets.steps import Ended, Outcomes, Progress, ShardReport, StepContext
from caption_assets.steps.report import Step


@dataclass(frozen=True)
class StepRun:
    """A step of a run: its shards, and the pipeline's resources under their plain names."""

    context: dg.AssetExecutionContext
    names: Names
    step: Step

    @cached_property
    def not_ready(self) -> list[Ended]:
        """How the step ends for the shards that an earlier step of the run has failed in."""
        failed = failed_before(self.context)
        return [Ended(self.step.name, shard, self.step.not_ready(shard, text)) for shard, text in failed.items()]

    @cached_property
    def shards(self) -> list[str]:
        """Those of the run that are ready for the step."""
        not_ready = {ended.shard for ended in self.not_ready}
        return [shard for shard in self.context.partition_keys if shard not in not_ready]

    @property
    def progress(self) -> Progress:
        return self.resource("progress")

    @property
    def reported(self) -> dict[tuple[str, str], str | None]:
        """How shards ended that this run has reported: see `SharedWorkers`."""
        return self.resource("workers").reported

    def resource(self, word: str) -> Any:
        return getattr(self.context.resources, self.names.of(word))

    def given(self) -> StepContext:
        """What the step is given. Raises StoreError where nothing can be written."""
        save_export, workers = self.resource("save_export"), self.resource("workers")
        return StepContext(save_export.store(), workers.clip_workers, save_export.source_root, self.progress)

    def is_reported(self, step: Step, shard: str) -> bool:
        return (step.name, shard) in self.reported

    def each_shard(self, of_shard: Callable[[str], ShardReport]) -> Outcomes:
        """How the step ends for each shard that has not been reported yet, one after the other."""
        for shard in self.shards:
            if self.is_reported(self.step, shard):
                continue
            try:
                with self.step.errors_of(shard):
                    report = of_shard(shard)
                yield Ended(self.step.name, shard, report)
            except (ConfigError, ModelError):
                raise
            except CaptionAssetsError as error:
                yield Ended(self.step.name, shard, error)
