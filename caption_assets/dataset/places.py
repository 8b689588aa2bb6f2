"""Folders that hold clips, of this machine or behind an fsspec URL: what is in them, and what they say of a file."""

import inspect
import os
import stat
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, BinaryIO, Protocol

from caption_assets.dataset.outputs import OF_OUTPUT, all_written_below, all_written_beside, written_beside
from caption_assets.errors import CaptionAssetsError, DatasetError, first_line
from caption_assets.names import is_remote, open_url, part_of, written
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
# Of a file that is read here and there, what each request takes beyond what was asked for.
_AHEAD_BYTES = 1 << 16
_USUAL = "give the folder (or fsspec URL) whose sub-folders are the shards, or another kind of dataset"
# So few folders share a listing that one of many large folders still ends soon.
_LISTED_TOGETHER = 100
_LISTED_AT_ONCE = 16
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


def place_at(root: str) -> "Place":
    """The folder at a local path or an fsspec URL."""
    root = root.removeprefix("file://")
    return RemotePlace(root) if is_remote(root) else LocalPlace(root)


@contextmanager
def place_failures(root: str) -> Iterator[None]:
    """What a file system may say, as one clear error; that something is not there is left to the caller."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, CaptionAssetsError):
        raise
    except PermissionError as error:
        raise refused(root, f"access to it is refused ({error})", "check its permissions and credentials") from error
    except ImportError as error:
        raise refused(root, first_line(error).rstrip("."), "try again once that is installed, with pip") from error
    except Exception as error:  # every file system has errors of its own
        fix = "check the URL, the network and the credentials" if is_remote(root) else ""
        raise refused(root, f"it cannot be read ({first_line(error)})", fix) from error


def refused(root: str, wrong: str, fix: str = "") -> DatasetError:
    """The error for a root that cannot be a dataset, or not the one that was asked for."""
    return DatasetError(f"dataset {root!r}", wrong, fix or _USUAL)


class Place(Protocol):
    """A folder. Methods raise OSError, or whatever error its file system has."""

    @property
    def name(self) -> str:
        """Of the folder itself."""

    def location(self, path: str) -> str:
        """Path or URL of what lies at a path below it."""

    def path_of(self, location: str) -> str | None:
        """The path below it of a file that `location`, as it is written, says; None where that is elsewhere."""

    def top(self) -> tuple[list[str], list[str]]:
        """Names of its folders, and of what else is in it. Raises FileNotFoundError, NotADirectoryError."""

    def files(self, folder: str) -> Iterator[File]:
        """All files below one of its folders, or below itself (""), without those of outputs."""

    def each(self, folders: Sequence[str], start: int) -> Iterator[tuple[int, list[File]]]:
        """The number of every one of `folders` from number `start` on, and all files below it; none if it is gone.

        `folders` are all that it has. They are listed as they are asked for.
        """

    def holding(self, folders: Sequence[str], wanted: Callable[[str], bool]) -> Iterator[str]:
        """Those of its folders below which any file has a name that is `wanted`, or may have where nobody may look."""

    @property
    def looks_cost_nothing(self) -> bool:
        """Whether a folder can be looked into without a request."""

    def stamp(self, path: str) -> str | None:
        """That of the file at a path. Raises FileNotFoundError."""

    def open(self, path: str) -> BinaryIO:
        """The file at a path, for reading here and there. Raises FileNotFoundError."""


class LocalPlace:
    """A folder of this machine."""

    looks_cost_nothing = True

    def __init__(self, root: str) -> None:
        self._root = os.path.abspath(os.path.expanduser(root))  # without "..": paths end up in documents

    @property
    def name(self) -> str:
        return os.path.basename(self._root)

    def location(self, path: str) -> str:
        return os.path.join(self._root, path)

    def path_of(self, location: str) -> str | None:
        return _below(self._root, location)

    def stamp(self, path: str) -> str | None:
        return file_stamp(os.stat(self.location(path)))

    def open(self, path: str) -> BinaryIO:
        return open(self.location(path), "rb")

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

    def holding(self, folders: Sequence[str], wanted: Callable[[str], bool]) -> Iterator[str]:
        return (folder for folder in folders if self._holds(self.location(folder), wanted, ()))

    def _holds(self, path: str, wanted: Callable[[str], bool], above: tuple[tuple[int, int], ...]) -> bool:
        try:
            found = os.stat(path)
            own = found.st_dev, found.st_ino
            if own in above:
                return False
            folders = {}
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if _is_folder(entry):
                        folders[entry.name] = entry.path
                    elif wanted(entry.name) and (entry.is_symlink() or entry.is_file()):
                        return True
        except PermissionError:
            return True
        except FileNotFoundError:
            return False
        outputs = written_beside(folders)
        return any(self._holds(at, wanted, (*above, own)) for name, at in folders.items() if name not in outputs)

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
        outputs = all_written_beside(entry.name for entry in entries if _is_folder(entry))
        for entry in entries:
            below = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name.startswith("."):
                yield File(below + "/" * _is_folder(entry), trouble="hidden")
            elif entry.name in outputs:
                yield File(f"{below}/", trouble=OF_OUTPUT)
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

    looks_cost_nothing = False

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

    def path_of(self, location: str) -> str | None:
        return _below(self._url, location)

    def stamp(self, path: str) -> str | None:
        files, root = self._opened
        return self._stamp(f"{root}/{path}", files.info(f"{root}/{path}"))

    def open(self, path: str) -> BinaryIO:
        files, root = self._opened
        file: BinaryIO = files.open(f"{root}/{path}", "rb", block_size=_AHEAD_BYTES, cache_type="readahead")
        return file

    def top(self) -> tuple[list[str], list[str]]:
        files, root = self._opened
        files.invalidate_cache()  # for as long as a process lives, a listing is of the moment that it is asked for
        entries = files.ls(root, detail=True)
        if any(entry["name"].strip("/") == root.strip("/") and entry["type"] == "file" for entry in entries):
            raise NotADirectoryError(self._url)
        folders = {name for entry in entries if entry["type"] == "directory" and (name := self._below(entry["name"]))}
        others = {name for entry in entries if entry["type"] == "file" and (name := self._below(entry["name"]))}
        return [name.strip("/") for name in folders], [name for name in others if not self._is_order(name)]

    def files(self, folder: str) -> Iterator[File]:
        files, root = self._opened
        files.invalidate_cache()
        yield from self._listed(folder, files.find(f"{root}/{folder}" if folder else root, detail=True))

    def each(self, folders: Sequence[str], start: int) -> Iterator[tuple[int, list[File]]]:
        for prefix, numbers in self._together(folders):
            if wanted := [number for number in numbers if number >= start]:
                yield from self._each_of(folders, prefix, wanted)

    def holding(self, folders: Sequence[str], wanted: Callable[[str], bool]) -> Iterator[str]:
        def found(together: tuple[str | None, Sequence[int]]) -> list[str]:
            of_each = self._each_of(folders, *together)
            return [folders[n] for n, there in of_each if any(not file.trouble and wanted(file.path) for file in there)]

        with ThreadPoolExecutor(_LISTED_AT_ONCE) as threads:
            yield from chain.from_iterable(threads.map(found, self._together(folders)))

    def _together(self, folders: Sequence[str]) -> list[tuple[str | None, Sequence[int]]]:
        """The numbers of folders that are listed at once, and what the names of all of these begin with.

        An object store lists a thousand files a request, of all folders whose names begin alike; others each alone.
        """
        if len(folders) == 1 or "prefix" not in inspect.signature(self._opened[0].find).parameters:
            return [(None, [number]) for number in range(len(folders))]
        return list(_by_prefix(folders, range(len(folders))))

    def _each_of(
        self, folders: Sequence[str], prefix: str | None, numbers: Sequence[int]
    ) -> Iterator[tuple[int, list[File]]]:
        """All files below these of the folders, whose names begin with `prefix`."""
        if prefix is None:
            yield from ((number, _files_if_there(self, folders[number])) for number in numbers)
            return
        files, root = self._opened
        files.invalidate_cache()
        found: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
        for path, info in files.find(root, detail=True, prefix=prefix).items():
            found[self._below(path).partition("/")[0]][path] = info
        for number in numbers:
            yield number, list(self._listed(folders[number], found[folders[number]]))

    def _listed(self, folder: str, found: Mapping[str, Mapping[str, Any]]) -> Iterator[File]:
        """What `found` says of the files of a folder, by path as this file system spells it."""
        hidden: set[str] = set()
        outputs = dict.fromkeys(all_written_below(map(self._below, found)), False)
        for path in sorted(found):
            below = self._below(path)
            if below.endswith("/") or self._is_order(below):  # an empty object that stands for a folder
                continue
            if output := next((output for output in outputs if below.startswith(f"{output}/")), ""):
                if not outputs[output]:
                    yield File(f"{output}/", trouble=OF_OUTPUT)
                outputs[output] = True
                continue
            parts = below.removeprefix(f"{folder}/").split("/")
            depth = next((k for k, part in enumerate(parts) if part.startswith(".") and part.strip(".")), None)
            if depth is None:
                yield File(below, self._stamp(path, found[path]))
            elif (top := "/".join(parts[: depth + 1]) + "/" * (depth + 1 < len(parts))) not in hidden:
                hidden.add(top)
                yield File(f"{folder}/{top}" if folder else top, trouble="hidden")

    def _is_order(self, path: str) -> bool:
        """Whether it is a link of an index page that has the page sorted by name, time or size."""
        return self._url.startswith(("http://", "https://")) and path.rpartition("/")[2].startswith("?")

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


def _below(root: str, location: str) -> str | None:
    start = written(root).rstrip("/") + "/"
    return location.removeprefix(start) if location.startswith(start) and part_of(location) is None else None


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
