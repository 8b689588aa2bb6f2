"""What belongs to no clip any more: found first, and removed only then.

All that is removed is named by our tables, or is a document of our own words alone. There is no lock: a clip that the
dataset has at either of two looks, before anything is read and before anything is removed, keeps all of its own, and
rows are only taken out of a table that nobody else has written meanwhile. What people have said of texts stays.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from caption_assets.dataset import Dataset, clip_id, path_id
from caption_assets.dataset.places import NO_PERMISSION
from caption_assets.errors import DatasetError
from caption_assets.names import Bytes, is_remote, part_of
from caption_assets.records import Clip
from caption_assets.review import paths as review_paths
from caption_assets.save_export import paths
from caption_assets.save_export.documents import Document
from caption_assets.save_export.files import parse_document
from caption_assets.save_export.removal import is_ours_alone, own_processed, previews_of
from caption_assets.store.added import rendered_columns
from caption_assets.store.contents import ASIDE, aside, shard_file
from caption_assets.store.paths import table as table_path
from caption_assets.store.paths import table_parts
from caption_assets.store.rows import WindowRow
from caption_assets.store.store import Store
from caption_assets.store.tables import CLIP_WINDOWS, FINDING_TABLES, TABLES, WINDOW_PREVIEWS, Table

Kind = Literal["documents", "previews", "window videos", "tables", "kept aside", "pages"]
_TABLES: tuple[Table[Any], ...] = (*TABLES.values(), *FINDING_TABLES)
_SHOWN = 3
_UNKNOWN = "unknown"


@dataclass
class Leftovers:
    """What is to go: `files` with their bytes, by kind and path, and of shards that stay the `rows` of some clips, as
    how many there are by the shard and the clip's id.

    `kept` says what stays although no clip has it, and why. `twice` are ids that clips in two places have, with their
    paths.
    """

    files: dict[Kind, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    rows: dict[tuple[str, str], int] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    twice: dict[str, list[str]] = field(default_factory=dict)

    @property
    def num_bytes(self) -> int:
        return sum(sum(of_kind.values()) for of_kind in self.files.values())

    def figures(self) -> dict[str, int]:
        """How many of each kind there are, and the bytes of the files together."""
        counts: dict[str, int] = {kind: len(of_kind) for kind, of_kind in self.files.items() if of_kind}
        if self.rows:
            counts |= {"rows": sum(self.rows.values())}
        return counts | {"bytes": self.num_bytes}

    def __bool__(self) -> bool:
        return any(self.files.values()) or bool(self.rows)


def find_leftovers(store: Store, dataset: Dataset) -> Leftovers:
    """Looks at the dataset, then at all tables and documents; writes nothing. Raises DatasetError where the dataset
    cannot be read, StoreError."""
    return _Search(store, dataset).run()


def remove_leftovers(store: Store, dataset: Dataset, found: Leftovers) -> Leftovers:
    """Looks again, and removes what was found and still belongs to no clip; returns what that was. Raises likewise."""
    now = find_leftovers(store, dataset)
    removed = Leftovers(kept=now.kept, twice=now.twice)
    for kind, of_kind in found.files.items():
        removed.files[kind] = {rel: size for rel, size in now.files[kind].items() if rel in of_kind}
    # Tables last: by them, what a process that dies has left is found again.
    for kind in sorted(removed.files, key=lambda kind: kind in ("tables", "kept aside")):
        store.remove(sorted(removed.files[kind]))
    by_shard: dict[str, set[str]] = defaultdict(set)
    for shard, of in found.rows.keys() & now.rows.keys():
        by_shard[shard].add(of)
    for shard, ids in by_shard.items():
        if _take_out(store, shard, ids):
            removed.rows |= {(shard, of): now.rows[shard, of] for of in ids}
        else:
            removed.kept.append(f"rows of shard {shard}: another process is at work on it")
    return removed


class _Dataset:
    """What the dataset holds at this moment; shards are named as their tables are."""

    def __init__(self, dataset: Dataset, made: Sequence[str]) -> None:
        """`made` are the shards that have tables. One that is there without a clip, as where a disk is not, is taken
        for one that cannot be read."""
        self._dataset = dataset
        # The shards by what their tables are called.
        self._keys: dict[str, str] = {}
        self.clips: dict[str, list[Clip]] = {}
        self.unreadable: dict[str, str] = {}
        there = dataset.shards()
        for shard in dict.fromkeys([*there, *made]):
            name = shard_file(shard)
            self._keys.setdefault(name, shard)
            try:
                listing = dataset.listing(shard)
            except DatasetError as error:
                if shard in there:
                    self.unreadable[name] = str(error)
                continue
            if not listing.clips:
                self.unreadable[name] = "it is there, and holds no clip"
            if any(left_out.what == NO_PERMISSION for left_out in listing.left_out):
                self.unreadable[name] = "a folder in it cannot be read"
            self.clips[name] = listing.clips
        every = [clip for clips in self.clips.values() for clip in clips]
        self.ids = frozenset().union(*(_ids(clip) for clip in every))
        self.locations = frozenset(clip.location for clip in every)

    def had(self, name: str, row: WindowRow) -> bool:
        """Whether the clip of a row, of tables that are called so, was one of this dataset's."""
        clip = Clip(row.clip_id, self._keys.get(name, name), row.location, row.relative_path)
        return self._dataset.path_of(clip) == row.relative_path

    def had_document(self, of: str, document: Document) -> bool:
        """Whether a clip's document, by its id, is of one of this dataset's."""
        path = self._dataset.path_of(Clip(of, "", str(document.get("clip_location")), ""))
        return path is not None and of in (clip_id(path), path_id(path))

    def twice(self) -> dict[str, list[str]]:
        """The ids of which there are several clips, with their paths."""
        places: dict[str, list[str]] = defaultdict(list)
        for clip in (clip for clips in self.clips.values() for clip in clips):
            places[clip.clip_id].append(clip.relative_path)
        return {of: paths for of, paths in places.items() if len(paths) > 1}


class _Search:
    """One look at everything."""

    def __init__(self, store: Store, dataset: Dataset) -> None:
        self._store, self._aside = store, aside(store)
        self._dataset = _Dataset(dataset, store.shards(CLIP_WINDOWS))
        self._found = Leftovers(twice=self._dataset.twice())
        self._files: dict[Kind, set[str]] = defaultdict(set)
        self._rows = {name: store.read_rows(CLIP_WINDOWS, name) for name in store.shards(CLIP_WINDOWS)}
        self._new_bytes = self._of_new_clips()
        # The ids of clips that are gone, and of those that are and may have moved.
        self._gone_ids, self._waiting_ids = set[str](), set[str]()

    def run(self) -> Leftovers:
        for name, reason in self._dataset.unreadable.items():
            self._found.kept.append(f"all of shard {name}: {reason}")
        for name, rows in self._rows.items():
            if name not in self._dataset.unreadable:
                self._shard(name, rows)
        for name in self._aside.shards(CLIP_WINDOWS):
            self._kept_aside(name, self._aside.read_rows(CLIP_WINDOWS, name))
        self._documents()
        for kind, rels in self._files.items():
            sizes = self._store.sizes(sorted(rels))
            self._found.files[kind] = {rel: size for rel, size in sizes.items() if size is not None}
        return self._found

    def _of_new_clips(self) -> set[str]:
        """The sizes of clips that have no rows yet: rows of before may be theirs, once they are planned."""
        sizes = {_UNKNOWN} if self._dataset.unreadable else set[str]()
        for name, clips in self._dataset.clips.items():
            planned = {row.clip_id for row in self._rows.get(name, ())}
            sizes |= {_size(clip) for clip in clips if not planned & _ids(clip)}
        return sizes

    def _shard(self, name: str, rows: list[WindowRow]) -> None:
        ids = frozenset().union(*(_ids(clip) for clip in self._dataset.clips.get(name, ())))
        gone = self._gone(self._store, name, [row for row in rows if row.clip_id not in ids])
        if name not in self._dataset.clips and gone == {row.clip_id for row in rows}:
            self._files["tables"] |= {rel for table in _TABLES for rel in _files_of(self._store, table, name)}
            self._files["tables"] |= {paths.rendered(name), review_paths.summary(name)}
            self._files["pages"].add(review_paths.page(name))
        elif gone:
            for table, key in _keyed(self._store, name):
                for row in self._store.read_rows(table, name, key):
                    if row.clip_id in gone:
                        at = name, row.clip_id
                        self._found.rows[at] = self._found.rows.get(at, 0) + 1

    def _kept_aside(self, name: str, rows: list[WindowRow]) -> None:
        if self._gone(self._aside, name, rows) == {row.clip_id for row in rows}:
            rels = {rel for table in TABLES.values() for rel in _files_of(self._aside, table, name)}
            self._files["kept aside"] |= {f"{ASIDE}/{rel}" for rel in rels}

    def _gone(self, store: Store, name: str, rows: Iterable[WindowRow]) -> set[str]:
        """Of clips that are gone those that have not moved, as far as can be told; their files are to go."""
        first = {row.clip_id: row for row in rows}
        hidden = {of for of, row in first.items() if _is_hidden(row.location)}
        foreign = {of for of, row in first.items() if not self._dataset.had(name, row)}
        waiting = (
            {of for of, row in first.items() if self._new_bytes & {_UNKNOWN, str(row.num_bytes)}} - foreign - hidden
        )
        what = f"rows of shard {name}" + (" that are kept aside" if store is self._aside else "")
        for few, why in (
            (hidden, "the folder cannot be read"),
            (foreign - hidden, "they are of another dataset, or of an earlier place of this one"),
            (waiting, "a clip that has no windows yet may be the same: make its shard first"),
        ):
            if few:
                self._found.kept.append(f"{what}, of {_some(first[of].relative_path for of in few)}: {why}")
        gone = first.keys() - foreign - waiting - hidden
        self._gone_ids |= gone
        self._waiting_ids |= foreign | waiting | hidden
        for of in gone:
            row = first[of]
            if row.location not in self._dataset.locations:  # else it is there again, or in another shard
                self._files["documents"].update(own_processed(self._store, of, row.relative_path, row.location))
        nowhere = gone - self._dataset.ids
        self._files["window videos"] |= {row.mp4_path for row in rows if row.mp4_path and row.clip_id in nowhere}
        if nowhere:
            previews = store.read_rows(WINDOW_PREVIEWS, name)
            self._files["previews"] |= {row.path for row in previews if row.path and row.clip_id in nowhere}
        return gone

    def _documents(self) -> None:
        """Documents of clips that are in no shard, and the previews that they name."""
        folder, added = paths.clip_document("x").rpartition("/")[0], frozenset(rendered_columns(self._store))
        ids = {name.removesuffix(".json") for name in self._store.names(folder) if name.endswith(".json")}
        orphans = sorted(ids - self._dataset.ids - self._waiting_ids)
        if self._dataset.unreadable:
            orphans = [of for of in orphans if of in self._gone_ids]
        others = []
        raw = self._store.each(lambda of: self._store.read_bytes(paths.clip_document(of)), orphans)
        for of, data in zip(orphans, raw, strict=True):
            document = parse_document(data or b"")
            is_own = document is not None and (of in self._gone_ids or self._dataset.had_document(of, document))
            if document is None or not (is_own and is_ours_alone(document, added)):
                others.append(f"{of}.json")
                continue
            self._files["documents"].add(paths.clip_document(of))
            self._files["previews"].update(previews_of(of, document))
        if others:
            why = "they are of another dataset, or another tool has words in them"
            self._found.kept.append(f"documents {_some(others)}: {why}")


def _ids(clip: Clip) -> frozenset[str]:
    """What a clip may go by: where another one has its id, by that of its path."""
    return frozenset((clip.clip_id, path_id(clip.relative_path)))


def _size(clip: Clip) -> str:
    """A clip's bytes, where its listing tells."""
    if part := part_of(clip.location):
        return str(part.last - part.first + 1) if isinstance(part, Bytes) else _UNKNOWN
    return (clip.stamp or _UNKNOWN).split()[0]


def _is_hidden(location: str) -> bool:
    """Whether a clip of this machine may be there, in a folder that this process cannot look into."""
    part = part_of(location)
    folder = "" if is_remote(location) else os.path.dirname(part.file if part else location)
    while folder and not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    return bool(folder) and not os.access(folder, os.R_OK | os.X_OK)


def _some(names: Iterable[str]) -> str:
    named = sorted(names)
    return ", ".join(named[:_SHOWN]) + (f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else "")


def _keyed(store: Store, shard: str) -> Iterator[tuple[Table[Any], str | None]]:
    for table in _TABLES:
        yield from ((table, key) for key in store.look(table, shard))


def _files_of(store: Store, table: Table[Any], shard: str) -> Iterator[str]:
    for key, looked in store.look(table, shard).items():
        yield table_path(table.name, shard, key)
        yield from (f"{table_parts(table.name, shard, key)}/{name}" for name in looked.parts)


def _take_out(store: Store, shard: str, clip_ids: set[str]) -> bool:
    """Takes the rows of some clips out of a shard's tables; False where somebody is at work on one of them."""
    done = True
    for table, key in _keyed(store, shard):
        before = store.read_table(table, shard, key)
        if not any(row.clip_id in clip_ids for row in before.rows):
            continue
        if not before.is_whole:
            done = False
            continue
        rows = [row for row in before.rows if row.clip_id not in clip_ids]
        done &= store.commit_rows(table, shard, rows, key, before=before, left=clip_ids, only_alone=True).alone
    return done
