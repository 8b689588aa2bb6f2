"""The folder of an export, local or remote: it writes what has changed, and removes what it wrote and holds no more.

What it holds is in its manifests below `.caption_assets/`: one for each shard, which also has the shard's lines of the
files that are about all shards, and one for these. Nothing that no manifest names is ever touched, so that an export
wants a folder that is empty at first.

Several processes may write it, each its own shards: a shard's manifest is written by whoever writes the shard, and
nobody else. Whoever ends merges the manifests that there are by then, so that the last one has them all. In a folder of
this machine, locks have those wait who want the same shard, or to end.
"""

import hashlib
import json
import logging
import os
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from caption_assets.errors import ConfigError, StoreError
from caption_assets.exports.manifests import Held, Manifest, read_manifest, write_manifest
from caption_assets.models.locks import holder, try_lock, wait_lock
from caption_assets.names import actual, is_remote
from caption_assets.store.paths import component, fitted
from caption_assets.store.scratch import FOLDER as SCRATCH
from caption_assets.store.store import Store

log = logging.getLogger(__name__)
_OWN = ".caption_assets"
_SHARDS = f"{_OWN}/shards"
_LOCKS = f"{_OWN}/locks"
_WHOLE = f"{_OWN}/export.json.gz"
_SUFFIX = ".json.gz"
_CHUNK = 1 << 20
# The lock of what is about all shards.
_ALL = "export"
# In the summary of the manifest about all shards: see `ExportFolder._cleared`.
_CLEARED = "cleared"
# How often an end is tried again, without locks, where others end at the same time.
_MOST_ENDS = 20


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
        asked = f"export {self._form} to {self.store.url()}"
        if read_manifest(self.store, _WHOLE) is None:
            if others := [name for name in self.store.names() if name not in (SCRATCH, _OWN)]:
                raise ConfigError(asked, f"it holds other files, such as {others[0]!r}", "choose an empty folder")
            self.store.check_writable()
            with self._locked(_ALL):
                if read_manifest(self.store, _WHOLE) is None:
                    write_manifest(self.store, _WHOLE, Manifest(summary={"format": self._form}))
        form = self._whole().summary.get("format")
        if form != self._form:
            raise ConfigError(asked, f"it holds an export in the format {form}", "choose another folder")
        self.store.check_writable()

    @contextmanager
    def shard(self, shard: str) -> Iterator["FolderPart"]:
        """The files of a shard, to be written. Another process that writes them is waited for."""
        name = manifest_name(shard)
        with self._locked(name):
            yield FolderPart(self.store, f"{_SHARDS}/{name}", self._cleared().get(name))

    def finish(self, render: Callable[["FolderPart", Iterator[Manifest]], None], shards: Iterable[str]) -> Changes:
        """Write what is about all shards, by `render`, then remove what is stale.

        `shards` are those that there are; of others, everything goes. `render` gets the manifests of these, one at a
        time. It is called again where another process has ended meanwhile, which locks prevent where there are any.
        """
        there = {manifest_name(shard) for shard in shards}
        with self._locked(_ALL):
            for _ in range(_MOST_ENDS):
                with suppress(_OvertakenError):
                    return self._finish(render, there)
        raise StoreError(f"end the export to {self.store.url()}", "other processes end it all the time", "try again")

    def _finish(self, render: Callable[["FolderPart", Iterator[Manifest]], None], there: Container[str]) -> Changes:
        part, going = FolderPart(self.store, _WHOLE, alone=False), dict[str, _Going]()
        render(part, self._manifests(there, going))
        cleared = self._cleared()
        changes = part.commit({"format": self._form, _CLEARED: cleared})
        changes.removed += self._remove(going, cleared)
        return changes

    def _manifests(self, there: Container[str], going: dict[str, "_Going"]) -> Iterator[Manifest]:
        """Those of the shards that there are; `going` gets what goes of every shard."""
        for name in self.store.names(_SHARDS):
            manifest = read_manifest(self.store, f"{_SHARDS}/{name}") if name.endswith(_SUFFIX) else None
            if manifest is None:
                continue
            if name in there:
                going[name] = _Going(manifest.digest, manifest.stale)
                yield manifest
            else:
                every = manifest.stale | manifest.announced | set(manifest.files)
                going[name] = _Going(manifest.digest, every, with_manifest=True)

    def _remove(self, going: Mapping[str, "_Going"], cleared: Mapping[str, str]) -> int:
        """Removes what goes, also of the files about all shards, and notes it. Returns how many files that were."""
        whole = self._whole()
        number = self._delete(whole.stale)
        now = {name: of.digest for name, of in going.items() if of.files and cleared.get(name) == of.digest}
        for name, of in going.items():
            if (not of.files and not of.with_manifest) or name in now:
                continue
            # Somebody who writes the shard now may want a file back, and looks after the rest.
            with self._locked(name, wait=False) as is_free:
                found = read_manifest(self.store, f"{_SHARDS}/{name}") if is_free else None
                if found is None or found.digest != of.digest:
                    continue
                number += self._delete(of.files)
                if of.with_manifest:
                    self.store.delete(f"{_SHARDS}/{name}")
                else:
                    now[name] = of.digest
        if whole.stale or now != cleared:
            whole.stale, whole.summary = set(), {**whole.summary, _CLEARED: now}
            write_manifest(self.store, _WHOLE, whole)
        return number

    def _delete(self, rels: Iterable[str]) -> int:
        stale = sorted(rels)
        self.store.each(self.store.delete, stale)
        for folder in sorted({name.rpartition("/")[0] for name in stale} - {""}, reverse=True):
            while folder:
                self.store.delete_empty_folder(folder)
                folder = folder.rpartition("/")[0]
        return len(stale)

    def _whole(self) -> Manifest:
        return read_manifest(self.store, _WHOLE) or Manifest()

    def _cleared(self) -> dict[str, str]:
        """The manifests of shards whose stale files are gone, by name, with their digests."""
        return dict(self._whole().summary.get(_CLEARED, {}))

    @contextmanager
    def _locked(self, name: str, *, wait: bool = True) -> Iterator[bool]:
        """In this block nobody else of this machine holds the lock `name`; gives False where one does, and is not to be
        waited for. Object stores have no locks, nor have some file systems."""
        url = self.store.url(f"{_LOCKS}/{name}.lock")
        path, lock, is_free = Path(actual(url)), None, True
        if not is_remote(url):
            with suppress(OSError):
                lock = try_lock(path)
                is_free = lock is not None
                if lock is None and wait:
                    log.warning("%s of %s is being written by %s", name, self.store.url(), holder(path))
                    lock, is_free = wait_lock(path), True
        try:
            yield is_free
        finally:
            if lock is not None:
                path.unlink(missing_ok=True)
                lock.close()


@dataclass(frozen=True, slots=True)
class _Going:
    """Files that go, by the manifest that says so, as it was read; with or without that itself."""

    digest: str
    files: set[str]
    with_manifest: bool = False


class _OvertakenError(Exception):
    """Somebody else has written the manifest since it was read."""


class FolderPart:
    """The files of one shard, or those about all of them, while they are written; then `commit`."""

    def __init__(self, store: Store, rel: str, cleared: str | None = None, alone: bool = True) -> None:
        """`cleared` is the digest of the manifest whose stale files are gone. Nobody else writes the manifest of a part
        that is `alone`."""
        self.store, self._rel, self._alone = store, rel, alone
        self._before = read_manifest(store, rel) or Manifest()
        self._digest = self._before.digest
        if self._digest == cleared:
            self._before.stale = set()
        self._now = Manifest()
        self._changes = Changes()
        self._lines: dict[str, list[str]] = defaultdict(list)
        self._own_lines: dict[str, list[str]] = defaultdict(list)

    def announce(self, rels: Iterable[str]) -> None:
        """Note that these files are about to be written: should this process die, they go with the next export."""
        before = self._before
        new = set(rels) - set(before.files) - before.announced
        if new:
            before.announced |= new
            before.stale -= new
            self._write(before)

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

    @property
    def version(self) -> str:
        """What tells apart two contents of the part, once it is committed."""
        held = sorted((rel, of.size, of.digest, of.made_from) for rel, of in self._now.files.items())
        return hashlib.sha256(json.dumps([held, self._now.lines], sort_keys=True).encode()).hexdigest()[:32]

    def commit(self, summary: Mapping[str, Any]) -> Changes:
        """Note what is held now; what was held before, and is not any more, becomes stale."""
        self.write({rel: "".join(lines).encode() for rel, lines in self._own_lines.items()})
        now = self._now
        now.lines = {rel: "".join(lines) for rel, lines in self._lines.items()}
        now.summary = dict(summary)
        before = self._before
        now.stale = (before.stale | before.announced | set(before.files)) - set(now.files)
        if now != before or not self._alone:
            self._write(now)
        return self._changes

    def _write(self, manifest: Manifest) -> None:
        """Raises _OvertakenError."""
        if not self._alone:
            found = read_manifest(self.store, self._rel)
            if found is not None and found.digest != self._digest:
                raise _OvertakenError
            if manifest == found:
                return
        self._digest = write_manifest(self.store, self._rel, manifest)

    def _there(self, rels: Sequence[str]) -> set[str]:
        """Files that are there as they were left. An object store would have to be asked for each: there, that they are
        is taken for granted."""
        if not self.store.looks_cost_nothing:
            return set(rels)
        sizes = self.store.sizes(rels)
        return {rel for rel in rels if sizes[rel] == self._before.files[rel].size}


def manifest_name(shard: str) -> str:
    return fitted(component(shard, "shard"), _SUFFIX)


def _size_and_hash(path: str) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()
