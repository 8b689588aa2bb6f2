"""What every dataset is: shards, and the clips of a shard."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from caption_assets.records import Clip

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What lies in a shard and is no clip: `what` it is, and the `names` of all such, as they are written."""

    what: str
    names: Sequence[str]

    def __str__(self) -> str:
        shown = ", ".join(self.names[:_SHOWN]) + (", …" if len(self.names) > _SHOWN else "")
        return f"{len(self.names)} {self.what} ({shown})"


@dataclass(frozen=True, slots=True)
class Listing:
    """What a shard holds: its clips in a stable order, and what is none."""

    clips: list[Clip]
    left_out: list[LeftOut]


class Dataset(Protocol):
    """Clips by shard. Listing is cheap; no clip is opened."""

    @property
    def root(self) -> str:
        """What the user gave: a folder, a URL."""
        ...

    def shards(self) -> list[str]:
        """Partition keys of all shards, in a stable order. Raises DatasetError where there is none."""
        ...

    def listing(self, shard: str) -> Listing:
        """All that a shard holds. Raises DatasetError for an unknown shard or one without a clip."""
        ...

    def clips(self, shard: str) -> list[Clip]:
        """The clips of `listing`."""
        ...
