"""Several roots as one dataset."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from caption_assets.dataset.base import Dataset, LeftOut, Listing, left_out, seen_of, unknown_shard
from caption_assets.dataset.choose import ChosenDataset
from caption_assets.dataset.ids import clip_id, shard_key, shard_name
from caption_assets.dataset.places import refused
from caption_assets.names import named_root
from caption_assets.records import Clip
from caption_assets.settings import DatasetSettings


class SeveralDatasets:
    """A `Dataset` of the shards of several, each of its own kind.

    A shard's name begins with that of its root, `<root>/<shard>`, and so do its clips' paths. A root is called as its
    folder or file, or by what is written before it: `cars=s3://bucket/clips`.
    """

    def __init__(self, roots: Sequence[str], settings: DatasetSettings) -> None:
        self.root = "\n".join(roots)
        named = [(name or root.rstrip("/").rpartition("/")[2], root) for name, root in map(named_root, roots)]
        twice = [name for name, count in Counter(name for name, _ in named).items() if count > 1]
        if twice:
            wrong = f"two of them are called {twice[0]!r}, which begins the names of their shards"
            raise refused(self.root.replace("\n", " "), wrong, "give them names: cars=s3://bucket/clips")
        self._datasets = {name: ChosenDataset(root, settings) for name, root in named}

    def shards(self) -> list[str]:
        return [_joined(name, key) for name, dataset in self._datasets.items() for key in dataset.shards()]

    def clips(self, shard: str) -> list[Clip]:
        return self.listing(shard).clips

    def listing(self, shard: str) -> Listing:
        name, dataset, key = self._of(shard)
        found = dataset.listing(key)
        seen = [seen_of(clip) for clip in found.clips] if found.seen is None else found.seen
        return Listing([_below(name, shard, clip) for clip in found.clips], found.left_out, seen)

    def beside(self) -> list[LeftOut]:
        found = [(name, of) for name, dataset in self._datasets.items() for of in dataset.beside()]
        return left_out((of.what, f"{name}/{path}") for name, of in found for path in of.names)

    def versions(self, shards: Sequence[str], start: int = 0) -> Iterator[tuple[str, str]]:
        at = start
        while at < len(shards):
            name, dataset, _ = self._of(shards[at])
            end = at
            while end < len(shards) and self._of(shards[end])[0] == name:
                end += 1
            for key, version in dataset.versions([self._of(shard)[2] for shard in shards[at:end]]):
                yield _joined(name, key), version
            at = end

    def path_of(self, clip: Clip) -> str | None:
        for name, dataset in self._datasets.items():
            start = f"{name}/"
            if clip.relative_path and not clip.relative_path.startswith(start):
                continue
            key, path = shard_key(shard_name(clip.shard).removeprefix(start)), clip.relative_path.removeprefix(start)
            inner = dataset.path_of(replace(clip, shard=key, relative_path=path))
            if inner is not None:
                return f"{name}/{inner}"
        return None

    def _of(self, shard: str) -> tuple[str, Dataset, str]:
        """The name of a shard's root, the dataset there, and the shard's key in it."""
        name, slash, rest = shard_name(shard).partition("/")
        if not slash or name not in self._datasets:
            raise unknown_shard(self, shard)
        return name, self._datasets[name], shard_key(rest)


def _joined(name: str, key: str) -> str:
    return shard_key(f"{name}/{shard_name(key)}")


def _below(name: str, shard: str, clip: Clip) -> Clip:
    """A clip of the dataset called `name`. An id that is made from the path is made from all of it."""
    relative = f"{name}/{clip.relative_path}"
    own = clip_id(relative) if clip.clip_id == clip_id(clip.relative_path) else clip.clip_id
    return replace(clip, clip_id=own, shard=shard, relative_path=relative)
