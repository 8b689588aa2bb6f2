"""What every step is given besides its shards and its settings."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from caption_assets.settings import QualitySettings
from caption_assets.steps.progress import Progress
from caption_assets.steps.trial import Trial
from caption_assets.store.store import Store
from caption_assets.workers.base import ClipWorkers

# Each has some requests under way together.
_SHARDS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class StepContext:
    """Where a step reads and writes, who does the work on clips, and who is told how it gets on.

    `source_root` is the folder that a splitter read, for clips that one has cut. `quality` says what rules have against
    texts, and `trial` how much of a shard is worked on. `run_id` names the run in the table of what runs cost. Of one
    context, steps run one after the other.
    """

    store: Store
    workers: ClipWorkers
    source_root: str | None = None
    quality: QualitySettings = field(default_factory=QualitySettings)
    trial: Trial = field(default_factory=Trial)
    progress: Progress = field(default_factory=Progress)
    run_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def shards_at_once(self) -> int:
        """How many shards of a step may be read ahead, and finished behind, beside the one that is worked on."""
        return 1 if self.store.looks_cost_nothing else _SHARDS_AT_ONCE

    def stopwatch(self) -> Callable[[], float]:
        """Begins to count the seconds that a shard takes; what is returned says how many they are by now.

        The start of the workers is not the first shard's, as that of an engine is not.
        """
        began, started = time.perf_counter(), self.workers.start_seconds
        return lambda: time.perf_counter() - began - (self.workers.start_seconds - started)
