"""What every dataset is: shards, and the clips of a shard."""

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from caption_assets.errors import DatasetError
from caption_assets.records import Clip

NO_CLIPS = "no clips"
"""The version of a shard's listing without any clip, and of a shard that is gone."""
_SHOWN = 3
_SHOWN_SHARDS = 10


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
    """What a shard holds: its clips in a stable order, and what is none.

    `seen` is what its version is made of where that is not each clip's path and stamp.
    """

    clips: list[Clip]
    left_out: list[LeftOut] = field(default_factory=list)
    seen: Sequence[tuple[str, str | None]] | None = None

    @property
    def version(self) -> str:
        """See `listing_version`."""
        return listing_version(map(seen_of, self.clips) if self.seen is None else self.seen)


def seen_of(clip: Clip) -> tuple[str, str | None]:
    """What tells a clip from what it was before, by what its dataset says."""
    stamp = clip.stamp
    if clip.columns:
        stamp = f"{stamp} {json.dumps(clip.columns, sort_keys=True)}"
    return clip.relative_path, stamp


def listing_version(seen: Iterable[tuple[str, str | None]]) -> str:
    """What tells apart two listings of a shard whose clips differ, by their relative paths and stamps, in any order."""
    listed = sorted(seen, key=lambda pair: (pair[0], pair[1] or ""))
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:32] if listed else NO_CLIPS


def as_json(value: Any) -> Any:
    """What a dataset says of a clip, as JSON has it: what that has no word for, as NaN or bytes, is null; dates and the
    like are text."""
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case bytes():
            return None
        case Mapping():
            return {as_json(str(name)): as_json(each) for name, each in value.items()}
        case list() | tuple():
            return [as_json(each) for each in value]
    return str(value).encode("utf-8", "backslashreplace").decode()


def left_out(named: Iterable[tuple[str, str]]) -> list[LeftOut]:
    """From pairs of what something is and its name."""
    names = defaultdict(list)
    for what, name in named:
        names[what].append(name)
    return [LeftOut(what, of_kind) for what, of_kind in sorted(names.items())]


class Dataset(Protocol):
    """Clips by shard. Listing is cheap; no clip is opened."""

    @property
    def root(self) -> str:
        """What the user gave: a folder, a URL, a manifest, or several, a line each."""
        ...

    def shards(self) -> list[str]:
        """Partition keys of all shards, in a stable order. Raises DatasetError where there is none."""
        ...

    def listing(self, shard: str) -> Listing:
        """All that a shard holds. Raises DatasetError for an unknown shard."""
        ...

    def clips(self, shard: str) -> list[Clip]:
        """The clips of `listing`."""
        ...

    def beside(self) -> list[LeftOut]:
        """What lies in the root and belongs to no shard. Raises DatasetError where the root cannot be read."""
        ...

    def versions(self, shards: Sequence[str], start: int = 0) -> Iterator[tuple[str, str]]:
        """The `Listing.version` of each of `shards`, by key, from number `start` on; NO_CLIPS where it has none.

        `shards` are those of `shards()`. Listed as they are asked for, in as few requests as the place of the dataset
        allows, so that one may stop at any and go on there later.
        """
        ...

    def path_of(self, clip: Clip) -> str | None:
        """The path below the root of a clip that may be gone, by its location; None where it was none of this
        dataset's, or nothing tells. Its shard and its path, which only some kinds need, are empty where they are not
        known."""
        ...


def unknown_shard(dataset: Dataset, shard: str) -> DatasetError:
    """The error for a shard that a dataset does not have."""
    shards = dataset.shards()
    shown = ", ".join(shards[:_SHOWN_SHARDS]) + (", …" if len(shards) > _SHOWN_SHARDS else "")
    return DatasetError(f"shard {shard!r} of dataset {dataset.root!r}", "it is unknown", f"choose: {shown}")
