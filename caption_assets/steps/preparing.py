"""How many clips are prepared at once for the engines of a run: as many as it takes that these never wait."""

import math
from functools import cached_property

from caption_assets.models.engines.session import EngineSession
from caption_assets.models.gpus import visible_gpus
from caption_assets.workers.tasks import caption_workers

# Cores that are left to each engine: for its process, and for the one that feeds it.
_ENGINE_CORES = 2
_LOOK_SECONDS = 2.0
_HUNGRY, _FULL = 0.5, 0.9


class Preparers:
    """At first so many that an ordinary clip of 1280x720 costs an engine no time, and more of them where the engines
    wait; up to all cores but those that the engines need. Where there are more GPUs than engines, others have their
    part of the cores. For the asking thread."""

    def __init__(self, processes: int, session: EngineSession) -> None:
        self._processes, self._session = processes, session
        self._more = 0
        self._for_workers = self._for_engines = 0.0

    @property
    def engines(self) -> int:
        return self._session.info.engines if self._session.started else 1

    def at_once(self) -> int:
        return min(self._least + self._more, self._most)

    def waited(self, for_workers: float, for_engines: float) -> None:
        """So many seconds the engines waited for workers that prepare windows, and prepared windows for engines."""
        if self._session.ready_at is None:
            return  # nobody waits yet
        self._for_workers += for_workers
        self._for_engines += for_engines
        total = self._for_workers + self._for_engines
        if total < _LOOK_SECONDS:
            return
        share = self._for_engines / total
        self._for_workers = self._for_engines = 0.0
        if share < _HUNGRY:
            self._more = min(math.ceil(1.25 * self.at_once()), self._most) - self._least
        elif share > _FULL:
            self._more = max(0, self._more - 1)

    @property
    def _least(self) -> int:
        return caption_workers(self._processes, self.engines)

    @property
    def _most(self) -> int:
        ours = self._processes * self.engines // max(self.engines, self._gpus)
        return max(self._least, ours - _ENGINE_CORES * self.engines)

    @cached_property
    def _gpus(self) -> int:
        return len(visible_gpus())
