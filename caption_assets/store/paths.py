"""Where the tables lie below the output root, and what may be one component of a path there."""

import hashlib

from caption_assets.errors import StoreError

_LONGEST_NAME = 255  # bytes in one component of a path, on all common file systems
_LONGEST_PATH = 700  # bytes below the root: object stores take 1,024 for a key, of which the root has its share


def table_folder(name: str) -> str:
    """Folder of all tables of one kind."""
    return f"tables/{component(name, 'table')}"


def table(name: str, shard: str, key: str | None = None) -> str:
    """The committed table of a shard; `key` is that of a keyed one."""
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
    """`path` + `suffix` as a path below the root that every place takes.

    A last component that is too long to name a file is cut, and its hash keeps it unique. Where the folders before it
    cannot stand below a root (one is empty, "." or "..", or too long, or all of them are), a hash of them does.
    """
    folder, slash, name = path.rpartition("/")
    if "\0" in name or len(_bytes(name + suffix)) > _LONGEST_NAME or not _is_text(name):
        mark = _mark(name)
        room = _LONGEST_NAME - len(_bytes(mark + suffix))
        name = _bytes(name)[:room].decode("utf-8", "ignore").replace("\0", "") + mark
    if slash and not _stands(folder, f"/{name}{suffix}"):
        folder = _mark(folder)
    return f"{folder}{slash}{name}{suffix}"


def _stands(folder: str, rest: str) -> bool:
    parts = folder.split("/")
    return (
        all(part not in ("", ".", "..") and len(_bytes(part)) <= _LONGEST_NAME for part in parts)
        and "\0" not in folder
        and _is_text(folder)
        and len(_bytes(folder + rest)) <= _LONGEST_PATH
    )


def _mark(name: str) -> str:
    return f"~{hashlib.sha256(_bytes(name)).hexdigest()[:16]}"


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


def _is_text(name: str) -> bool:
    """Whether UTF-8 has it; JSON can hold halves of surrogate pairs."""
    return name.isascii() or not any("\ud800" <= char <= "\udfff" for char in name)


def _table_path(name: str, shard: str, key: str | None, suffix: str) -> str:
    keys = [] if key is None else [component(part, "caption key") for part in key.split("/")]
    folder = "/".join([table_folder(name), *keys])
    return f"{folder}/{fitted(component(shard, 'shard'), suffix)}"
