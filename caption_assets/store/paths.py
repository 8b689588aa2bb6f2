"""Where the tables lie below the output root, and what may be one component of a path there."""

import hashlib
import os

from caption_assets.errors import StoreError

_LONGEST_NAME = 255  # bytes in one component of a path, on all common file systems


def table_folder(name: str) -> str:
    """Folder of all tables of one kind."""
    return f"tables/{component(name, 'table')}"


def table(name: str, shard: str, key: str | None = None) -> str:
    """The committed table of a shard; `key` is the caption key of a keyed one."""
    return _table_path(name, shard, key, ".parquet")


def table_parts(name: str, shard: str, key: str | None = None) -> str:
    """Folder of the rows that are durable but not committed yet."""
    return _table_path(name, shard, key, ".parts")


def component(name: str, what: str) -> str:
    """`name`, checked to be usable as one component of a path on every store."""
    if not name or name in (".", "..") or any(char in name for char in "/\\\0"):
        raise StoreError(f"{what} {name!r}", "it cannot name a file", f"use a {what} without slashes")
    return name


def fitted(path: str, suffix: str) -> str:
    """`path` + `suffix`; a last component too long to name a file is cut, and its hash keeps it unique."""
    folder, slash, name = path.rpartition("/")
    if len(os.fsencode(name + suffix)) > _LONGEST_NAME:
        mark = f"~{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"
        room = _LONGEST_NAME - len(os.fsencode(mark + suffix))
        name = os.fsencode(name)[:room].decode("utf-8", "ignore") + mark
    return f"{folder}{slash}{name}{suffix}"


def _table_path(name: str, shard: str, key: str | None, suffix: str) -> str:
    folder = table_folder(name) if key is None else f"{table_folder(name)}/{component(key, 'caption key')}"
    return f"{folder}/{fitted(component(shard, 'shard'), suffix)}"
