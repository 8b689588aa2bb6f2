"""Materializing shards in this process, with the history kept in the Dagster instance. What the command line does."""

import logging
import uuid
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import dagster as dg
from dagster._utils import interrupts

from caption_assets.defs.assets import PipelineAsset
from caption_assets.defs.deployed import DeployedRuns, EndedRun
from caption_assets.defs.partitions import add_new_shards, ranges, registered_shards
from caption_assets.defs.pipeline import Pipeline
from caption_assets.defs.pools import COMMAND_TAG, looked_after
from caption_assets.defs.tags import trial_tags
from caption_assets.steps import Progress
from caption_assets.steps.progress import Relay
from caption_assets.steps.sharding import dataset_for
from caption_assets.steps.trial import Trial

log = logging.getLogger(__name__)
# Of each check of a run, Dagster first stores for every shard what it intends, with the names of all shards of the run.
_MOST_CHECKED = 256


def materialize_shards(
    instance: dg.DagsterInstance,
    pipeline: Pipeline,
    shards: Sequence[str],
    steps: Container[str],
    progress: Progress,
    trial: Trial | None = None,
) -> set[str]:
    """Materializes the pipeline's assets of `steps`, by their names, for `shards`; returns the shards that failed.

    Assets that need each other go one after the other, the others together, each time in one run for a contiguous
    range of shards, so that its engine starts once and is closed before the next one's; the checks of many shards have
    runs of their own after it. A shard that fails in one asset is left out of those that need it. `trial` says how much
    of each shard. Raises KeyboardInterrupt where a run was interrupted.
    """
    settings = pipeline.settings
    dataset = dataset_for(settings.dataset, settings.clips, settings.output)
    add_new_shards(instance, pipeline.shards, dataset)
    command = str(uuid.uuid4())
    with looked_after(instance, command), _signals_as_they_are():
        tags = {COMMAND_TAG: command, **trial_tags(trial or Trial())}
        return _Command(instance, pipeline, tags, _Listener(progress)).materialize(shards, steps)


@contextmanager
def _signals_as_they_are() -> Iterator[None]:
    """Keeps Dagster from handling signals in its own way: between two steps, as while one waits for a pool, it would
    only note them, and it has SIGTERM do what Ctrl-C does."""
    replace = interrupts._replace_interrupt_signal
    interrupts._replace_interrupt_signal = lambda new_signal_handler: None
    try:
        yield
    finally:
        interrupts._replace_interrupt_signal = replace


@dataclass(frozen=True)
class _Command:
    """A call of the command, which makes one or more runs."""

    instance: dg.DagsterInstance
    pipeline: Pipeline
    tags: Mapping[str, str]
    heard: "_Listener"

    @cached_property
    def runs(self) -> DeployedRuns:
        given = {"workers": self.pipeline.resources[self.pipeline.names.of("workers")], "progress": self.heard}
        return DeployedRuns(self.instance, self.pipeline, given)

    def materialize(self, shards: Sequence[str], steps: Container[str]) -> set[str]:
        order = registered_shards(self.instance, self.pipeline.shards)
        failed: dict[dg.AssetKey, set[str]] = {}
        for stage in self._stages():
            wanted = [made for made in stage if made.step.name in steps]
            if not wanted:
                continue
            needs = {key for made in wanted for key in made.definition.dependency_keys}
            blocked = set().union(*(failed.get(need, set()) for need in needs))
            for keys in ranges([shard for shard in shards if shard not in blocked], order):
                self._run(wanted, keys)
            for made in wanted:
                name = made.step.name
                key = made.choice.key
                finished = {shard for asset, of, shard in self.heard.finished if (asset, of) == (name, key)}
                failed[made.definition.key] = set(shards) - finished
        return set().union(*failed.values())

    def _run(self, wanted: Sequence[PipelineAsset], keys: tuple[str, ...]) -> None:
        checks = len(keys) <= _MOST_CHECKED
        ended, heard = self.runs.materialize(wanted, keys, self.tags, checks=checks), self.heard
        self._end(ended, wanted)
        for made in wanted:
            error = ended.errors.get(made.definition.op.name)
            text = _root(error).message.strip() if error else "the run failed; see its events"
            for shard in keys if not ended.success else ():
                one = made.step.name, made.choice.key, shard
                if one not in heard.finished and one not in heard.failures:
                    heard.failed(made.step.name, shard, RuntimeError(text), one[1])
        if not checks:
            names = {made.step.name for made in wanted}
            good = {shard for asset, _, shard in heard.finished if asset in names}
            for few in ranges([shard for shard in keys if shard in good], list(keys), _MOST_CHECKED):
                self._end(self.runs.check(wanted, few, self.tags), ())

    def _end(self, ended: EndedRun, wanted: Sequence[PipelineAsset]) -> None:
        """Says what else has failed than `wanted`."""
        if ended.interrupted:
            raise KeyboardInterrupt  # Dagster has made a failed run of it
        for step in ended.errors.keys() - {made.definition.op.name for made in wanted}:
            log.warning("%s: %s", step, _root(ended.errors[step]).message.strip())

    def _stages(self) -> list[list[PipelineAsset]]:
        """The assets in the order of their needs; those of a stage need nothing of each other, and share a run."""
        stages: list[list[PipelineAsset]] = []
        done = {self.pipeline.source.key}
        while left := [made for made in self.pipeline.made if made.definition.key not in done]:
            stages.append([made for made in left if done.issuperset(made.definition.dependency_keys)])
            done |= {made.definition.key for made in stages[-1]}
        return stages


def _root(error: Any) -> Any:
    """What was raised first; Dagster wraps it in errors of its own."""
    return _root(error.cause) if error.cause else error


class _Listener(Relay):
    """Passes everything on and remembers which shards ended how, by asset and key."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(progress)
        self.finished: set[tuple[str, str, str]] = set()
        self.failures: set[tuple[str, str, str]] = set()

    def done(self, report: Any) -> None:
        self.finished.add((report.asset, report.key, report.shard))
        super().done(report)

    def failed(self, asset: str, shard: str, error: Exception, key: str = "") -> None:
        self.failures.add((asset, key, shard))
        super().failed(asset, shard, error, key)
