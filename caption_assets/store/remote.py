"""Files of an object store: one PUT replaces an object."""

import inspect
import io
import os
import secrets
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from itertools import takewhile
from typing import Any, BinaryIO

from upath import UPath

from caption_assets.store import conditions
from caption_assets.store.failures import failed

# What object stores and fsspec's file systems call an object's version, whichever they have.
_VERSION_KEYS = ("generation", "mtime", "modified", "created", "LastModified", "last_modified", "size")
_LIST_TRIES = 20
_AT_ONCE = 16


class RemoteFiles:
    """A prefix of an object store (or of fsspec's memory), through its fsspec file system."""

    def __init__(self, root: UPath) -> None:
        self.url = str(root).rstrip("/")
        self._fs, self._root = root.fs, root.path.rstrip("/")
        protocols = {self._fs.protocol} if isinstance(self._fs.protocol, str) else set(self._fs.protocol)
        self.at_once = 1 if "memory" in protocols else _AT_ONCE
        # Without being told, s3fs asks for the size first, and lists the folder where there is none.
        self._is_s3 = "s3" in protocols
        self._whole = {"max_concurrency": 1} if self._is_s3 else {}
        self._lists_by_prefix = "prefix" in inspect.signature(getattr(self._fs, "_find", self._fs.find)).parameters

    def check_writable(self) -> None:
        path = self._path(f".caption_assets-{secrets.token_hex(8)}")
        try:
            self._fs.pipe_file(path, b"")
            self._fs.rm_file(path)
        except Exception as err:
            raise failed("write", f"below {self.url}", err) from err

    def read(self, rel: str) -> bytes | None:
        with self._errors("read", rel):
            try:
                return self._fs.cat_file(self._path(rel), **self._whole)
            except FileNotFoundError:
                return None

    def open(self, rel: str) -> BinaryIO | None:
        data = self.read(rel)  # tables are small, and every look at a part of one is a request
        return None if data is None else io.BytesIO(data)

    def write(self, rel: str, data: bytes, *, durable: bool) -> None:
        with self._errors("write", rel):
            self._fs.pipe_file(self._path(rel), data)

    def write_where(self, rel: str, data: bytes, held: str | None) -> bool:
        if not self._is_s3:
            return False
        with self._errors("write", rel):
            return conditions.are_heeded(self._fs, self._root) and conditions.put(self._fs, self._path(rel), data, held)

    def draft(self) -> BinaryIO:
        try:
            return open(os.path.join(self._drafts, secrets.token_hex(8)), "xb")
        except OSError as err:
            raise failed("write", self._drafts, err) from err

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
            raise failed(verb, f"{self.url}/{rel}", err) from err


def _version(info: Mapping[str, Any]) -> str:
    if etag := info.get("ETag") or info.get("etag"):
        return str(etag).strip('"')  # says it alone, and may be foretold: see `conditions.md5`
    return "-".join(str(info[key]) for key in _VERSION_KEYS if info.get(key) is not None)
