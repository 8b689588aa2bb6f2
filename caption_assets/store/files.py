"""Bytes under a root: atomic writes, reads, listings. A local folder and an object store behave alike.

Paths are relative to the root and posix; `Store` checks them. A reader never sees half a file: locally a
temporary file is renamed over the target (`scratch`), on an object store one PUT replaces the object.
"""

import os
from typing import BinaryIO, Protocol

from upath import UPath

from caption_assets.errors import StoreError
from caption_assets.extras import check_url
from caption_assets.store.local import LocalFiles
from caption_assets.store.remote import RemoteFiles


class Files(Protocol):
    """What `Store` needs of a place. Every failure is a StoreError; a missing file is not a failure."""

    url: str
    at_once: int
    """How many requests are worth having under way together; 1 where each is quick."""

    def check_writable(self) -> None: ...

    def read(self, rel: str) -> bytes | None: ...

    def open(self, rel: str) -> BinaryIO | None:
        """A file, open for reading, of which only what is asked for is read where the place lets it."""
        ...

    def write(self, rel: str, data: bytes, *, durable: bool) -> None: ...

    def draft(self) -> BinaryIO:
        """A new local file, open for writing: to be put in its place, or removed."""
        ...

    def place(self, path: str, rel: str) -> None:
        """Put a local file, or a link, in its place, over any older one; it is gone from where it was."""
        ...

    def write_where(self, rel: str, data: bytes, held: str | None) -> bool:
        """Write where the file has just the bytes with this MD5 (None: where there is no file), with one request.

        False, and nothing is written, where that is not so, or where the place cannot tell.
        """
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
        check_url(str(root))
        path = UPath(root)
        if path.protocol in ("", "file", "local"):
            return LocalFiles(os.path.abspath(path.path))
        return RemoteFiles(path)
    except (ImportError, ValueError) as err:
        raise StoreError(
            f"output path {str(root)!r}", f"it cannot be opened: {err}", "check its scheme, and install what it names"
        ) from err
