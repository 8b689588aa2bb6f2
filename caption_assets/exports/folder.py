"""The folder of an export, local or remote: it writes what has changed, and removes what it wrote and holds no more.

What it holds is in its manifests below `.caption_assets/`: one for each shard, which also has the shard's lines of the
files that are about all shards, and one for these. Nothing that no manifest names is ever touched, so that an export
wants a folder that is empty at first. One process at a time writes it.
"""

import gzip
import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from caption_assets.errors import ConfigError, StoreError
from caption_assets.store.paths import component, fitted
from caption_assets.store.scratch import FOLDER as SCRATCH
from caption_assets.store.store import Store

_OWN = ".caption_assets"
_SHARDS = f"{_OWN}/shards"
_WHOLE = f"{_OWN}/export.json.gz"
_CHUNK = 1 << 20


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

    `stale` are files that it held, or was about to; they go when no file about all shards names them any more. `lines`
    are those of files about all shards, `videos` is what is known of videos inside of files, by name: what they were
    made from, and their size.
    """

    files: dict[str, Held] = field(default_factory=dict)
    stale: set[str] = field(default_factory=set)
    lines: dict[str, str] = field(default_factory=dict)
    videos: dict[str, tuple[str, int]] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Changes:
    """What was done to files."""

    written: int = 0
    unchanged: int = 0
    removed: int = 0

    def __add__(self, other: "Changes") -> "Changes":
        return Changes(self.written + other.written, self.unchanged + other.unchanged, self.removed + other.removed)


class ExportFolder:
    """A folder that holds one export in one format."""

    def __init__(self, root: str, form: str) -> None:
        """`form` is the format's name. Touches nothing."""
        self.store, self._form = Store(root), form

    def claim(self) -> None:
        """Make the folder this export's. Raises an error where it cannot be written, or holds something else."""
        whole = self._read(_WHOLE)
        asked = f"export {self._form} to {self.store.url()}"
        if whole is None:
            if others := [name for name in self.store.names() if name != SCRATCH]:
                raise ConfigError(asked, f"it holds other files, such as {others[0]!r}", "choose an empty folder")
            self.store.check_writable()
            self._write(_WHOLE, Manifest(summary={"format": self._form}))
        elif (form := whole.summary.get("format")) != self._form:
            raise ConfigError(asked, f"it holds an export in the format {form}", "choose another folder")
        else:
            self.store.check_writable()

    def shards(self) -> list[str]:
        """Names of the manifests of shards, sorted."""
        return [name for name in self.store.names(_SHARDS) if name.endswith(".json.gz")]

    def shard(self, shard: str) -> "FolderPart":
        """The files of a shard, to be written."""
        return FolderPart(self, f"{_SHARDS}/{manifest_name(shard)}")

    def manifests(self) -> Iterator[Manifest]:
        """Those of all shards, one at a time."""
        for name in self.shards():
            if (manifest := self._read(f"{_SHARDS}/{name}")) is not None:
                yield manifest

    def finish(self, render: Callable[["FolderPart"], None], gone: Iterable[str] = ()) -> Changes:
        """Write what is about all shards, by `render`, then remove what is stale. `gone` are manifests of shards that
        are out."""
        gone = list(gone)
        for name in gone:
            manifest = self._read(f"{_SHARDS}/{name}") or Manifest()
            self._write(f"{_SHARDS}/{name}", Manifest(stale=manifest.stale | set(manifest.files)))
        part = FolderPart(self, _WHOLE)
        render(part)
        changes = part.commit({"format": self._form})
        for rel in (_WHOLE, *(f"{_SHARDS}/{name}" for name in self.shards())):
            changes.removed += self._remove_stale(rel)
        for name in gone:
            self.store.delete(f"{_SHARDS}/{name}")
        return changes

    def _remove_stale(self, rel: str) -> int:
        manifest = self._read(rel)
        if manifest is None or not manifest.stale:
            return 0
        stale = sorted(manifest.stale)
        self.store.each(self.store.delete, stale)
        for folder in sorted({name.rpartition("/")[0] for name in stale} - {""}, reverse=True):
            while folder:
                self.store.delete_empty_folder(folder)
                folder = folder.rpartition("/")[0]
        manifest.stale = set()
        self._write(rel, manifest)
        return len(stale)

    def _read(self, rel: str) -> Manifest | None:
        data = self.store.read_bytes(rel)
        if data is None:
            return None
        try:
            held = json.loads(gzip.decompress(data))
            files = {name: Held(*values) for name, values in held["files"].items()}
            videos = {name: (made_from, size) for name, (made_from, size) in held["videos"].items()}
            return Manifest(files, set(held["stale"]), held["lines"], videos, held["summary"])
        except (ValueError, KeyError, TypeError, EOFError, OSError) as error:
            raise StoreError(
                f"read {self.store.url(rel)}", f"it is no manifest of an export: {error}", "export to another folder"
            ) from error

    def _write(self, rel: str, manifest: Manifest) -> None:
        held = {
            "files": {name: [held.size, held.digest, held.made_from] for name, held in manifest.files.items()},
            "stale": sorted(manifest.stale),
            "lines": manifest.lines,
            "videos": manifest.videos,
            "summary": manifest.summary,
        }
        self.store.write_bytes(rel, gzip.compress(json.dumps(held).encode(), 1, mtime=0))


class FolderPart:
    """The files of one shard, or those about all of them, while they are written; then `commit`."""

    def __init__(self, folder: ExportFolder, rel: str) -> None:
        self._folder, self._rel, self.store = folder, rel, folder.store
        self._before = folder._read(rel) or Manifest()
        self._now = Manifest()
        self._changes = Changes()
        self._lines: dict[str, list[str]] = defaultdict(list)
        self._own_lines: dict[str, list[str]] = defaultdict(list)

    def announce(self, rels: Iterable[str]) -> None:
        """Note that these files are about to be written: should this process die, they go with the next export."""
        new = set(rels) - set(self._before.files) - self._before.stale
        if new:
            self._before.stale |= new
            self._folder._write(self._rel, self._before)

    def keep(self, made_from: Mapping[str, str]) -> set[str]:
        """Of files, by what they are made from, those that are there just so already; they need not be written."""
        held = self._before.files
        same = [rel for rel, of in made_from.items() if rel in held and held[rel].made_from == of]
        there = self._there(same)
        for rel in there:
            self._now.files[rel] = held[rel]
        self._changes.unchanged += len(there)
        return there

    def known_size(self, name: str, made_from: str) -> int | None:
        """The size of a video inside of a file, where one was made from the same."""
        of, size = self._before.videos.get(name, ("", None))
        return size if of == made_from else None

    def note_video(self, name: str, made_from: str, size: int) -> None:
        self._now.videos[name] = (made_from, size)

    def write(self, files: Mapping[str, bytes]) -> None:
        """Write files unless they are there just so."""
        known = {rel: Held(len(data), hashlib.sha256(data).hexdigest()) for rel, data in files.items()}
        same = self._there([rel for rel, held in known.items() if self._before.files.get(rel) == held])
        changed = [rel for rel in files if rel not in same]
        self.announce(changed)
        self.store.each(lambda rel: self.store.write_if_changed(rel, files[rel], known=None), changed)
        self._now.files |= known
        self._changes.unchanged += len(same)
        self._changes.written += len(changed)

    def draft(self) -> BinaryIO:
        """A new file of this machine, open for writing; then `place` it, or unlink it."""
        return self.store.draft()

    def place(self, drafts: Mapping[str, str], made_from: Mapping[str, str]) -> None:
        """Put drafts (paths by the files that they are to be) where they belong, but for those that are there just so.

        For a file with an entry in `made_from`, that is noted.
        """
        self.announce(drafts)
        self._now.files |= dict(self.store.each(lambda rel: self._placed(rel, drafts[rel], made_from), drafts))

    def _placed(self, rel: str, path: str, made_from: Mapping[str, str]) -> tuple[str, Held]:
        size, digest = (os.stat(path).st_size, "") if os.path.islink(path) else _size_and_hash(path)
        held = Held(size, digest, made_from.get(rel, ""))
        before = self._before.files.get(rel)
        same = before is not None and digest != "" and (before.size, before.digest) == (size, digest)
        if same and self._there([rel]):
            os.unlink(path)
            self._changes.unchanged += 1
        else:
            self.store.place(path, rel)
            self._changes.written += 1
        return rel, held

    def lines(self, rel: str, text: str) -> None:
        """Add to the shard's part of a file about all shards."""
        self._lines[rel].append(text)

    def own_lines(self, rel: str, text: str) -> None:
        """Add to a file of the shard's own."""
        self._own_lines[rel].append(text)

    def commit(self, summary: Mapping[str, Any]) -> Changes:
        """Note what is held now; what was held before, and is not any more, becomes stale."""
        self.write({rel: "".join(lines).encode() for rel, lines in self._own_lines.items()})
        now = self._now
        now.lines = {rel: "".join(lines) for rel, lines in self._lines.items()}
        now.summary = dict(summary)
        now.stale = (self._before.stale | set(self._before.files)) - set(now.files)
        if now != self._before:
            self._folder._write(self._rel, now)
        return self._changes

    def _there(self, rels: Sequence[str]) -> set[str]:
        """Files that are there as they were left. An object store would have to be asked for each: there, that they are
        is taken for granted."""
        if not self.store.looks_cost_nothing:
            return set(rels)
        sizes = self.store.sizes(rels)
        return {rel for rel in rels if sizes[rel] == self._before.files[rel].size}


def manifest_name(shard: str) -> str:
    return fitted(component(shard, "shard"), ".json.gz")


def _size_and_hash(path: str) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()
