"""The worker processes of a run, as a resource: made in one place, shared by all assets of the run."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

import dagster as dg

from caption_assets.defs.placing import makes
from caption_assets.defs.pools import looked_after
from caption_assets.errors import ModelError
from caption_assets.settings import WorkerSettings
from caption_assets.steps.progress import Progress
from caption_assets.steps.telemetry import telemetry
from caption_assets.store.tables import ENHANCED_CAPTIONS, WINDOW_CAPTIONS
from caption_assets.workers.base import ClipWorkers
from caption_assets.workers.local import Workers


@dataclass(frozen=True)
class SharedWorkers:
    """What the assets of a run share: its worker processes, with their copies of remote clips.

    Where the steps of a run share this process, as they do by default, `reported` hands on what one has done for
    another asset of the run on its way: by (asset, shard) why it failed, or None where it is good; and `given_up` has
    the models, by their settings, that could not be started or went on no longer. `telemetry` makes seen from outside
    how the run gets on.
    """

    clip_workers: ClipWorkers
    telemetry: Progress = field(default_factory=Progress)
    reported: dict[tuple[str, str], str | None] = field(default_factory=dict)
    given_up: dict[str, ModelError] = field(default_factory=dict)


# A GPU that waits costs more than a core: beside a run that asks a model, others get what it leaves of the cores.
_NICE = 10


class RunWorkers(dg.ConfigurableResource, WorkerSettings):
    """The worker processes of a run, and what clips may ask of them. They start with the first clip."""

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[SharedWorkers]:
        """The processes, for as long as the run or, where steps have processes of their own, the step."""
        run, instance = context.run, context.instance
        if run is None or instance is None:
            life: AbstractContextManager[None] = nullcontext()
        else:
            life = looked_after(instance, run.run_id, lambda text: instance.report_engine_event(text, run))
        run_id = run.run_id if run else None
        asks = run is None or not run.asset_selection or makes(run, WINDOW_CAPTIONS, ENHANCED_CAPTIONS)
        workers = Workers.from_settings(self, nice=0 if asks else _NICE)
        # What is seen from outside ends last: no slot of a pool waits for a collector.
        with telemetry(run_id) as told, life, workers as clip_workers:
            yield SharedWorkers(clip_workers, told)
