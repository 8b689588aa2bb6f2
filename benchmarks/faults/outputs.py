"""What an output root holds, told so that two can be compared, and whether everything in it fits together."""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from caption_assets.store import TABLES, Store
from caption_assets.store.scratch import FOLDER
from caption_assets.store.tables import RUN_COSTS

# Of a row, what differs from run to run.
_RUN_FIELDS = {"seconds", "decode_s", "render_s", "wait_s", "prefill_s", "generate_s"}
# Of files, the encoder's threads make other bytes of each time, and other sizes.
_DIFFERS = {".mp4"}
_SIZES = {"window_previews": "num_bytes", "clip_windows": "mp4_bytes"}
Key = tuple[str, str, str | None, str, int | None, int | None]


@dataclass(frozen=True)
class Output:
    """Rows by (table, shard, caption key, clip, first frame, last frame), and the bytes of all files but tables."""

    rows: dict[Key, dict[str, Any]]
    files: dict[str, bytes]


def read_output(root: Path, shards: list[str]) -> Output:
    """What is there, as any reader would see it now."""
    store, rows = Store(str(root)), {}
    for table in TABLES.values():
        for shard in shards:
            for key in store.keys(table, shard) if table.keyed else [None]:
                for row in store.read_rows(table, shard, key):
                    fields = {name: value for name, value in asdict(row).items() if name not in _RUN_FIELDS}
                    rows[table.name, shard, key, row.clip_id, row.start_frame, row.end_frame] = fields
    files = {
        path.relative_to(root).as_posix(): b"" if path.suffix in _DIFFERS else path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.relative_to(root).parts[0] not in ("tables", FOLDER)
    }
    return Output(rows, files)


def faults_of(root: Path, shards: list[str], wanted: Output | None = None) -> list[str]:
    """What is wrong with an output root, in words: files that rows name and that are not there or not as they say,
    windows that a committed table has twice and, where all runs have ended well and `wanted` is what one alone makes
    of the same clips, every difference to that."""
    found, now = [], read_output(root, shards)
    for key, row in now.rows.items():
        rel = row.get("path") or row.get("mp4_path")
        if rel is None:
            continue
        path = root / rel
        if not path.is_file():
            found.append(f"{rel}, which a row of {key[0]} names, is not there")
        elif path.stat().st_size != (said := row[_SIZES[key[0]]]):
            found.append(f"{rel} has {path.stat().st_size} bytes, its row says {said}")
    for path in sorted(path for name in TABLES for path in (root / "tables" / name).rglob("*.parquet")):
        columns = pq.read_table(path, columns=["clip_id", "start_frame", "end_frame"]).to_pylist()
        twice = [window for window, count in Counter(tuple(row.values()) for row in columns).items() if count > 1]
        found += [f"{path.relative_to(root)} has {window} twice" for window in twice]
    if wanted is not None:
        found += [f"row {key} is missing" for key in wanted.rows.keys() - now.rows.keys()]
        found += [f"row {key} is too many" for key in now.rows.keys() - wanted.rows.keys()]
        for key in wanted.rows.keys() & now.rows.keys():
            pairs = ((name, now.rows[key][name], value) for name, value in wanted.rows[key].items())
            found += [
                f"{name} of row {key} is {is_!r} and not {was!r}"
                for name, is_, was in pairs
                if is_ != was and name != "mp4_bytes"
            ]
        found += [f"file {rel} is missing" for rel in wanted.files.keys() - now.files.keys()]
        found += [f"file {rel} is too many" for rel in now.files.keys() - wanted.files.keys()]
        found += [
            f"file {rel} holds something else"
            for rel in wanted.files.keys() & now.files.keys()
            if wanted.files[rel] != now.files[rel]
        ]
        # The costs of a run that has died stay in parts, from which they are read.
        tables = [path for path in root.rglob("*.parts") if RUN_COSTS.name not in path.parts]
        left = [*root.rglob(FOLDER), *tables]
        found += [f"{path.relative_to(root)} was left" for path in left]
    return found
