"""What every dataset is: shards, and the clips of a shard."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from caption_assets.records import Clip

NO_CLIPS = "no clips"
"""The version of a shard's listing without any clip, and of a shard that is gone."""
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

    @property
    def version(self) -> str:
        """See `listing_version`."""
        return listing_version((clip.relative_path, clip.stamp) for clip in self.clips)


def listing_version(clips: Iterable[tuple[str, str | None]]) -> str:
    """What tells apart two listings of a shard whose clips differ, by their relative paths and stamps, in any order."""
    listed = sorted(clips)
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:32] if listed else NO_CLIPS


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

    def versions(self, shards: Sequence[str], start: int = 0) -> Iterator[tuple[str, str]]:
        """The `Listing.version` of each of `shards`, by key, from number `start` on; NO_CLIPS where it has none.

        `shards` are those of `shards()`. Listed as they are asked for, in as few requests as the place of the dataset
        allows, so that one may stop at any and go on there later.
        """
        ...
