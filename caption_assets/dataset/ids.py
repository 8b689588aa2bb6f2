"""Names of clips and shards: stable across runs and machines."""

import hashlib
import os
import uuid
from dataclasses import replace
from pathlib import PurePosixPath
from urllib.parse import quote, unquote

from caption_assets.names import is_remote, name_bytes
from caption_assets.records import Clip

_LONGEST_FOLDER = 40


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


def dataset_name(root: str) -> str:
    """A short name for the dataset at `root`, and for no other: its folder's, and a hash of all of its path or URL."""
    root = root.removeprefix("file://")
    root = root.rstrip("/") if is_remote(root) else os.path.abspath(os.path.expanduser(root))
    folder = shard_key(root.rpartition("/")[2])[:_LONGEST_FOLDER]
    return f"{folder}-{hashlib.sha256(name_bytes(root)).hexdigest()[:8]}"


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
