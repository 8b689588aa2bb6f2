"""The worker processes of a run, as a resource: made in one place, shared by all assets of the run."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from pydantic import PrivateAttr

from caption_assets.defs.reporting import Outcome
from caption_assets.settings import WorkerSettings
from caption_assets.workers.base import ClipWorkers
from caption_assets.workers.pool import Workers


class RunWorkers(dg.ConfigurableResource, WorkerSettings):
    """The worker processes of a run, and what clips may ask of them. They start with the first clip.

    Where a run's steps share a process, as they do here by default, `made` hands on what a step has done for another
    asset of the run on its way: its outcomes by (asset, shard).
    """

    _workers: ClipWorkers | None = PrivateAttr(default=None)
    _made: dict[tuple[str, str], Outcome] = PrivateAttr(default_factory=dict)

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["RunWorkers"]:
        with Workers.from_settings(self) as workers:
            self._workers, self._made = workers, {}
            yield self

    @property
    def of_run(self) -> ClipWorkers:
        """The processes of this run."""
        assert self._workers is not None, "workers belong to a run"
        return self._workers

    @property
    def made(self) -> dict[tuple[str, str], Outcome]:
        return self._made
