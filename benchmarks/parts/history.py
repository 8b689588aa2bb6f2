"""History of many shards in a Dagster instance, as copies of that of one."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import dagster as dg

FIRST = "shard-00000"


class History:
    """Writes what an instance knows of one shard, the first, as that of others, straight into its SQLite event log:
    for as many shards as matter here, runs would take days."""

    def __init__(self, instance: dg.DagsterInstance, shards: Sequence[str]) -> None:
        self._path = instance.event_log_storage.path_for_shard("index")  # type: ignore[attr-defined]  # SQLite has it
        self._shards = shards

    def copy(self, event: int, of: Callable[[str], dict[str, str]]) -> None:
        """The event with this id, of the first shard, for each other one, with words replaced as `of` a shard says."""
        with closing(sqlite3.connect(self._path)) as db, db:
            db.row_factory = sqlite3.Row
            row = dict(db.execute("select * from event_logs where id = ?", (event,)).fetchone())
            tags = [dict(each) for each in db.execute("select * from asset_event_tags where event_id = ?", (event,))]
            (last,) = db.execute("select max(id) from event_logs").fetchone()
            rows, tag_rows = [], []
            for number, shard in enumerate(self._shards[1:], 1):
                words = {FIRST: shard, **of(shard)}
                rows.append({name: _replaced(value, words) for name, value in row.items()} | {"id": last + number})
                for tag in tags:
                    copied = {name: _replaced(value, words) for name, value in tag.items() if name != "id"}
                    tag_rows.append({**copied, "event_id": last + number})
            _insert(db, "event_logs", rows)
            _insert(db, "asset_event_tags", tag_rows)

    def copy_all(self) -> None:
        """All events of the first shard, and what checks said of it."""
        with closing(sqlite3.connect(self._path)) as db:
            events = [event for (event,) in db.execute("select id from event_logs where partition = ?", (FIRST,))]
        for event in events:
            self.copy(event, lambda shard: {})
        with closing(sqlite3.connect(self._path)) as db, db:
            db.row_factory = sqlite3.Row
            found = db.execute("select * from asset_check_executions where partition = ?", (FIRST,)).fetchall()
            said = [{name: value for name, value in dict(row).items() if name != "id"} for row in found]
            for shard in self._shards[1:]:
                rows = [{name: _replaced(value, {FIRST: shard}) for name, value in row.items()} for row in said]
                _insert(db, "asset_check_executions", rows)


def _replaced(value: Any, words: dict[str, str]) -> Any:
    if isinstance(value, str):
        for word, other in words.items():
            value = value.replace(word, other)
    return value


def _insert(db: sqlite3.Connection, table: str, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        names = list(rows[0])
        holes = ", ".join("?" * len(names))
        db.executemany(f"insert into {table} ({', '.join(names)}) values ({holes})", [list(r.values()) for r in rows])
