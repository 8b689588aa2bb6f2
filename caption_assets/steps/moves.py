"""Clips that were elsewhere before: their texts and previews, and what people said of them, are brought along.

A clip that is new to a shard, and has the bytes of one that its shard no longer has, has moved, or has another name. It
makes no difference which of two shards is planned first: see `store.contents`.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice
from typing import Any

from caption_assets.dataset import Dataset, Listing
from caption_assets.errors import DatasetError
from caption_assets.records import Clip
from caption_assets.save_export import paths
from caption_assets.save_export.removal import own_processed
from caption_assets.steps.documents import render_documents_of
from caption_assets.store.contents import Contents, Held, held_by, shard_file, tables_of
from caption_assets.store.earlier import move_earlier
from caption_assets.store.rows import CaptionRow, EnhancedRow, PreviewRow, WindowKey, WindowRow, window_key
from caption_assets.store.store import Store
from caption_assets.store.tables import CLIP_WINDOWS, REVIEW_TABLES, WINDOW_PREVIEWS

log = logging.getLogger(__name__)
# Of clips elsewhere that have a new clip's bytes, so many are looked at: where they are all still there, it is a copy.
_MOST_COPIES = 16


@dataclass(frozen=True, slots=True)
class Move:
    """A clip, and what it was before; whether no clip has that one's path now, and whether none has its id."""

    now: Held
    before: Held
    path_is_free: bool
    id_is_free: bool


class Moves:
    """The moves that a run comes upon. For the thread that plans shards, but for `settle`."""

    def __init__(self, store: Store, dataset: Dataset) -> None:
        self._store, self._dataset = store, dataset
        self._contents = Contents(store)
        self._followed: set[tuple[str, str]] = set()
        # Of clips that have moved, the files that their rows named before.
        self._files: dict[Held, set[str]] = defaultdict(set)
        self._paths_in: dict[str, frozenset[str]] = {}

    def listed(self, shard: str, listing: Listing) -> None:
        """A shard of the run holds this; any thread may say so."""
        self._paths_in[shard_file(shard)] = frozenset(clip.relative_path for clip in listing.clips)

    def taken(self, shard: str, clips: Iterable[Clip]) -> dict[str, str]:
        """Of clips that are new, those whose id a clip of another shard has: that one's path, by id."""
        return {
            clip.clip_id: held.relative_path
            for clip in clips
            for held in self._contents.with_id(clip.clip_id)
            if held.shard != shard_file(shard) and self._is_there(held)
        }

    def follow(self, shard: str, before: Sequence[WindowRow], after: Sequence[WindowRow]) -> list[Move]:
        """Brings along what was made of the shard's new clips where they were before, and keeps aside what was made of
        those that have left. `before` and `after` are the rows of its windows, which are still to be committed."""
        name = shard_file(shard)
        was, now = held_by(self._store, name, before), held_by(self._store, name, after)
        new = [held for held in now.values() if not _is_same(was.get(held.clip_id), held)]
        gone = [held for held in was.values() if not _is_same(now.get(held.clip_id), held)]
        if not new and not gone:
            return []
        gone_by_content = {held.content_hash: held for held in reversed(gone)}
        moves = [move for held in new if (move := self._move(held, gone_by_content, now)) is not None]
        of_sources: dict[tuple[Store, str], list[Move]] = defaultdict(list)
        for move in moves:
            of_sources[move.before.store, move.before.shard].append(move)
        for (store, source), of_source in of_sources.items():
            self._bring(shard, store, source, of_source, now, after)
        self._followed |= {(move.before.shard, move.before.clip_id) for move in moves}
        left = [held for held in gone if (name, held.clip_id) not in self._followed]
        if left:
            self._contents.set_aside(name, left)
        self._contents.replace(name, now)
        return moves

    def settle(self, shard: str, moves: Iterable[Move], source_root: str | None) -> None:
        """Leaves one document a clip, when the shard's windows are committed: what others have put into that of a clip
        with another id is brought along, and the shard's are rendered."""
        for move in moves:
            old, new = paths.clip_document(move.before.clip_id), paths.clip_document(move.now.clip_id)
            if old != new and self._store.read_bytes(new) is None:
                document = self._store.read_bytes(old)
                if document is not None:
                    self._store.write_bytes(new, document)
        render_documents_of(self._store, shard, source_root)
        for move in moves:
            was, rels = move.before, set[str]()
            log.info("%s was %s before: nothing of it is made again", move.now.relative_path, was.relative_path)
            if move.path_is_free and was.relative_path != move.now.relative_path:
                rels.update(own_processed(self._store, was.clip_id, was.relative_path, was.location))
            if move.id_is_free and move.now.clip_id != was.clip_id:
                rels |= {paths.clip_document(was.clip_id), *self._files[was]}
            self._store.remove(sorted(rels))

    def _move(self, new: Held, gone: Mapping[str, Held], now: Mapping[str, Held]) -> Move | None:
        """Where a new clip was before, if anywhere; `gone` are clips that its shard has no longer, by content."""
        content = new.content_hash
        others = (held for held in self._contents.with_content(content) if held.shard != new.shard)
        left = (held for held in islice(others, _MOST_COPIES) if not self._is_there(held))
        before = gone.get(content) or next(chain(left, self._contents.aside_with_content(content)), None)
        if before is None:
            return None
        path_is_free = not self._is_there(before)
        with_id = [held for held in self._contents.with_id(before.clip_id) if held.shard != before.shard]
        id_is_free = path_is_free and before.clip_id not in now and not any(map(self._is_there, with_id))
        return Move(new, before, path_is_free, id_is_free)

    def _bring(
        self,
        shard: str,
        source_store: Store,
        source: str,
        moves: Sequence[Move],
        now: Mapping[str, Held],
        after: Sequence[WindowRow],
    ) -> None:
        """Brings the rows of clips that were in one shard, and their files."""
        new_ids: dict[str, list[str]] = defaultdict(list)
        for move in moves:
            new_ids[move.before.clip_id].append(move.now.clip_id)
        of_clip = {move.before.clip_id: move.before for move in moves}
        windows = {window_key(row): row for row in after if row.status == "ok"}

        def moved(rows: Iterable[Any]) -> list[Any]:
            renamed = [replace(row, clip_id=new) for row in rows for new in new_ids.get(row.clip_id, ())]
            return [row for row in renamed if window_key(row) in windows]

        if source_store is self._store:
            move_earlier(self._store, source)
        for made, key, rows in tables_of(source_store, source):
            for row in rows if made.file is not None else ():
                if row.clip_id in of_clip and (rel := getattr(row, made.file or "")):
                    self._files[of_clip[row.clip_id]].add(rel)
            if made is CLIP_WINDOWS:
                continue
            known = {window_key(row): row for row in self._store.read_rows(made, shard, key)}
            good = [row for row in moved(rows) if _is_good(row, windows, known)]
            if made is WINDOW_PREVIEWS:
                good = self._bring_previews(shard, good, now)
            self._store.append_rows(made, shard, good, key)
        for review in REVIEW_TABLES:
            said = moved(self._store.read_rows(review, source))
            there = self._store.read_rows(review, shard) if said else []
            if news := [row for row in said if row not in there]:
                self._store.put_part(review, shard, news)

    def _bring_previews(self, shard: str, rows: Sequence[PreviewRow], now: Mapping[str, Held]) -> list[PreviewRow]:
        """The rows of previews whose files are there, under the names that they have now."""
        named = [(row, str(row.path), paths.preview(*window_key(row))) for row in rows]
        self._store.announce(WINDOW_PREVIEWS, shard, [rel for _, was, rel in named if was != rel])
        sizes = self._store.sizes(rel for _, was, rel in named if was == rel)
        found = []
        for row, was, rel in named:
            if was == rel:
                is_there = sizes[rel] == row.num_bytes
            elif was.split("/")[1] in now:  # which may be about to be written over
                is_there = False
            else:
                data = self._store.read_bytes(was)
                is_there = data is not None and len(data) == row.num_bytes
                if data is not None and is_there:
                    self._store.write_bytes(rel, data)
            if is_there:
                found.append(replace(row, path=rel))
        return found

    def _is_there(self, held: Held) -> bool:
        """Whether the dataset has a clip at this path still."""
        if held.shard not in self._paths_in:
            self._paths_in[held.shard] = frozenset()
            with suppress(DatasetError):  # no clip is left in it
                if held.shard in self._shards:
                    shard = self._shards[held.shard]
                    self.listed(shard, self._dataset.listing(shard))
        return held.relative_path in self._paths_in[held.shard]

    @cached_property
    def _shards(self) -> dict[str, str]:
        """The dataset's shards by what their tables are called."""
        return {shard_file(shard): shard for shard in self._dataset.shards()}


def _is_same(was: Held | None, now: Held) -> bool:
    return was is not None and was.content_hash == now.content_hash


def _is_good(
    row: PreviewRow | CaptionRow | EnhancedRow,
    windows: Mapping[WindowKey, WindowRow],
    all_known: Mapping[WindowKey, Any],
) -> bool:
    """Whether a row is of what its window holds, and is not there already."""
    known = all_known.get(window_key(row))
    if known is not None and known.status != "ok":
        known = None
    if isinstance(row, EnhancedRow):
        return row.status == "ok" and (known is None or known.caption_hash != row.caption_hash)
    is_of = row.status == "ok" and row.content_hash == windows[window_key(row)].content_hash
    return is_of and (known is None or known.content_hash != row.content_hash)
