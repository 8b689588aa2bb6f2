"""An output root and its files: bytes, written whole and read back, on whatever place it lies."""

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import EllipsisType
from typing import BinaryIO, Self, TypeVar

from upath import UPath

from caption_assets.errors import StoreError
from caption_assets.names import written
from caption_assets.store.files import open_files

Item = TypeVar("Item")
Result = TypeVar("Result")


class Root:
    """An output root: local path, `memory://`, `s3://…` or whatever else fsspec opens.

    All `rel` arguments are posix paths relative to the root, as the rooms' `paths` gives them. Every failure of the
    place itself is a StoreError. Creating a Root touches nothing.
    """

    def __init__(self, root: str | os.PathLike[str] | UPath) -> None:
        self._root = root
        self._files = open_files(root)
        self._lock = threading.Lock()
        # What was read once and for all.
        self._names: dict[str, list[str]] = {}
        self._bytes: dict[str, bytes | None] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._files.url!r})"

    def below(self, rel: str) -> Self:
        """A folder of it as a root of its own."""
        return type(self)(UPath(self._root) / checked(rel))

    def url(self, rel: str = "") -> str:
        """Absolute path or URL of a file, or of the root, as `names.written` has it."""
        return written(f"{self._files.url}/{checked(rel)}" if rel else self._files.url)

    def check_writable(self) -> None:
        """Raise StoreError where nothing could be written, before anything has been created."""
        self._files.check_writable()

    def read_bytes(self, rel: str) -> bytes | None:
        """A file's bytes, None where there is none."""
        return self._files.read(checked(rel))

    def write_bytes(self, rel: str, data: bytes) -> None:
        """Write a file whole and durably, over any older one."""
        self._files.write(checked(rel), data, durable=True)

    def write_if_changed(self, rel: str, data: bytes, *, known: bytes | EllipsisType | None = ...) -> bool:
        """Write a file unless it already holds exactly `data`; returns whether it was written.

        `known` is what the file holds, where the caller has just read it. Not synced to disk: for what is rendered
        from the tables and can be rendered again.
        """
        if (self._files.read(checked(rel)) if known is ... else known) == data:
            return False
        self._files.write(checked(rel), data, durable=False)
        return True

    def draft(self) -> BinaryIO:
        """A new file of this machine, open for writing, for what is too large for memory. Then `place` it by its
        `name`, or remove it; what is left of them goes with this store."""
        return self._files.draft()

    def place(self, path: str, rel: str) -> None:
        """Put a draft, or a link in place of one, where it belongs, over any older file. Not synced to disk."""
        self._files.place(path, checked(rel))

    def write_where(self, rel: str, data: bytes, held: str | None) -> bool:
        """Write a file where it has just the bytes with this MD5 (None: where there is none), with one request.

        False, and nothing is written, where that is not so, and where the place cannot tell, as a local folder cannot:
        the caller then looks. Not synced to disk.
        """
        return self._files.write_where(checked(rel), data, held)

    def delete(self, rel: str) -> None:
        """Delete one file, if it is there."""
        self._files.delete(checked(rel))

    def remove(self, rels: Sequence[str]) -> None:
        """Delete files, and their folders if these are empty then."""
        self.each(self.delete, rels)
        for folder in sorted({rel.rpartition("/")[0] for rel in rels}):
            self._files.delete_empty_folder(folder)

    def delete_empty_folder(self, rel: str) -> None:
        """Delete a folder if it is there and empty."""
        self._files.delete_empty_folder(checked(rel))

    def names(self, rel: str | None = None) -> list[str]:
        """Names of the files and folders directly in a folder, by default the root, sorted; empty where there is no
        such folder."""
        return self._files.names("" if rel is None else checked(rel))

    def names_once(self, rel: str) -> list[str]:
        """`names` as they were when first asked for: what is written later does not show."""
        if rel not in self._names:
            self._names[rel] = self.names(rel)
        return self._names[rel]

    def read_bytes_once(self, rel: str) -> bytes | None:
        """A file's bytes as they were when first asked for."""
        if rel not in self._bytes:
            self._bytes[rel] = self.read_bytes(rel)
        return self._bytes[rel]

    @property
    def at_once(self) -> int:
        """How many requests are worth having under way together; 1 where each is quick."""
        return self._files.at_once

    @property
    def looks_cost_nothing(self) -> bool:
        """Whether a look at a file is no request to another machine."""
        return self.at_once == 1

    def sizes(self, rels: Iterable[str]) -> dict[str, int | None]:
        """The bytes of files, None for one that is gone. On an object store, a request each."""
        rels = [checked(rel) for rel in rels]
        return dict(zip(rels, self.each(self._files.size, rels), strict=True))

    def stamps(self, rels: Iterable[str]) -> dict[str, str | None] | None:
        """What tells versions of files apart, None for one that is gone. None at all where that takes a request a file:
        there, what was written once is taken to be there still."""
        return {rel: self._files.stamp(checked(rel)) for rel in rels} if self.looks_cost_nothing else None

    def each(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """`work` of every item, several at once where that is what a place is good at."""
        if self.looks_cost_nothing:
            return [work(item) for item in items]
        with ThreadPoolExecutor(self.at_once, thread_name_prefix="store") as threads:
            return list(threads.map(work, items))


def checked(rel: str) -> str:
    """`rel`, if it stays below the root. Documents of other tools name paths, too."""
    if not rel or "\0" in rel or any(part in ("", ".", "..") for part in rel.split("/")):
        raise StoreError(f"path {rel!r} below the output root", "it leads elsewhere", "name a file below the root")
    return rel
