"""What every step is given besides its shards and its settings."""

from dataclasses import dataclass, field

from caption_assets.steps.report import Progress
from caption_assets.store.store import Store
from caption_assets.workers.base import ClipWorkers

# Each has some requests under way together.
_SHARDS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class StepContext:
    """Where a step reads and writes, who does the work on clips, and who is told how it gets on.

    `source_root` is the folder that a splitter read, for clips that one has cut. Of one context, steps run one after
    the other.
    """

    store: Store
    workers: ClipWorkers
    source_root: str | None = None
    progress: Progress = field(default_factory=Progress)

    @property
    def shards_at_once(self) -> int:
        """How many shards of a step may be read ahead, and finished behind, beside the one that is worked on."""
        return 1 if self.store.looks_cost_nothing else _SHARDS_AT_ONCE
