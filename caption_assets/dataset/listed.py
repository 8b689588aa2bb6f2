"""Datasets whose clips are found all at once, and then put into shards: by their source, or by a hash."""

import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from caption_assets.dataset.base import LeftOut, Listing, left_out, listing_version, seen_of, unknown_shard
from caption_assets.dataset.ids import shard_key
from caption_assets.dataset.sharding import HashRule
from caption_assets.errors import DatasetError
from caption_assets.records import Clip

# For so long, a look at a shard is at what was found for others.
_FRESH_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Found:
    """Something that a dataset holds: a clip, or what it is otherwise. `shard` is the name of its shard, by the source;
    `path` is its path below the root."""

    shard: str
    path: str
    clip: Clip | None = None
    trouble: str = ""


@dataclass(slots=True)
class _Shard:
    clips: list[Clip] = field(default_factory=list)
    others: list[tuple[str, str]] = field(default_factory=list)


class ListedDataset(ABC):
    """A `Dataset` that is listed as a whole. What was found stands for a minute; `shards` looks anew."""

    def __init__(self, root: str, rule: HashRule | None = None) -> None:
        self.root = root
        self._rule = rule
        self._known: dict[str, _Shard] = {}
        self._known_until = 0.0

    @abstractmethod
    def find(self) -> Iterator[Found]:
        """All that it holds, clips with any shard's name. Raises DatasetError."""

    @abstractmethod
    def path_of(self, clip: Clip) -> str | None:
        """See `Dataset.path_of`."""

    @property
    @abstractmethod
    def wanted(self) -> str:
        """What it would have to hold where it holds no clip, as an error says it."""

    def shards(self) -> list[str]:
        """Partition keys of all shards with clips, sorted. Raises DatasetError where there is none."""
        self._known_until = 0.0
        shards = [key for key, shard in self._by_shard().items() if shard.clips]
        if not shards:
            others = [other for shard in self._known.values() for other in shard.others]
            there = f", but {'; '.join(map(str, left_out(others)))}" if others else ""
            raise DatasetError(f"dataset {self.root!r}", f"it holds no clip{there}", self.wanted)
        return shards

    def clips(self, shard: str) -> list[Clip]:
        """The clips of `listing`."""
        return self.listing(shard).clips

    def listing(self, shard: str) -> Listing:
        """All that belongs to a shard, in the order of paths. Raises DatasetError for an unknown one."""
        found = self._by_shard().get(shard)
        if found is None:
            raise unknown_shard(self, shard)
        return Listing(found.clips, left_out(found.others), [self.seen(clip) for clip in found.clips])

    def beside(self) -> list[LeftOut]:
        """Nothing: see `_with_clips`."""
        return []

    def versions(self, shards: Sequence[str], start: int = 0) -> Iterator[tuple[str, str]]:
        """See `Dataset.versions`."""
        known = self._by_shard()
        for shard in shards[start:]:
            found = known.get(shard, _Shard())
            yield shard, listing_version(map(self.seen, found.clips))

    def seen(self, clip: Clip) -> tuple[str, str | None]:
        """What its shard's version is made of."""
        return seen_of(clip)

    def _by_shard(self) -> dict[str, _Shard]:
        if time.monotonic() >= self._known_until:
            found: dict[str, _Shard] = defaultdict(_Shard)
            for each in self.find():
                key = shard_key(self._rule.shard_of(each.path) if self._rule else each.shard)
                if each.clip is None:
                    found[key].others.append((each.trouble, each.path))
                else:
                    found[key].clips.append(replace(each.clip, shard=key))
            for shard in found.values():
                shard.clips.sort(key=lambda clip: clip.relative_path)
            self._known = _with_clips(dict(sorted(found.items())))
            self._known_until = time.monotonic() + _FRESH_SECONDS
        return self._known


def _with_clips(found: dict[str, _Shard]) -> dict[str, _Shard]:
    """The shards that have clips, and with the first of them what is left out beside all of them."""
    good = {key: shard for key, shard in found.items() if shard.clips}
    if not good:
        return found
    first = next(iter(good.values()))
    for key, shard in found.items():
        if key not in good:
            first.others += shard.others
    return good
