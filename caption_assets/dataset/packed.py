"""Datasets whose shards are files, with clips inside of them."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import PurePosixPath
from typing import ClassVar

from caption_assets.dataset.base import LeftOut, Listing, left_out, listing_version, unknown_shard
from caption_assets.dataset.ids import shard_key, shard_name
from caption_assets.dataset.places import File, Place, place_at, place_failures, refused
from caption_assets.names import Bytes, Cell, part_of, written
from caption_assets.records import Clip


class PackedDataset(ABC):
    """A `Dataset` of the files with one suffix below a root, or of one such file.

    A shard is called as its file's path below the root, without the suffix, and its version is that of the file: a look
    for changes opens none.
    """

    suffix: ClassVar[str]

    def __init__(self, root: str) -> None:
        self.root = root
        folder, _, name = root.rstrip("/").rpartition("/")
        self._only = name if name.lower().endswith(self.suffix) else ""
        self._folder = (folder or "/") if self._only and "/" in root else "." if self._only else root

    @cached_property
    def place(self) -> Place:
        return place_at(self._folder)

    @abstractmethod
    def inside(self, file: File, shard: str) -> Listing:
        """What is in a file. Raises DatasetError where it is none of its kind."""

    @abstractmethod
    def path_inside(self, part: Bytes | Cell, path: str) -> str | None:
        """What a part of a file is called in it; `path` is what it was called, or empty."""

    def shards(self) -> list[str]:
        """Partition keys of all files, sorted. Raises DatasetError where there is none."""
        files = self._files()
        if not files:
            raise refused(self.root, f"it holds no file *{self.suffix}")
        return list(files)

    def clips(self, shard: str) -> list[Clip]:
        """The clips of `listing`."""
        return self.listing(shard).clips

    def listing(self, shard: str) -> Listing:
        """The clips inside of a shard's file, in their order there. Raises DatasetError for an unknown shard, and for a
        file that cannot be read."""
        path = shard_name(shard) + self.suffix
        if shard_key(shard_name(shard)) != shard or ".." in path.split("/") or (self._only and path != self._only):
            raise unknown_shard(self, shard)
        try:
            with place_failures(self.root):
                file = File(path, self.place.stamp(path))
                found = self.inside(file, shard)
        except (FileNotFoundError, NotADirectoryError):
            raise unknown_shard(self, shard) from None
        return Listing(found.clips, found.left_out, [(written(path), file.stamp)] if found.clips else ())

    def beside(self) -> list[LeftOut]:
        """Files of other kinds."""
        with place_failures(self.root):
            there = [] if self._only else [file for file in self.place.files("") if not self._is_packed(file)]
        return left_out((file.trouble or f"*{PurePosixPath(file.path).suffix}", written(file.path)) for file in there)

    def versions(self, shards: Sequence[str], start: int = 0) -> Iterator[tuple[str, str]]:
        """See `Dataset.versions`. A file without clips has a version, too: it is not opened."""
        files = self._files()
        for shard in shards[start:]:
            yield shard, listing_version([(written(files[shard].path), files[shard].stamp)] if shard in files else ())

    def path_of(self, clip: Clip) -> str | None:
        """See `Dataset.path_of`."""
        part = part_of(clip.location)
        file = self.place.path_of(part.file) if part else None
        if part is None or file is None or (self._only and file != written(self._only)):
            return None
        inside = self.path_inside(part, clip.relative_path.removeprefix(f"{file}/"))
        return f"{file}/{inside}" if inside else None

    def _files(self) -> dict[str, File]:
        try:
            with place_failures(self.root):
                if self._only:
                    return {self._key(self._only): File(self._only, self.place.stamp(self._only))}
                there = [file for file in self.place.files("") if self._is_packed(file)]
        except FileNotFoundError:
            raise refused(self.root, "it does not exist") from None
        return dict(sorted((self._key(file.path), file) for file in there))

    def _is_packed(self, file: File) -> bool:
        return not file.trouble and file.path.lower().endswith(self.suffix)

    def _key(self, path: str) -> str:
        return shard_key(path[: -len(self.suffix)])
