"""One step in a Dagster run, as the assets' bodies and the reporting see it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import dagster as dg

from caption_assets.defs.backfills import backfill_sentence
from caption_assets.defs.lineage import failed_before
from caption_assets.defs.names import Names
from caption_assets.defs.tags import trial_of
from caption_assets.errors import ModelError
from caption_assets.models.engines.session import EngineSession
from caption_assets.settings import CaptionSettings, PreviewSettings, QualitySettings, part
from caption_assets.steps import Ended, ProgressLog, StepContext
from caption_assets.steps.choices import Choice, previews_choice
from caption_assets.steps.progress import Relay
from caption_assets.steps.report import Step
from caption_assets.steps.trial import Trial


@dataclass(frozen=True)
class StepRun:
    """A step of a run: its shards, what it is to make, and the pipeline's resources under their plain names.

    `models` has the names of the resources of models. `beside` is how it makes previews on its way, if it does.
    Of captions, `captions` has those that it makes, its own and others, by the names of their prompts.
    """

    context: dg.AssetExecutionContext
    names: Names
    choice: Choice
    models: Mapping[str, str] = field(default_factory=dict)
    beside: PreviewSettings | None = None
    captions: Mapping[str, tuple[CaptionSettings, Choice]] = field(default_factory=dict)

    @property
    def step(self) -> Step:
        return self.choice.step

    @cached_property
    def not_ready(self) -> list[Ended]:
        """How the step ends for the shards that an earlier step of the run has failed in."""
        failed = failed_before(self.context, self.inputs)
        return [Ended(self.step.name, shard, self.step.not_ready(shard, text)) for shard, text in failed.items()]

    @property
    def inputs(self) -> list[dg.AssetKey]:
        """The assets whose tables it reads."""
        return [self.names.asset(table, *self.choice.keys) for table in self.step.reads]

    @cached_property
    def shards(self) -> list[str]:
        """Those of the run that are ready for the step."""
        not_ready = {ended.shard for ended in self.not_ready}
        return [shard for shard in self.context.partition_keys if shard not in not_ready]

    @property
    def left(self) -> list[str]:
        """Its shards that no other step of the run has made on its way."""
        asset = self.asset_of(self.choice).to_user_string()
        return [shard for shard in self.shards if (asset, shard) not in self.reported]

    @cached_property
    def progress(self) -> ProgressLog:
        """Tells the run's log, the pipeline's resource and what is seen from outside how the shards that are left get
        on."""
        instance, run, asset = self.context.instance, self.context.run, self.asset_of(self.choice)
        return ProgressLog(
            self.step,
            self.left,
            self.context.log.info,
            Relay(self.resource("progress"), self.resource("workers").telemetry),
            beyond=lambda: backfill_sentence(instance, run, asset),
        )

    @property
    def reported(self) -> dict[tuple[str, str], str | None]:
        """How shards ended that this run has reported: see `SharedWorkers`."""
        return self.resource("workers").reported

    def resource(self, word: str) -> Any:
        return getattr(self.context.resources, self.names.of(self.models.get(word, word)))

    @contextmanager
    def session(self, word: str, batch_size: int, *, several: bool = False) -> Iterator[EngineSession]:
        """A session of the model that the body knows by this word. Raises ModelError as the model does, and at once
        where it has been given up in this run."""
        model, given_up = self.resource(word), self.resource("workers").given_up
        chosen = model.model_dump_json()
        if chosen in given_up:
            raise given_up[chosen]
        try:
            with model.session(batch_size, several=several) as session:
                yield session
        except ModelError as error:
            given_up[chosen] = error
            raise

    def given(self) -> StepContext:
        """What the step is given. Raises StoreError where nothing can be written."""
        save_export, workers = self.resource("save_export"), self.resource("workers")
        quality = part(self.resource("quality"), QualitySettings)
        store, source_root = save_export.store(), save_export.source_root
        run_id = self.context.run.run_id
        return StepContext(store, workers.clip_workers, source_root, quality, self.trial, self.progress, run_id)

    @property
    def trial(self) -> Trial:
        """How much of each shard the run is about."""
        return trial_of(self.context.run.tags)

    def choice_of(self, ended: Ended) -> Choice:
        """What was to be made of a shard that has ended: by this step, or on its way."""
        if self.beside is not None and ended.asset != self.step.name:
            return previews_choice(self.beside)
        by_key = {choice.keys[0]: choice for _, choice in self.captions.values()}
        return by_key.get(ended.key, self.choice)

    def asset_of(self, choice: Choice) -> dg.AssetKey:
        """The asset that a choice makes. A run's config may choose a model with another key than the deployment's."""
        return self.names.asset(choice.step.table, *choice.keys)
