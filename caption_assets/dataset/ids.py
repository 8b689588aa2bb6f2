"""Names of clips and shards: stable across runs and machines."""

import hashlib
import re
import uuid
from dataclasses import replace
from pathlib import PurePosixPath
from urllib.parse import quote, unquote

from caption_assets.names import absolute, name_bytes
from caption_assets.records import Clip

_LONGEST_FOLDER = 40
_UUID_LENGTH = 36
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def clip_id(relative_path: str) -> str:
    """A clip's id: its file stem where that is a UUID, else uuid5(NAMESPACE_URL, `relative_path`).

    `relative_path` is posix, relative to the dataset root and as `names.written` has it, so ids are the same on every
    machine.
    """
    stem = PurePosixPath(relative_path).stem
    try:
        parsed = uuid.UUID(stem)
    except ValueError:
        return path_id(relative_path)
    # UUID() also takes braces, a urn: prefix and no hyphens; only the canonical spelling names a clip.
    return str(parsed) if str(parsed) == stem.lower() else path_id(relative_path)


def given_id(text: str) -> str:
    """The id of a clip that its dataset calls `text`: that, where a file can be called so, else uuid5(NAMESPACE_URL,
    `text`). UUIDs are in lower case."""
    if not _FILE_NAME.fullmatch(text):
        return path_id(text)
    try:
        return str(uuid.UUID(text)) if len(text) == _UUID_LENGTH else text
    except ValueError:
        return text


def path_id(relative_path: str) -> str:
    """The id of a clip whose name is none, or another's, by its path."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, relative_path))


def shard_key(name: str) -> str:
    """Partition key of a shard folder: all but `[A-Za-z0-9._-]` percent-encoded, byte for byte.

    Dagster forbids "..." and control characters in keys, and commas break selections in its UI.
    """
    key = quote(name_bytes(name), safe="").replace("~", "%7E")
    return key.replace(".", "%2E") if "..." in key else key


def shard_name(key: str) -> str:
    """Folder name of a partition key; the inverse of `shard_key`."""
    return unquote(key, errors="surrogateescape")


def dataset_name(dataset: str, rule: str = "") -> str:
    """A short name for a dataset, and for no other: its folder's, and a hash of all of its path or URL.

    `rule` is how its clips become shards where that is not its own; with another rule it has other shards.
    """
    root = "\n".join(root.rstrip("/") for root in absolute(dataset.replace("file://", "")).splitlines())
    folder = shard_key(root.partition("\n")[0].rpartition("/")[2])[:_LONGEST_FOLDER]
    name = f"{folder}-{hashlib.sha256(name_bytes(root)).hexdigest()[:8]}"
    return f"{name}-{rule}" if rule else name


def split_duplicates(clips: list[Clip]) -> tuple[list[Clip], dict[str, str]]:
    """Gives clips whose id is taken an id of their own, made from their path.

    Returns the clips, now with distinct ids, and for each changed one {new id: path of the clip that has its id}.
    """
    first: dict[str, str] = {}
    duplicates: dict[str, str] = {}
    distinct = []
    for clip in clips:
        if clip.clip_id in first:
            duplicates[path_id(clip.relative_path)] = first[clip.clip_id]
            clip = replace(clip, clip_id=path_id(clip.relative_path))
        else:
            first[clip.clip_id] = clip.relative_path
        distinct.append(clip)
    return distinct, duplicates
