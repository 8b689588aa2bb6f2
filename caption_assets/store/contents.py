"""Which clips the tables hold, by content and by id; and rows of clips that have left their shard, kept for the next.

A shard that is planned anew has no rows of a clip that it has no longer, or that has other bytes now. What was made of
it is kept *aside*, in tables of the same kinds below a root of their own, so that another shard, or another name, finds
it there. Nobody reads them for anything else.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from caption_assets.store import paths
from caption_assets.store.rows import WindowRow
from caption_assets.store.store import Store
from caption_assets.store.tables import CLIP_WINDOWS, TABLES, Table

ASIDE = "tables/aside"
_COLUMNS = ("clip_id", "content_hash", "relative_path", "location")


@dataclass(frozen=True, slots=True)
class Held:
    """A clip that the tables of a shard hold; `shard` is named as its tables are, and they are those of `store`."""

    store: Store
    shard: str
    clip_id: str
    content_hash: str
    relative_path: str
    location: str


def shard_file(shard: str) -> str:
    """What a shard's tables are called."""
    return paths.table(CLIP_WINDOWS.name, shard).rpartition("/")[2].removesuffix(".parquet")


def aside(store: Store) -> Store:
    """Where rows of clips that have left their shard are kept."""
    return store.below(ASIDE)


def held_by(store: Store, shard: str, rows: Iterable[WindowRow]) -> dict[str, Held]:
    """The clips of a shard's rows, by id; none whose bytes are not known."""
    return {
        row.clip_id: Held(store, shard, row.clip_id, row.content_hash, row.relative_path, row.location)
        for row in rows
        if row.content_hash is not None
    }


def tables_of(store: Store, shard: str) -> Iterator[tuple[Table[Any], str | None, list[Any]]]:
    """Every table that the steps have written for a shard, with its key and its rows."""
    for table in TABLES.values():
        for key, looked in store.look(table, shard).items():
            yield table, key, store.read_table(table, shard, key, looked).rows


class Contents:
    """The clips of all shards, as the tables had them when first asked for, and as `replace` says since."""

    def __init__(self, store: Store) -> None:
        self._store, self._aside = store, aside(store)

    @cached_property
    def _shards(self) -> dict[tuple[bool, str], dict[str, Held]]:
        """The clips by id, by whether they are set aside, and by shard."""
        found: dict[tuple[bool, str], dict[str, Held]] = {}
        for is_aside, store in enumerate((self._store, self._aside)):
            shards = store.shards(CLIP_WINDOWS)
            for shard, clips in zip(shards, store.each(partial(_clips, store), shards), strict=True):
                found[bool(is_aside), shard] = clips
        return found

    @cached_property
    def _by_content(self) -> dict[tuple[bool, str], dict[Held, None]]:
        """The clips by their bytes, and by whether they are set aside. Thousands may have the same."""
        by_content: dict[tuple[bool, str], dict[Held, None]] = defaultdict(dict)
        for (is_aside, _), clips in self._shards.items():
            for held in clips.values():
                by_content[is_aside, held.content_hash][held] = None
        return by_content

    @cached_property
    def _by_id(self) -> dict[str, list[Held]]:
        by_id = defaultdict(list)
        for (is_aside, _), clips in self._shards.items():
            for held in clips.values() if not is_aside else ():
                by_id[held.clip_id].append(held)
        return by_id

    def with_content(self, content_hash: str) -> Iterable[Held]:
        """The clips of shards that have, or have had, these bytes."""
        return self._by_content[False, content_hash]

    def aside_with_content(self, content_hash: str) -> Iterable[Held]:
        """Those that are set aside."""
        return self._by_content[True, content_hash]

    def with_id(self, clip_id: str) -> list[Held]:
        """The clips of this id that shards have."""
        return self._by_id[clip_id]

    def replace(self, shard: str, clips: Mapping[str, Held]) -> None:
        """A shard has these clips from now on."""
        for held in self._shards.get((False, shard), {}).values():
            self._by_content[False, held.content_hash].pop(held, None)
            self._by_id[held.clip_id].remove(held)
        for held in clips.values():
            self._by_content[False, held.content_hash][held] = None
            self._by_id[held.clip_id].append(held)
        self._shards[False, shard] = dict(clips)

    def set_aside(self, shard: str, clips: Iterable[Held]) -> None:
        """Keeps all rows of some clips of a shard aside."""
        ids = {held.clip_id for held in clips}
        for table, key, rows in tables_of(self._store, shard):
            if leaving := [row for row in rows if row.clip_id in ids]:
                known = self._aside.read_rows(table, shard, key)
                self._aside.commit_rows(table, shard, [*known, *leaving], key)
        for held in clips:
            at = Held(self._aside, shard, held.clip_id, held.content_hash, held.relative_path, held.location)
            self._by_content[True, held.content_hash][at] = None


def _clips(store: Store, shard: str) -> dict[str, Held]:
    found: dict[str, Held] = {}
    for clip_id, content_hash, relative_path, location in store.read_columns(CLIP_WINDOWS, shard, _COLUMNS):
        if content_hash is not None:
            found[clip_id] = Held(store, shard, clip_id, content_hash, relative_path, location)
    return found
