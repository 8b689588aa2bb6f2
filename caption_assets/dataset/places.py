"""Folders that hold clips, of this machine or behind an fsspec URL: what is in them, and what they say of a file."""

import inspect
import os
import stat
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from caption_assets.names import open_url
from caption_assets.records import file_stamp

# What file systems call a file's version.
_VERSIONS = (
    "ETag",
    "etag",
    "generation",
    "md5Hash",
    "mtime",
    "LastModified",
    "Last-Modified",
    "created",
)
# So few folders share a listing that one of many large folders still ends soon.
_LISTED_TOGETHER = 100
NO_PERMISSION = "folders without permission to read them"
_SPECIAL = {stat.S_IFIFO: "named pipes", stat.S_IFSOCK: "sockets", stat.S_IFBLK: "devices", stat.S_IFCHR: "devices"}


@dataclass(frozen=True, slots=True)
class File:
    """Something in a folder, by its posix path below it. `trouble` says what it is where no file can be read there.

    `stamp` tells versions of the file apart; None where nothing does.
    """

    path: str
    stamp: str | None = None
    trouble: str = ""


class Place(Protocol):
    """A folder. Methods raise OSError, or whatever error its file system has."""

    @property
    def name(self) -> str:
        """Of the folder itself."""

    def location(self, path: str) -> str:
        """Path or URL of what lies at a path below it."""

    def top(self) -> tuple[list[str], list[str]]:
        """Names of its folders, and of what else is in it. Raises FileNotFoundError, NotADirectoryError."""

    def files(self, folder: str) -> Iterator[File]:
        """All files below one of its folders, or below itself ("")."""

    def each(self, folders: Sequence[str], start: int) -> Iterator[tuple[int, list[File]]]:
        """The number of every one of `folders` from number `start` on, and all files below it; none if it is gone.

        `folders` are all that it has. They are listed as they are asked for.
        """


class LocalPlace:
    """A folder of this machine."""

    def __init__(self, root: str) -> None:
        self._root = os.path.abspath(os.path.expanduser(root))  # without "..": paths end up in documents

    @property
    def name(self) -> str:
        return os.path.basename(self._root)

    def location(self, path: str) -> str:
        return os.path.join(self._root, path)

    def top(self) -> tuple[list[str], list[str]]:
        folders, others = [], []
        with os.scandir(self._root) as entries:
            for entry in entries:
                # A link that leads nowhere is a clip that is missing; a named pipe is none.
                if _is_folder(entry):
                    folders.append(entry.name)
                elif entry.is_symlink() or entry.is_file():
                    others.append(entry.name)
        return folders, others

    def files(self, folder: str) -> Iterator[File]:
        yield from self._below(folder, ())

    def each(self, folders: Sequence[str], start: int) -> Iterator[tuple[int, list[File]]]:
        for number in range(start, len(folders)):
            yield number, _files_if_there(self, folders[number])

    def _below(self, folder: str, above: tuple[tuple[int, int], ...]) -> Iterator[File]:
        """Links are followed; `above` are the folders that lead here, by device and inode."""
        path = self.location(folder)
        try:
            found = os.stat(path)
            own = found.st_dev, found.st_ino
            if own in above:
                yield File(f"{folder}/", trouble="folders that a link in them leads back to")
                return
            with os.scandir(path) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name)
        except PermissionError:
            yield File(f"{folder}/", trouble=NO_PERMISSION)
            return
        for entry in entries:
            below = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name.startswith("."):
                yield File(below + "/" * _is_folder(entry), trouble="hidden")
            elif _is_folder(entry):
                yield from self._below(below, (*above, own))
            else:
                yield self._file(below, entry)

    def _file(self, path: str, entry: os.DirEntry[str]) -> File:
        try:
            found = entry.stat()
        except OSError:  # a link that leads nowhere, or a file that is gone: whoever opens it says so
            return File(path)
        if not stat.S_ISREG(found.st_mode):
            return File(path, trouble=_SPECIAL.get(stat.S_IFMT(found.st_mode), "special files"))
        return File(path, file_stamp(found))


class RemotePlace:
    """A folder of an object store, a server or fsspec's memory."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        files, path = open_url(self._url)
        return files, path.rstrip("/")

    @property
    def name(self) -> str:
        return self._url.rpartition("/")[2]

    def location(self, path: str) -> str:
        return f"{self._url}/{path}"

    def top(self) -> tuple[list[str], list[str]]:
        files, root = self._opened
        files.invalidate_cache()  # for as long as a process lives, a listing is of the moment that it is asked for
        entries = files.ls(root, detail=True)
        if any(entry["name"].strip("/") == root.strip("/") and entry["type"] == "file" for entry in entries):
            raise NotADirectoryError(self._url)
        folders = {name for entry in entries if entry["type"] == "directory" and (name := self._below(entry["name"]))}
        others = {name for entry in entries if entry["type"] == "file" and (name := self._below(entry["name"]))}
        return [name.strip("/") for name in folders], list(others)

    def files(self, folder: str) -> Iterator[File]:
        files, root = self._opened
        files.invalidate_cache()
        yield from self._listed(folder, files.find(f"{root}/{folder}" if folder else root, detail=True))

    def each(self, folders: Sequence[str], start: int) -> Iterator[tuple[int, list[File]]]:
        files, root = self._opened
        if len(folders) == 1 or "prefix" not in inspect.signature(files.find).parameters:
            for number in range(start, len(folders)):
                yield number, _files_if_there(self, folders[number])
            return
        # An object store lists a thousand files a request, of all folders whose names begin alike.
        for prefix, numbers in _by_prefix(folders, range(len(folders))):
            if not (wanted := [number for number in numbers if number >= start]):
                continue
            files.invalidate_cache()
            found: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
            for path, info in files.find(root, detail=True, prefix=prefix).items():
                found[self._below(path).partition("/")[0]][path] = info
            for number in wanted:
                yield number, list(self._listed(folders[number], found[folders[number]]))

    def _listed(self, folder: str, found: Mapping[str, Mapping[str, Any]]) -> Iterator[File]:
        """What `found` says of the files of a folder, by path as this file system spells it."""
        hidden = set()
        for path in sorted(found):
            below = self._below(path)
            if below.endswith("/"):  # an empty object that stands for a folder
                continue
            parts = below.removeprefix(f"{folder}/").split("/")
            depth = next((k for k, part in enumerate(parts) if part.startswith(".") and part.strip(".")), None)
            if depth is None:
                yield File(below, self._stamp(path, found[path]))
            elif (top := "/".join(parts[: depth + 1]) + "/" * (depth + 1 < len(parts))) not in hidden:
                hidden.add(top)
                yield File(f"{folder}/{top}" if folder else top, trouble="hidden")

    def _below(self, path: str) -> str:
        """A path, as this file system spells it, below the root."""
        root = self._opened[1].strip("/")
        return path.lstrip("/")[len(root) :].removeprefix("/") if root else path.lstrip("/")

    def _stamp(self, path: str, info: Mapping[str, Any]) -> str | None:
        """An ETag or the like, else size and times."""
        if not any(info.get(key) for key in _VERSIONS):
            try:
                info = self._opened[0].info(path)
            except OSError:
                return None
        versions = [str(info[key]) for key in _VERSIONS if info.get(key)]
        return " ".join([str(info.get("size")), *versions]) if versions else None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _files_if_there(place: Place, folder: str) -> list[File]:
    try:
        return list(place.files(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _by_prefix(names: Sequence[str], numbers: Sequence[int]) -> Iterator[tuple[str, Sequence[int]]]:
    """Groups of few of the names, by number and in their order: those that begin with a prefix, and no others do."""
    prefix = os.path.commonprefix([names[number] for number in numbers])  # noqa: RUF071
    if len(numbers) <= _LISTED_TOGETHER:
        yield prefix, numbers
        return
    by_next: dict[str, list[int]] = defaultdict(list)
    for number in numbers:
        by_next[names[number][len(prefix) : len(prefix) + 1]].append(number)
    if "" in by_next:  # a name that others begin with is listed with the files that lie in it
        yield f"{prefix}/", by_next.pop("")
    for group in by_next.values():
        yield from _by_prefix(names, group)
