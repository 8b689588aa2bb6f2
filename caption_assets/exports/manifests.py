"""What an export knows of its files: a manifest for each shard, and one for the files about all of them."""

import gzip
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from caption_assets.errors import StoreError
from caption_assets.store.root import Root


@dataclass(frozen=True, slots=True)
class Held:
    """A file of the export: its bytes' number and hash, and for one that is not simply compared, what it was made
    from."""

    size: int
    digest: str
    made_from: str = ""


@dataclass(slots=True)
class Manifest:
    """What an export holds of one shard, or of all together.

    `stale` are files that it held; they go when no file about all shards names them any more. `announced` are those
    that it was about to write, and become stale where it did not. `lines` are those of files about all shards, `videos`
    is what is known of videos inside of files, by name: what they were made from, and their size. `digest` tells apart
    what was read; it is no part of it.
    """

    files: dict[str, Held] = field(default_factory=dict)
    stale: set[str] = field(default_factory=set)
    announced: set[str] = field(default_factory=set)
    lines: dict[str, str] = field(default_factory=dict)
    videos: dict[str, tuple[str, int]] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    digest: str = field(default="", compare=False)


def read_manifest(store: Root, rel: str) -> Manifest | None:
    """The manifest at a path; None where there is none. Raises StoreError for what is no manifest."""
    data = store.read_bytes(rel)
    if data is None:
        return None
    try:
        held = json.loads(gzip.decompress(data))
        files = {name: Held(*values) for name, values in held["files"].items()}
        videos = {name: (made_from, size) for name, (made_from, size) in held["videos"].items()}
        stale, announced = set(held["stale"]), set(held.get("announced", ()))
        digest = hashlib.sha256(data).hexdigest()
        return Manifest(files, stale, announced, held["lines"], videos, held["summary"], digest)
    except (ValueError, KeyError, TypeError, EOFError, OSError) as error:
        raise StoreError(
            f"read {store.url(rel)}", f"it is no manifest of an export: {error}", "export to another folder"
        ) from error


def write_manifest(store: Root, rel: str, manifest: Manifest) -> str:
    """Writes the manifest; returns its digest."""
    held = {
        "files": {name: [held.size, held.digest, held.made_from] for name, held in manifest.files.items()},
        "stale": sorted(manifest.stale),
        "announced": sorted(manifest.announced),
        "lines": manifest.lines,
        "videos": manifest.videos,
        "summary": manifest.summary,
    }
    data = gzip.compress(json.dumps(held).encode(), 1, mtime=0)
    store.write_bytes(rel, data)
    return hashlib.sha256(data).hexdigest()
