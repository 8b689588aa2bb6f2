"""Bytes under a root: atomic writes, reads, listings. A local folder and an object store behave alike.

Paths are relative to the root and posix; `Store` checks them. A reader never sees half a file: locally a
temporary file is renamed over the target (`scratch`), on an object store one PUT replaces the object.
"""

import errno
import inspect
import os
import secrets
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from itertools import takewhile
from typing import Any, BinaryIO, Protocol

from upath import UPath

from caption_assets.errors import StoreError
from caption_assets.store.scratch import Scratch

# What object stores and fsspec's file systems call an object's version, whichever they have.
_VERSION_KEYS = ("ETag", "etag", "generation", "mtime", "modified", "created", "LastModified", "last_modified", "size")
_LIST_TRIES = 20
_PLACE_TRIES = 5
_AT_ONCE = 16

WRITE_FIX = "choose an output path that this process can write, and make sure that there is space"


class Files(Protocol):
    """What `Store` needs of a place. Every failure is a StoreError; a missing file is not a failure."""

    url: str
    at_once: int
    """How many requests are worth having under way together; 1 where each is quick."""

    def check_writable(self) -> None: ...

    def read(self, rel: str) -> bytes | None: ...

    def write(self, rel: str, data: bytes, *, durable: bool) -> None: ...

    def draft(self) -> BinaryIO:
        """A new local file, open for writing: to be put in its place, or removed."""
        ...

    def place(self, path: str, rel: str) -> None:
        """Put a local file, or a link, in its place, over any older one; it is gone from where it was."""
        ...

    def delete(self, rel: str) -> None: ...

    def delete_empty_folder(self, rel: str) -> None: ...

    def names(self, rel: str) -> list[str]: ...

    def stamp(self, rel: str) -> str | None: ...

    def size(self, rel: str) -> int | None: ...

    def look(self, file_rel: str, folder_rel: str) -> tuple[str | None, list[str]]:
        """The stamp of a file, and the names in the folder beside it, with one request where the place has them."""
        ...


def open_files(root: str | os.PathLike[str] | UPath) -> Files:
    """The files below a local path or fsspec URL. Touches neither disk nor network."""
    if not str(root):
        raise StoreError("output path ''", "it is empty", "give a folder or a URL")
    try:
        path = UPath(root)
        if path.protocol in ("", "file", "local"):
            return LocalFiles(os.path.abspath(path.path))
        return RemoteFiles(path)
    except (ImportError, ValueError) as err:
        raise StoreError(
            f"output path {str(root)!r}", f"it cannot be opened: {err}", "check its scheme, and install what it names"
        ) from err


class LocalFiles:
    """A folder of this machine."""

    at_once = 1

    def __init__(self, root: str) -> None:
        self.url = root
        self._scratch = Scratch(root)

    def check_writable(self) -> None:
        """Try in the nearest folder that exists, so that a refusal leaves nothing behind."""
        existing = self.url
        while not os.path.lexists(existing):
            existing = os.path.dirname(existing)
        asked = f"write below {self.url}"
        if not os.path.isdir(existing):
            raise StoreError(asked, f"{existing} is not a folder", "choose an output path that is not a file")
        try:
            os.rmdir(tempfile.mkdtemp(prefix=".caption_assets-", dir=existing))
        except OSError as err:
            raise StoreError(asked, f"{existing} cannot be written: {err.strerror or err}", WRITE_FIX) from err

    def read(self, rel: str) -> bytes | None:
        try:
            with open(self._path(rel), "rb") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as err:
            raise _failed("read", self._path(rel), err) from err

    def write(self, rel: str, data: bytes, *, durable: bool) -> None:
        path, temporary = self._path(rel), ""
        try:
            with self._scratch.create() as file:
                temporary = file.name
                file.write(data)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            _place(temporary, path)
            if durable:
                _sync_folder(os.path.dirname(path))
        except BaseException as err:
            with suppress(OSError):
                os.unlink(temporary)
            if isinstance(err, OSError):
                raise _failed("write", path, err) from err
            raise

    def draft(self) -> BinaryIO:
        try:
            return self._scratch.create()
        except OSError as err:
            raise _failed("write", f"below {self.url}", err) from err

    def place(self, path: str, rel: str) -> None:
        try:
            _place(path, self._path(rel))
        except OSError as err:
            raise _failed("write", self._path(rel), err) from err

    def delete(self, rel: str) -> None:
        try:
            os.unlink(self._path(rel))
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as err:
            raise _failed("delete", self._path(rel), err) from err

    def delete_empty_folder(self, rel: str) -> None:
        with suppress(OSError):  # not empty, or gone already
            os.rmdir(self._path(rel))

    def names(self, rel: str) -> list[str]:
        try:
            # Temporary files are on their way from another disk.
            return sorted(name for name in os.listdir(self._path(rel)) if not name.endswith(".tmp"))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as err:
            raise _failed("list", self._path(rel), err) from err

    def stamp(self, rel: str) -> str | None:
        try:
            stat = os.stat(self._path(rel))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as err:
            raise _failed("look at", self._path(rel), err) from err
        return f"{stat.st_mtime_ns}-{stat.st_size}-{stat.st_ino}"

    def size(self, rel: str) -> int | None:
        stamp = self.stamp(rel)
        return None if stamp is None else int(stamp.split("-")[1])

    def look(self, file_rel: str, folder_rel: str) -> tuple[str | None, list[str]]:
        names = self.names(folder_rel)
        return self.stamp(file_rel), names

    def _path(self, rel: str) -> str:
        return os.path.join(self.url, rel)


class RemoteFiles:
    """A prefix of an object store (or of fsspec's memory), through its fsspec file system."""

    def __init__(self, root: UPath) -> None:
        self.url = str(root).rstrip("/")
        self._fs, self._root = root.fs, root.path.rstrip("/")
        protocols = {self._fs.protocol} if isinstance(self._fs.protocol, str) else set(self._fs.protocol)
        self.at_once = 1 if "memory" in protocols else _AT_ONCE
        # Without being told, s3fs asks for the size first, and lists the folder where there is none.
        self._whole = {"max_concurrency": 1} if "s3" in protocols else {}
        self._lists_by_prefix = "prefix" in inspect.signature(getattr(self._fs, "_find", self._fs.find)).parameters

    def check_writable(self) -> None:
        path = self._path(f".caption_assets-{secrets.token_hex(8)}")
        try:
            self._fs.pipe_file(path, b"")
            self._fs.rm_file(path)
        except Exception as err:
            raise _failed("write", f"below {self.url}", err) from err

    def read(self, rel: str) -> bytes | None:
        with self._errors("read", rel):
            try:
                return self._fs.cat_file(self._path(rel), **self._whole)
            except FileNotFoundError:
                return None

    def write(self, rel: str, data: bytes, *, durable: bool) -> None:
        with self._errors("write", rel):
            self._fs.pipe_file(self._path(rel), data)

    def draft(self) -> BinaryIO:
        try:
            return open(os.path.join(self._drafts, secrets.token_hex(8)), "xb")
        except OSError as err:
            raise _failed("write", self._drafts, err) from err

    @cached_property
    def _drafts(self) -> str:
        """A folder of this machine that goes with this object."""
        folder = tempfile.mkdtemp(prefix="caption_assets-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder

    def place(self, path: str, rel: str) -> None:
        with self._errors("write", rel):
            self._fs.put_file(path, self._path(rel))
        os.unlink(path)

    def delete(self, rel: str) -> None:
        with self._errors("delete", rel), suppress(FileNotFoundError):
            self._fs.rm_file(self._path(rel))

    def delete_empty_folder(self, rel: str) -> None:
        """Object stores have no folders."""

    def names(self, rel: str) -> list[str]:
        folder = self._path(rel)
        with self._errors("list", rel):
            self._fs.invalidate_cache()  # other processes write here too
            try:
                found = self._listed(folder)
            except (FileNotFoundError, NotADirectoryError):
                return []
        prefix = f"{folder.strip('/')}/"
        paths = (path.strip("/") for path in found)
        return sorted(path[len(prefix) :] for path in paths if path.startswith(prefix))

    def _listed(self, folder: str) -> list[str]:
        for _ in range(_LIST_TRIES):
            # fsspec's memory file system stumbles over files that another thread deletes while it lists.
            with suppress(KeyError, RuntimeError):
                return self._fs.ls(folder, detail=False)
        return self._fs.ls(folder, detail=False)

    def stamp(self, rel: str) -> str | None:
        with self._errors("look at", rel):
            self._fs.invalidate_cache()
            try:
                info: dict[str, Any] = self._fs.info(self._path(rel))
            except FileNotFoundError:
                return None
        return _version(info)

    def size(self, rel: str) -> int | None:
        with self._errors("look at", rel):
            self._fs.invalidate_cache()
            try:
                return int(self._fs.info(self._path(rel))["size"])
            except FileNotFoundError:
                return None

    def look(self, file_rel: str, folder_rel: str) -> tuple[str | None, list[str]]:
        if not self._lists_by_prefix:
            names = self.names(folder_rel)
            return self.stamp(file_rel), names
        file, folder = self._path(file_rel), f"{self._path(folder_rel)}/"
        start = "".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], zip(file, folder, strict=False)))
        above, _, prefix = start.rpartition("/")
        with self._errors("list", folder_rel):
            self._fs.invalidate_cache()
            try:
                found = self._fs.find(above, prefix=prefix, detail=True)
            except FileNotFoundError:
                return None, []
        names = [path[len(folder) :] for path in found if path.startswith(folder)]
        return _version(found[file]) if file in found else None, sorted(name for name in names if "/" not in name)

    def _path(self, rel: str) -> str:
        return f"{self._root}/{rel}"

    @contextmanager
    def _errors(self, verb: str, rel: str) -> Iterator[None]:
        try:
            yield
        except Exception as err:  # each store has its own family: OSError, botocore's, google's, …
            raise _failed(verb, f"{self.url}/{rel}", err) from err


def _version(info: Mapping[str, Any]) -> str:
    return "-".join(str(info[key]) for key in _VERSION_KEYS if info.get(key) is not None)


def _failed(verb: str, path: str, err: Exception) -> StoreError:
    reason = getattr(err, "strerror", None) or str(err) or type(err).__name__
    fix = WRITE_FIX if verb in ("write", "delete") else "check the path and who may read it"
    return StoreError(f"{verb} {path}", reason.rstrip("."), fix)


def _place(temporary: str, path: str) -> None:
    """Rename a file to its place, making its folder."""
    folder = os.path.dirname(path)
    for _ in range(_PLACE_TRIES):
        # Another process may remove the folder, empty as it is, at any moment: after it was made (the place is then
        # not found), or while makedirs finds it there and looks what it is (it then says that the folder exists).
        with suppress(FileNotFoundError, FileExistsError):
            os.makedirs(folder, exist_ok=True)
            try:
                return os.replace(temporary, path)
            except OSError as err:
                if err.errno != errno.EXDEV:
                    raise
                # The folder is on another disk. The name is not that of the file, which may be as long as names can be.
                beside = os.path.join(folder, f".{secrets.token_hex(8)}.tmp")
                shutil.copyfile(temporary, beside)
                os.replace(beside, path)
                return os.unlink(temporary)
    os.makedirs(folder, exist_ok=True)
    return os.replace(temporary, path)


def _sync_folder(folder: str) -> None:
    """Make a rename survive a power cut. Not every file system lets folders be synced."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
