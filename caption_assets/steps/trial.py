"""How much of a shard a run is about: all of it, or its first clips, to try what is chosen before the long run."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from caption_assets.store.rows import WindowRow

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Trial:
    """`limit` are the first clips of each shard, in the order of their paths, that are worked on; None are all. What
    there is of the others stays as it is. With `verify`, clips that seem not to have changed are read all the same.
    """

    limit: int | None = None
    verify: bool = False

    def first(self, clips: list[T]) -> list[T]:
        """Those of a shard's clips, or whatever there is of each, that are worked on."""
        return clips[: self.limit]

    def clips_of(self, windows: Iterable[WindowRow]) -> frozenset[str]:
        """The ids of those clips by the shard's planned windows."""
        paths = {row.relative_path: row.clip_id for row in windows}
        return frozenset(paths[path] for path in self.first(sorted(paths)))
