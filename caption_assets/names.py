"""Names of files as text that every table, document and terminal takes, and the way back; and URLs with any name.

File systems take names that are no text. What is written of a name is its UTF-8, where each byte that is none, and
each byte of a control character, is `\\xNN`, and a backslash that stands before an `x` is `\\x5c`. So ordinary names
are written as they are, and no two names are written alike. `Clip.relative_path` and `location` are written so; shards'
keys percent-encode the same bytes (`dataset.ids`).
"""

import re
from typing import Any

from caption_assets.extras import check_url

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
