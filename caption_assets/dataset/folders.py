"""A root folder or URL: its sub-folders are the shards, and a shard's clips lie anywhere below it."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

from caption_assets.dataset.base import LeftOut, Listing, listing_version
from caption_assets.dataset.ids import clip_id, shard_key, shard_name
from caption_assets.dataset.places import File, LocalPlace, Place, RemotePlace
from caption_assets.errors import DatasetError
from caption_assets.names import is_remote, written
from caption_assets.records import Clip

CLIP_SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v"})
_SHOWN = 10


@dataclass(frozen=True)
class FolderDataset:
    """A `Dataset` whose root is a local path or an fsspec URL.

    A root that holds clips directly is one shard, named after the root. Links are followed; hidden files and folders,
    and whatever is no regular file, are no clips.
    """

    root: str

    @cached_property
    def _place(self) -> Place:
        root = self.root.removeprefix("file://")
        return RemotePlace(root) if is_remote(root) else LocalPlace(root)

    @cached_property
    def is_single_shard(self) -> bool:
        return self._list_top()[0]

    def shards(self) -> list[str]:
        """Partition keys of all shards, in the order of their names. Lists one folder, so it is cheap anywhere.

        Hidden folders are left out. Raises DatasetError where there is no shard at all.
        """
        is_single, folders = self._list_top()
        if is_single:
            return [self._own_key]
        if not folders:
            raise DatasetError(
                f"dataset {self.root!r}",
                f"it holds neither clips ({', '.join(sorted(CLIP_SUFFIXES))}) nor folders of clips",
                "put each shard's clips into a sub-folder",
            )
        return [shard_key(name) for name in sorted(folders)]

    def clips(self, shard: str) -> list[Clip]:
        """The clips of `listing`."""
        return self.listing(shard).clips

    def listing(self, shard: str) -> Listing:
        """All clips below the shard with partition key `shard`, in the order of their paths, and what else is there.

        Lists the shard's own folder only. Ids are not checked for being distinct: see `split_duplicates`. Raises
        DatasetError for an unknown shard or one without any clip.
        """
        folder = shard_name(shard)
        if self.is_single_shard:
            known, folder = shard == self._own_key, ""
        else:
            # No name of a folder leads out of the root, and none is written as two keys.
            known = shard_key(folder) == shard and "/" not in folder and not folder.startswith(".") and folder != ""
        if not known:
            raise self._unknown(shard)
        clips, others = [], defaultdict(list)
        try:
            with self._failures():
                for file in self._place.files(folder):
                    if what := file.trouble or _no_clip(file):
                        others[what].append(written(file.path))
                    else:
                        relative = written(file.path)
                        location = written(self._place.location(file.path))
                        clips.append(Clip(clip_id(relative), shard, location, relative, file.stamp))
        except FileNotFoundError:
            raise self._unknown(shard) from None
        clips.sort(key=lambda clip: clip.relative_path)
        left_out = [LeftOut(what, names) for what, names in sorted(others.items())]
        if not clips:
            if not others and not self.is_single_shard and shard not in self.shards():
                raise self._unknown(shard)  # object stores have no folders that could be missing
            there = f", but {'; '.join(map(str, left_out))}" if left_out else ""
            raise DatasetError(
                f"shard {written(shard_name(shard))!r} of dataset {self.root!r}",
                f"it holds no clip ({', '.join(sorted(CLIP_SUFFIXES))}){there}",
                "put clips into the folder, or remove it",
            )
        return Listing(clips, left_out)

    def versions(self, shards: Sequence[str], start: int = 0) -> Iterator[tuple[str, str]]:
        """See `Dataset.versions`. Raises DatasetError where the root cannot be read."""
        whole = list(shards) == [self._own_key] and self.is_single_shard
        with self._failures():
            for number, files in self._place.each([""] if whole else [shard_name(key) for key in shards], start):
                clips = ((written(file.path), file.stamp) for file in files if not file.trouble and not _no_clip(file))
                yield shards[number], listing_version(clips)

    @property
    def _own_key(self) -> str:
        return shard_key(self._place.name or "root")

    def _list_top(self) -> tuple[bool, list[str]]:
        """Whether the root itself holds clips, and the names of its folders that are not hidden."""
        try:
            with self._failures():
                folders, others = self._place.top()
        except FileNotFoundError:
            raise self._refused("it does not exist") from None
        except NotADirectoryError:
            raise self._refused("it is a file, not a folder") from None
        is_single = any(not name.startswith(".") and not _no_clip(File(name)) for name in others)
        return is_single, [name for name in folders if not name.startswith(".")]

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """What a file system may say, as one clear error; that something is not there is left to the caller."""
        try:
            yield
        except (FileNotFoundError, NotADirectoryError, DatasetError):
            raise
        except PermissionError as error:
            raise self._refused(
                f"access to it is refused ({error})", "check its permissions and credentials"
            ) from error
        except Exception as error:  # every file system has errors of its own
            raise self._refused(f"it cannot be read ({error or type(error).__name__})") from error

    def _refused(self, wrong: str, fix: str = "") -> DatasetError:
        fix = fix or "give the folder (or fsspec URL) whose sub-folders are the shards"
        return DatasetError(f"dataset {self.root!r}", wrong, fix)

    def _unknown(self, shard: str) -> DatasetError:
        shards = self.shards()
        shown = ", ".join(shards[:_SHOWN]) + (", …" if len(shards) > _SHOWN else "")
        return DatasetError(f"shard {shard!r} of dataset {self.root!r}", "it is unknown", f"choose: {shown}")


def _no_clip(file: File) -> str:
    """What a file is that is no clip; empty for one that is."""
    suffix = PurePosixPath(file.path).suffix.lower()
    return "" if suffix in CLIP_SUFFIXES else written(f"*{suffix}") if suffix else "without a suffix"
