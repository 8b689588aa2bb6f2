"""The output root as the steps see it: tables of rows, JSON documents, and bytes, all written atomically.

A shard's table has two places. Finished rows are appended as *parts*, each a small durable Parquet file, so that a
crash loses none of them; at the shard's end one *commit* replaces the table and removes the parts. Reading merges
both. There are no locks: files only ever appear whole, and the later one wins.
"""

import io
import json
import os
import re
import secrets
from collections.abc import Iterable, Sequence
from types import EllipsisType
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from caption_assets.errors import StoreError
from caption_assets.names import written
from caption_assets.store import paths
from caption_assets.store.files import open_files
from caption_assets.store.rows import Row
from caption_assets.store.tables import Table, merge_rows, rows_to_table, table_to_rows

# In a committed table's file metadata: the parts whose rows the commit has taken account of. A crash between the
# commit and their removal would otherwise bring rows back that the commit had replaced.
_SUPERSEDED = b"caption_assets.superseded_parts"
_READ_TRIES = 20
_PART_NAME = re.compile(r"\d{8}-[0-9a-f]+\.parquet")

R = TypeVar("R", bound=Row)


class Store:
    """An output root: local path, `memory://`, `s3://…` or whatever else fsspec opens.

    All `rel` arguments are posix paths relative to the root, as the rooms' `paths` gives them. Every failure of the
    place itself is a StoreError. Creating a Store touches nothing.
    """

    def __init__(self, root: str | os.PathLike[str] | UPath) -> None:
        self._files = open_files(root)
        self._next_part: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"Store({self._files.url!r})"

    def url(self, rel: str = "") -> str:
        """Absolute path or URL of a file, or of the root, as `names.written` has it."""
        return written(f"{self._files.url}/{_checked(rel)}" if rel else self._files.url)

    def check_writable(self) -> None:
        """Raise StoreError where nothing could be written, before anything has been created."""
        self._files.check_writable()

    # Tables

    def read_rows(self, table: Table[R], shard: str, key: str | None = None) -> list[R]:
        """A shard's rows: the committed table with the durable parts merged into it, the later row winning.

        Rows are told apart by (clip_id, start_frame, end_frame) and ordered by clip and start frame; rows without
        a window come first. Empty where there is no table. A damaged file is a StoreError.
        """
        table_rel, parts_rel = self._table_paths(table, shard, key)
        for _ in range(_READ_TRIES):
            # Parts are listed before the table is read: a commit in between shows as a part that is gone.
            names = self._part_names(parts_rel)
            rows, superseded = self._read_file(table_rel, table) or ([], frozenset())
            for name in names:
                if name in superseded:
                    continue
                part = self._read_file(f"{parts_rel}/{name}", table)
                if part is None:
                    break
                rows.extend(part[0])
            else:
                return merge_rows(rows)
        raise StoreError(f"read {self.url(table_rel)}", "it is being rewritten all the time", "try again")

    def append_rows(self, table: Table[R], shard: str, rows: Sequence[R], key: str | None = None) -> None:
        """Make finished rows durable without touching the table. Nothing is written for no rows."""
        _, parts_rel = self._table_paths(table, shard, key, rows)
        if not rows:
            return
        if parts_rel not in self._next_part:
            names = self._part_names(parts_rel)
            self._next_part[parts_rel] = int(names[-1].partition("-")[0]) + 1 if names else 0
        number = self._next_part[parts_rel]
        self._next_part[parts_rel] = number + 1
        # The random end keeps two processes that write the same shard from overwriting each other's parts.
        rel = f"{parts_rel}/{number:08d}-{secrets.token_hex(4)}.parquet"
        self._files.write(rel, _parquet(rows, table.row, ()), durable=True)

    def commit_rows(self, table: Table[R], shard: str, rows: Sequence[R], key: str | None = None) -> str:
        """Replace the shard's table by exactly these rows, then remove the parts; returns the table's rel path."""
        table_rel, parts_rel = self._table_paths(table, shard, key, rows)
        # Parts that another process appends from here on stay, and win over this table when it is read.
        names = self._part_names(parts_rel)
        self._files.write(table_rel, _parquet(merge_rows(rows), table.row, names), durable=True)
        for name in names:
            self._files.delete(f"{parts_rel}/{name}")
        self._files.delete_empty_folder(parts_rel)
        return table_rel

    def keys(self, table: Table[R], shard: str) -> list[str]:
        """Caption keys with rows for the shard, committed or in parts, sorted."""
        _check_key(table, "any")
        return [
            key
            for key in self._files.names(paths.table_folder(table.name))
            if self._files.stamp(paths.table(table.name, shard, key)) is not None
            or self._part_names(paths.table_parts(table.name, shard, key))
        ]

    def table_stamp(self, table: Table[R], shard: str, key: str | None = None) -> str | None:
        """Something that changes whenever the shard's table is committed; None without a table."""
        return self._files.stamp(self._table_paths(table, shard, key)[0])

    # Bytes

    def read_bytes(self, rel: str) -> bytes | None:
        """A file's bytes, None where there is none."""
        return self._files.read(_checked(rel))

    def write_bytes(self, rel: str, data: bytes) -> None:
        """Write a file whole and durably, over any older one."""
        self._files.write(_checked(rel), data, durable=True)

    def write_if_changed(self, rel: str, data: bytes, *, known: bytes | EllipsisType | None = ...) -> bool:
        """Write a file unless it already holds exactly `data`; returns whether it was written.

        `known` is what the file holds, where the caller has just read it. Not synced to disk: for what is rendered
        from the tables and can be rendered again.
        """
        if (self._files.read(_checked(rel)) if known is ... else known) == data:
            return False
        self._files.write(_checked(rel), data, durable=False)
        return True

    def delete(self, rel: str) -> bool:
        """Delete one file; returns whether it was there."""
        return self._files.delete(_checked(rel))

    def delete_empty_folder(self, rel: str) -> None:
        """Delete a folder if it is there and empty."""
        self._files.delete_empty_folder(_checked(rel))

    def names(self, rel: str) -> list[str]:
        """Names of the files and folders directly in a folder, sorted; empty where there is no such folder."""
        return self._files.names(_checked(rel))

    # Inside

    def _table_paths(self, table: Table[R], shard: str, key: str | None, rows: Iterable[R] = ()) -> tuple[str, str]:
        _check_key(table, key)
        for row in rows:
            if not isinstance(row, table.row) or (key is not None and getattr(row, "key", None) != key):
                raise StoreError(
                    f"write a {type(row).__name__} of {getattr(row, 'key', None)!r} to {table} {key or ''}".rstrip(),
                    "it belongs to another table",
                    f"this one takes {table.row.__name__}s of its own key",
                )
        return paths.table(table.name, shard, key), paths.table_parts(table.name, shard, key)

    def _part_names(self, parts_rel: str) -> list[str]:
        return [name for name in self._files.names(parts_rel) if _PART_NAME.fullmatch(name)]

    def _read_file(self, rel: str, table: Table[R]) -> tuple[list[R], frozenset[str]] | None:
        """Rows of one Parquet file and the parts it supersedes; None where there is no file."""
        data = self._files.read(rel)
        if data is None:
            return None
        try:
            arrow = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
            superseded = json.loads((arrow.schema.metadata or {}).get(_SUPERSEDED, b"[]"))
            return table_to_rows(arrow, table.row), frozenset(superseded)
        except (pa.ArrowException, ValueError, OSError) as err:
            raise StoreError(
                f"read {self.url(rel)}",
                f"it is no readable table of {table}: {str(err).rstrip('.')}",
                "delete it and materialize the shard again",
            ) from err


def _check_key(table: Table[R], key: str | None) -> None:
    if table.keyed != (key is not None):
        wrong = "it has a table for each caption key" if table.keyed else "it has one table, without caption keys"
        raise StoreError(f"table of {table} with key {key!r}", wrong, "name a key for captions only")


def _parquet(rows: Sequence[R], row_type: type[R], superseded: Sequence[str]) -> bytes:
    table = rows_to_table(rows, row_type)
    table = table.replace_schema_metadata({_SUPERSEDED: json.dumps(list(superseded)).encode()})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _checked(rel: str) -> str:
    """`rel`, if it stays below the root. Documents of other tools name paths, too."""
    if not rel or "\0" in rel or any(part in ("", ".", "..") for part in rel.split("/")):
        raise StoreError(f"path {rel!r} below the output root", "it leads elsewhere", "name a file below the root")
    return rel
