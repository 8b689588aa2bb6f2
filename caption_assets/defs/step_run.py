"""One step in a Dagster run, as the assets' bodies and the reporting see it."""

from dataclasses import dataclass
from typing import Any

import dagster as dg

from caption_assets.defs.names import Names
from caption_assets.steps import Progress, StepContext
from caption_assets.steps.report import Step


@dataclass(frozen=True)
class StepRun:
    """A step of a run: its shards, and the pipeline's resources under their plain names."""

    context: dg.AssetExecutionContext
    names: Names
    step: Step

    @property
    def shards(self) -> list[str]:
        return list(self.context.partition_keys)

    @property
    def left(self) -> list[str]:
        """The shards that the step has not been reported for."""
        return [shard for shard in self.shards if not self.is_reported(self.step, shard)]

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
