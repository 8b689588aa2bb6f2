"""What people say, made durable as they say it."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Generic, TypeVar

from pydantic import StringConstraints

from caption_assets.store.rows import ComparisonRow, VerdictRow
from caption_assets.store.store import Store
from caption_assets.store.tables import Table

_ROWS_PER_PART = 256
Reviewer = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")
]
"""Who says something, as it may be given."""

R = TypeVar("R", VerdictRow, ComparisonRow)


@dataclass
class _Part(Generic[R]):
    name: str | None = None
    rows: list[R] = field(default_factory=list)


class Journal(Generic[R]):
    """Adds rows to a table of which every server that is at work has parts of its own. For any thread.

    A row is on the disk, or in the object store, when `add` returns. Rows go into the same part until that holds 256:
    so a long session leaves few files, and none is large enough for its rewriting to be felt.
    """

    def __init__(self, store: Store, table: Table[R]) -> None:
        self._store = store
        self._table: Table[R] = table
        self._parts: dict[str, _Part[R]] = {}
        self._last = datetime.min.replace(tzinfo=UTC)
        self._lock = threading.Lock()

    def add(self, shard: str, make: Callable[[str], R]) -> R:
        """Adds what `make` makes of the time of now, which is later than that of any row before. Raises StoreError."""
        with self._lock:
            row = make(self._now())
            part: _Part[R] = self._parts.get(shard, _Part())
            if len(part.rows) >= _ROWS_PER_PART:
                part = _Part()
            rows = list(part.rows)
            rows.append(row)
            self._parts[shard] = _Part(self._store.put_part(self._table, shard, rows, part.name), rows)
            return row

    def _now(self) -> str:
        """ISO 8601 to the microsecond, in UTC; never twice the same, also where the clock is set back."""
        self._last = max(datetime.now(UTC), self._last + timedelta(microseconds=1))
        return self._last.isoformat(timespec="microseconds")
