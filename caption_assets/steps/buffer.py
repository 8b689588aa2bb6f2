"""Rows on their way into a table: durable soon after they are made, committed at the end."""

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Self, TypeVar

from caption_assets.store.rows import CaptionRow, EnhancedRow, PreviewRow, WindowKey, WindowRow, window_key
from caption_assets.store.snapshot import Stamps
from caption_assets.store.store import Store, Stored
from caption_assets.store.tables import Table

R = TypeVar("R", PreviewRow, CaptionRow, EnhancedRow)
Any_R = TypeVar("Any_R", WindowRow, PreviewRow, CaptionRow, EnhancedRow)

_FLUSH_ROWS = 64
_FLUSH_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Done:
    """A table that is committed, by its URL. `unchanged` has its stamp where it is as it was read."""

    location: str
    unchanged: Stamps


class RowBuffer(Generic[R]):
    """Collects one shard's rows of one table, from those that it has, and from new ones.

    New rows reach the disk after at most 64 of them or 10 seconds, so that a crash loses little, and at once where
    the `with` block is left by an exception; `commit` replaces the table by exactly the rows that were reused or
    added. `reused` counts the former. For one thread at a time.
    """

    def __init__(
        self, store: Store, table: Table[R], shard: str, key: str | None = None, clips: Collection[str] | None = None
    ) -> None:
        """`clips` are those of the shard, by id, where the rows' files stay that are of others."""
        self.rows: list[R] = []
        self.reused = 0
        self._store, self._shard, self._key = store, shard, key
        self._table: Table[R] = table
        self._stored: Stored[R] = store.read_table(table, shard, key)
        self._before: dict[WindowKey, R] = {window_key(row): row for row in self._stored.rows}
        self._left = {row.clip_id for row in self._stored.rows if clips is not None and row.clip_id not in clips}
        self._unsaved: list[R] = []
        self._saved_at = time.monotonic()

    @property
    def before(self) -> Collection[R]:
        """The rows that the shard has."""
        return self._before.values()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.flush()

    def file_bytes(self, window: WindowKey) -> int | None:
        """The size of a window's file by its row, if there is one."""
        return getattr(self._before.get(window), self._table.file_bytes or "", None)

    def reuse(self, window: WindowKey, fingerprint: str, of: str = "fingerprint") -> bool:
        """Takes over the good row of a window (its `window_key`) that was made just so, by the field `of`; False where
        there is none."""
        row = self._before.get(window)
        if row is None or row.status != "ok" or getattr(row, of) != fingerprint:
            return False
        self.rows.append(row)
        self.reused += 1
        return True

    def change_last(self, **fields: Any) -> None:
        """Other values for fields of the row that was taken over last, that its fingerprint does not cover."""
        self.rows[-1] = replace(self.rows[-1], **fields)

    def keep(self, windows: Iterable[WindowKey]) -> None:
        """Takes over whatever rows there are of windows, which are not worked on."""
        self.rows += [self._before[window] for window in windows if window in self._before]

    def add(self, row: R) -> None:
        """A new row."""
        self.rows.append(row)
        self._unsaved.append(row)
        if len(self._unsaved) >= _FLUSH_ROWS or time.monotonic() - self._saved_at >= _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Makes the new rows durable."""
        self._store.append_rows(self._table, self._shard, self._unsaved, self._key, before=self._stored)
        self._unsaved, self._saved_at = [], time.monotonic()

    def announce(self, files: Sequence[str]) -> None:
        """Notes that these files are about to be written, so that none is left behind whatever happens."""
        self._store.announce(self._table, self._shard, files, before=self._stored)

    def commit(self) -> Done:
        """Replaces the table, in the order of clips and windows."""
        self.rows.sort(key=window_key)
        return commit(self._store, self._table, self._shard, self.rows, self._key, self._stored, self._left)


def commit(
    store: Store,
    table: Table[Any_R],
    shard: str,
    rows: list[Any_R],
    key: str | None = None,
    before: Stored[Any_R] | None = None,
    left: Collection[str] = (),
) -> Done:
    """Commits `rows`; files of clips that have `left` the shard stay. Where another run has written the same table
    meanwhile, rows whose file it has replaced or removed become failed ones, in the list, too: no row says what its
    file is not."""
    committed = store.commit_rows(table, shard, rows, key, before=before, left=left)
    file, file_bytes = table.file, table.file_bytes
    unchanged = {(table.name, key): before.looked.stamp} if before and not committed.written else {}
    done = Done(store.url(committed.rel), unchanged)
    if committed.alone or file is None:
        return done
    sizes = store.sizes(rel for row in rows if (rel := getattr(row, file)))
    gone: dict[str, Any] = {file: None, "fingerprint": "", **({file_bytes: None} if file_bytes else {})}
    why = "another run at work on this shard has written or removed its file: run it again, alone"
    taken = False
    for at, row in enumerate(rows):
        if (rel := getattr(row, file)) is None:
            continue
        if sizes[rel] is None or (file_bytes and sizes[rel] != getattr(row, file_bytes)):
            rows[at] = replace(row, **gone, status="failed", error_kind="overwritten", error=why)
            taken = True
    if taken:
        store.commit_rows(table, shard, rows, key, left=left)
    return done
