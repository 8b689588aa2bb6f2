"""Tables of rows below an output root, all written atomically.

A shard's table has two places. Finished rows are appended as *parts*, each a small durable Parquet file, so that a
crash loses none of them; at the shard's end one *commit* replaces the table and removes the parts. Reading merges
both. There are no locks: files only ever appear whole, and the later one wins.
"""

import os
import re
import secrets
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import pyarrow as pa
from upath import UPath

from caption_assets.errors import StoreError
from caption_assets.store import paths
from caption_assets.store.conditions import md5
from caption_assets.store.parquet import TableFile, dump_rows, parse_columns, parse_rows
from caption_assets.store.root import Root
from caption_assets.store.rows import AnyRow
from caption_assets.store.tables import Table, merge_rows

# A file of a row's: a kind of files, the clip, and a name that leads nowhere else.
_IN_FOLDER = re.compile(r"[^/]+/[^/]+/(?!\.{1,2}$)[^/]+")
_READ_TRIES = 20
_MOST_KEPT_BYTES = 16 << 20
_PART_NAME = re.compile(r"\d{8}-[0-9a-f]+\.parquet")

R = TypeVar("R", bound=AnyRow)


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look at a shard's table finds: something that changes whenever it is committed, None where it never was,
    and the names of the parts beside it."""

    stamp: str | None
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stored(Generic[R]):
    """A shard's table as it was read.

    `is_whole` says that there is a committed table and nothing beside it; `stale` are files that no row need name:
    those that a commit was to remove, and those that were announced. `looked` tells what was read.
    """

    rows: list[R]
    is_whole: bool
    stale: frozenset[str]
    looked: Looked


@dataclass(frozen=True, slots=True)
class Committed:
    """A commit: the table's path, whether nobody else has written the table since the caller had read it, or there was
    nothing to write, and whether there was something."""

    rel: str
    alone: bool
    written: bool


_NOTHING = Looked(None, ())


class Store(Root):
    """An output root with its tables.

    Creating a Store touches nothing.
    """

    def __init__(self, root: str | os.PathLike[str] | UPath) -> None:
        super().__init__(root)
        # Of parts that this store has written and not committed, by their folder: the next one's number, their names.
        self._next_part: dict[str, int] = {}
        self._appended: dict[str, set[str]] = {}
        # Tables that were read or written last, with their stamps.
        self._kept: dict[str, tuple[str, bytes]] = {}

    def read_rows(self, table: Table[R], shard: str, key: str | None = None) -> list[R]:
        """A shard's rows: those of `read_table`."""
        return self.read_table(table, shard, key).rows

    def read_table(
        self, table: Table[R], shard: str, key: str | None = None, looked: Looked | None = None
    ) -> Stored[R]:
        """A shard's rows: the committed table with the durable parts merged into it, the later row winning.

        Rows are told apart by their window, or by what the table says, and ordered by clip and start frame; rows
        without a window come first. Empty where there is no table. A damaged file is a StoreError. `looked` is what the
        caller has just found there.
        """
        table_rel, parts_rel = self._table_paths(table, shard, key)
        for _ in range(_READ_TRIES):
            # Parts are listed before the table is read: a commit in between shows as a part that is gone.
            found = looked or self._look(table_rel, parts_rel)
            looked = None
            read = self._read_file(table_rel, table, found.stamp) if found != _NOTHING else None
            rows, stale, superseded = (read.rows, read.stale, read.superseded) if read else ([], frozenset(), ())
            parts = [self._read_file(f"{parts_rel}/{name}", table) for name in found.parts if name not in superseded]
            if None not in parts:
                for part in filter(None, parts):
                    rows += part.rows
                    stale |= part.stale
                whole = read is not None and not found.parts
                return Stored(merge_rows(rows, table.told_apart_by), whole, stale, found)
        raise StoreError(f"read {self.url(table_rel)}", "it is being rewritten all the time", "try again")

    def read_columns(self, table: Table[R], shard: str, names: Sequence[str]) -> list[tuple[Any, ...]]:
        """Some columns of a committed table without keys, a tuple a row; empty where there is none. Where the place
        lets it, no other column is read."""
        rel, _ = self._table_paths(table, shard, None)
        file = self._files.open(rel)
        if file is None:
            return []
        with file, self._readable(rel, table):
            return parse_columns(table, file, names)

    def read_committed(self, table: Table[R], shard: str, key: str | None = None) -> list[R]:
        """The rows of a table that is only ever committed, without a look for parts; empty where there is none."""
        read = self._read_file(self._table_paths(table, shard, key)[0], table)
        return [] if read is None else read.rows

    def append_rows(
        self,
        table: Table[R],
        shard: str,
        rows: Sequence[R],
        key: str | None = None,
        *,
        before: Stored[R] | None = None,
    ) -> None:
        """Make finished rows durable without touching the table, where the caller has read it as `before`. Nothing is
        written for no rows."""
        if rows:
            self._append(table, shard, key, rows, (), before)

    def put_part(self, table: Table[R], shard: str, rows: Sequence[R], earlier: str | None = None) -> str:
        """Make rows durable as one part, in place of an `earlier` one that holds some of them; returns its name.

        For tables that several processes add to and nobody commits, so that no row is ever lost to another's commit:
        each has parts of its own.
        """
        name = self._append(table, shard, None, rows, ())
        if earlier is not None:
            with suppress(StoreError):  # what it holds is in the new one, too
                self._files.delete(f"{paths.table_parts(table.name, shard)}/{earlier}")
        return name

    def parts(self, table: Table[R], shard: str) -> list[str]:
        """The names of a table's parts, which are others whenever their rows are."""
        return list(self._look(*self._table_paths(table, shard, None)).parts)

    def announce(self, table: Table[R], shard: str, files: Sequence[str], *, before: Stored[R] | None = None) -> None:
        """Note that these files are about to be written. Those that no row comes to name go with the next commit."""
        if files:
            self._append(table, shard, None, (), files, before)

    def commit_rows(
        self,
        table: Table[R],
        shard: str,
        rows: Sequence[R],
        key: str | None = None,
        *,
        before: Stored[R] | None = None,
        left: Collection[str] = (),
        only_alone: bool = False,
    ) -> Committed:
        """Replace the shard's table by exactly these rows, then remove the parts, and the files that no row names any
        more: those that rows of before named, and those that were announced. Files of clips that have `left` the shard
        stay for whoever has them now. With `only_alone`, nothing is done where the table is not as the caller has read
        it any more.

        `before` is the table as the caller has read it. A table that holds just these rows is left as it is. Where the
        process dies before everything is removed, the shard's next commit removes it.
        """
        table_rel, parts_rel = self._table_paths(table, shard, key, rows)
        before = before or self.read_table(table, shard, key)
        rows, appended = merge_rows(rows), self._appended.pop(parts_rel, set())
        self._next_part.pop(parts_rel, None)
        named, leaving = _files_of(table, rows), set(left)
        if before.is_whole and not appended and rows == before.rows:
            self.remove(_to_remove(before.stale - named, leaving))
            return Committed(table_rel, alone=True, written=False)
        # Parts that another process appends from here on stay, and win over this table when it is read.
        found = self._look(table_rel, parts_rel)
        names = found.parts
        alone = found.stamp == before.looked.stamp and {*before.looked.parts, *appended}.issuperset(names)
        if only_alone and not alone:
            return Committed(table_rel, alone=False, written=False)
        was = [before] if alone else [before, self.read_table(table, shard, key)]
        gone = {rel for each in was for rel in _files_of(table, each.rows) | each.stale} - named
        stale = _to_remove(gone, leaving)
        data = dump_rows(table, rows, names, stale)
        self._files.write(table_rel, data, durable=True)
        self._keep(table_rel, data)
        self.each(lambda name: self._files.delete(f"{parts_rel}/{name}"), names)
        self._files.delete_empty_folder(parts_rel)
        self.remove(stale)
        return Committed(table_rel, alone, written=True)

    def keys(self, table: Table[R], shard: str) -> list[str]:
        """Keys of tables with rows for the shard, committed or in parts, sorted."""
        _check_key(table, "/".join("any" for _ in table.key_columns) or None)
        return [key for key in self.look(table, shard) if key is not None]

    def shards(self, table: Table[R]) -> list[str]:
        """Shards with a committed table that has no keys, sorted. (One whose key is too long to name a file goes by
        the name that it has there.)"""
        _check_key(table, None)
        names = self._files.names(paths.table_folder(table.name))
        return [name.removesuffix(".parquet") for name in names if name.endswith(".parquet")]

    def every_key(self, table: Table[R]) -> list[str]:
        """Keys that any shard may have a table of, sorted; none for a table without keys."""
        top, found = paths.table_folder(table.name), [""] if table.keyed else []
        for _ in table.key_columns:
            named = self.each(lambda key: self._files.names(f"{top}/{key}".rstrip("/")), found)
            below = zip(found, named, strict=True)
            found = [f"{key}/{name}".lstrip("/") for key, names in below for name in names if not _is_table(name)]
        return found

    def look(self, table: Table[R], shard: str) -> dict[str | None, Looked]:
        """What there is of a shard's tables of one kind, by the table's key, sorted. Reads none.

        The key is None for a table without keys, which is always there.
        """
        keys = self.every_key(table) if table.keyed else [None]
        looked = self.each(lambda key: self._look(*self._table_paths(table, shard, key)), keys)
        return {key: found for key, found in zip(keys, looked, strict=True) if key is None or found != _NOTHING}

    def table_stamp(self, table: Table[R], shard: str, key: str | None) -> str | None:
        """The same of one table; None where it has not been committed."""
        return self._look(*self._table_paths(table, shard, key)).stamp

    def delete_table(self, table: Table[R], shard: str, key: str | None = None) -> None:
        """Delete a shard's table, and its parts; files that its rows name stay."""
        table_rel, parts_rel = self._table_paths(table, shard, key)
        self.each(lambda name: self._files.delete(f"{parts_rel}/{name}"), self._look(table_rel, parts_rel).parts)
        self._files.delete_empty_folder(parts_rel)
        self._files.delete(table_rel)

    # Inside

    def _append(
        self,
        table: Table[R],
        shard: str,
        key: str | None,
        rows: Sequence[R],
        announced: Sequence[str],
        before: Stored[R] | None = None,
    ) -> str:
        table_rel, parts_rel = self._table_paths(table, shard, key, rows)
        if parts_rel not in self._next_part:
            found = before.looked if before else self._look(table_rel, parts_rel)
            self._next_part[parts_rel] = int(found.parts[-1].partition("-")[0]) + 1 if found.parts else 0
        number = self._next_part[parts_rel]
        self._next_part[parts_rel] = number + 1
        # The random end keeps two processes that write the same shard from overwriting each other's parts.
        name = f"{number:08d}-{secrets.token_hex(4)}.parquet"
        self._files.write(f"{parts_rel}/{name}", dump_rows(table, rows, (), announced), durable=True)
        self._appended.setdefault(parts_rel, set()).add(name)
        return name

    def _look(self, table_rel: str, parts_rel: str) -> Looked:
        stamp, names = self._files.look(table_rel, parts_rel)
        return Looked(stamp, tuple(name for name in names if _PART_NAME.fullmatch(name)))

    def _table_paths(self, table: Table[R], shard: str, key: str | None, rows: Iterable[R] = ()) -> tuple[str, str]:
        _check_key(table, key)
        for row in rows:
            if not isinstance(row, table.row) or table.key_of(row) != key:
                of = getattr(row, "key", None)
                raise StoreError(
                    f"write a {type(row).__name__} of {of!r} to {table} {key or ''}".rstrip(),
                    "it belongs to another table",
                    f"this one takes {table.row.__name__}s of its own key",
                )
        return paths.table(table.name, shard, key), paths.table_parts(table.name, shard, key)

    def _keep(self, rel: str, data: bytes) -> None:
        """Keeps a table that would have to be asked for: where a look shows that it is still the same, it is not."""
        if not self.looks_cost_nothing and len(data) <= _MOST_KEPT_BYTES:
            with self._lock:
                self._kept.pop(rel, None)
                self._kept[rel] = md5(data), data
                while sum(len(kept) for _, kept in self._kept.values()) > _MOST_KEPT_BYTES:
                    del self._kept[next(iter(self._kept))]

    def _read_file(self, rel: str, table: Table[R], stamp: str | None = None) -> TableFile[R] | None:
        """One Parquet file; None where there is none. `stamp` is what a look at it has just found."""
        kept = self._kept.get(rel)
        if kept is not None and kept[0] == stamp:
            data: bytes | None = kept[1]
        else:
            data = self._files.read(rel)
        if data is None:
            return None
        if stamp is not None:
            self._keep(rel, data)
        with self._readable(rel, table):
            return parse_rows(table, data)

    @contextmanager
    def _readable(self, rel: str, table: Table[R]) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, ValueError, OSError) as err:
            raise StoreError(
                f"read {self.url(rel)}",
                f"it is no readable table of {table}: {str(err).rstrip('.')}",
                "delete it and materialize the shard again",
            ) from err


def _check_key(table: Table[R], key: str | None) -> None:
    if len(table.key_columns) == (0 if key is None else key.count("/") + 1):
        return
    asked, form = f"table of {table} with key {key!r}", table.key_form
    if form is None:
        raise StoreError(asked, "it has one table, without keys", "leave the key out")
    raise StoreError(asked, f"it has a table for each {form}", "name one of these")


def _to_remove(rels: Iterable[str], left: Collection[str]) -> list[str]:
    return sorted(rel for rel in rels if rel.rpartition("/")[0].rpartition("/")[2] not in left)


def _is_table(name: str) -> bool:
    """Whether it is a shard's, and no key: earlier versions had enhanced captions where there are caption keys now."""
    return name.endswith((".parquet", ".parts"))


def _files_of(table: Table[R], rows: Iterable[R]) -> set[str]:
    """The files that rows name; only one in a folder of its clip's name is a row's own."""
    named = ((row.clip_id, getattr(row, table.file)) for row in rows) if table.file else ()
    return {rel for clip_id, rel in named if rel and _IN_FOLDER.fullmatch(rel) and rel.split("/")[1] == clip_id}
