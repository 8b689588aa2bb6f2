"""Names of files as text that every table, document and terminal takes, and the way back; and URLs with any name.

File systems take names that are no text. What is written of a name is its UTF-8, where each byte that is none, and
each byte of a control character, is `\\xNN`, and a backslash that stands before an `x` is `\\x5c`. So ordinary names
are written as they are, and no two names are written alike. `Clip.relative_path` and `location` are written so; shards'
keys percent-encode the same bytes (`dataset.ids`).
"""

import os
import re
from dataclasses import dataclass
from typing import Any

from caption_assets.extras import check_url

_NAMED = re.compile(r"(?P<name>[A-Za-z0-9_.-]+)=(?P<root>.+)")
_UNWRITABLE = re.compile(r"\\(?=x)|[\x00-\x1f\x7f-\x9f\udc80-\udcff]+")
_WRITTEN = re.compile(r"(?:\\x[0-9a-f]{2})+")


def written(name: str) -> str:
    """A name or path, as Python has it from the system, as text. Its inverse is `actual`."""
    return _UNWRITABLE.sub(lambda found: "".join(f"\\x{byte:02x}" for byte in name_bytes(found[0])), name)


def actual(text: str) -> str:
    """The name or path that is written as `text`, as Python gives it to the system."""
    return _WRITTEN.sub(lambda found: name_of(bytes.fromhex(found[0].replace("\\x", ""))), text)


def name_bytes(name: str) -> bytes:
    """A name's bytes, on any machine; what is no UTF-8 is in Python's lone surrogates."""
    return name.encode("utf-8", "surrogateescape")


def name_of(data: bytes) -> str:
    """The inverse of `name_bytes`."""
    return data.decode("utf-8", "surrogateescape")


def is_remote(location: str) -> bool:
    """Whether a path is a URL: a local one has no "://" once it is absolute and without doubled slashes."""
    return "://" in location


def has_known_scheme(location: str) -> bool:
    """Whether a path is a local one, or a URL of a scheme that fsspec knows, installed or not."""
    import fsspec

    return not is_remote(location) or location.partition("://")[0].split("::")[0] in fsspec.available_protocols()


def open_url(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it.

    fsspec takes every "::" for the joint of a chain of file systems (`simplecache::s3://…`); a name may have one, too.
    Raises ValueError or ImportError for a scheme that nothing is installed for.
    """
    check_url(url)
    import fsspec  # takes long to import, and most clips are local
    from fsspec.core import split_protocol, url_to_fs

    protocols = set(fsspec.available_protocols())
    _, *joined = url.split("::")
    if all("://" in part or part in protocols for part in joined):
        return url_to_fs(url)
    protocol = split_protocol(url)[0] or "file"
    files = fsspec.filesystem(protocol, **fsspec.get_filesystem_class(protocol)._get_kwargs_from_urls(url))
    return files, files._strip_protocol(url)


def roots_of(dataset: str) -> list[str]:
    """The roots of a dataset as it is given, a line each: folders, URLs, manifests."""
    return [line.strip() for line in dataset.splitlines() if line.strip()]


def named_root(line: str) -> tuple[str, str]:
    """The name that a root is given, as `cars` in `cars=s3://bucket/clips`, and the root; the name may be empty."""
    found = _NAMED.fullmatch(line)
    if found is None or os.path.exists(os.path.expanduser(line)):
        return "", line
    return found["name"], found["root"]


def absolute(dataset: str, folder: str = "") -> str:
    """The same dataset, or another path, from any working directory; what is relative is below `folder`."""
    lines = []
    for name, root in map(named_root, roots_of(dataset)):
        root = root if is_remote(root) else os.path.abspath(os.path.join(folder, os.path.expanduser(root)))
        lines.append(f"{name}={root}" if name else root)
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Bytes:
    """A clip that is a run of bytes of a larger file, as a member of a tar is. `last` is the last byte, inclusive."""

    file: str
    name: str
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.file}#{self.name}?bytes={self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class Cell:
    """A clip whose bytes are the value of a column in a row of a Parquet file; rows are counted from 0."""

    file: str
    column: str
    row: int

    def __str__(self) -> str:
        return f"{self.file}#column={self.column}&row={self.row}"


_BYTES = re.compile(r"(?P<file>.+\.tar)#(?P<name>.+)\?bytes=(?P<first>\d+)-(?P<last>\d+)", re.IGNORECASE)
_CELL = re.compile(r"(?P<file>.+\.parquet)#column=(?P<column>.+)&row=(?P<row>\d+)", re.IGNORECASE)


def part_of(location: str) -> Bytes | Cell | None:
    """The part of a larger file that a location names, as `str` of it writes it; None where it is a file of its own.

    A clip that is a file ends in a suffix, and so is never taken for one.
    """
    if found := _BYTES.fullmatch(location):
        return Bytes(found["file"], found["name"], int(found["first"]), int(found["last"]))
    if found := _CELL.fullmatch(location):
        return Cell(found["file"], found["column"], int(found["row"]))
    return None
