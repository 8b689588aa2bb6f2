"""What every dataset is: shards, and the clips of a shard."""

from typing import Protocol

from caption_assets.records import Clip


class Dataset(Protocol):
    """Clips by shard. Listing is cheap; no clip is opened."""

    @property
    def root(self) -> str:
        """What the user gave: a folder, a URL."""
        ...

    def shards(self) -> list[str]:
        """Partition keys of all shards, in a stable order. Raises DatasetError where there is none."""
        ...

    def clips(self, shard: str) -> list[Clip]:
        """All clips of a shard, in a stable order. Raises DatasetError for an unknown shard or one without a clip."""
        ...
