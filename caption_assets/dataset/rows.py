"""Rows of the files that people keep tables in."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO

Numbered = Iterator[tuple[int, dict[str, Any] | str]]
"""Rows with their numbers from 1 on; of one that cannot be used, what it is instead."""
_UNREADABLE = "that cannot be read"
_SURPLUS = "\0"  # no column is called so


def rows_of(file: BinaryIO, suffix: str) -> Numbered:
    """The rows of a CSV, TSV, JSONL, Parquet or TXT file, which has a path a line. Raises ValueError."""
    if suffix == ".parquet":
        return _parquet(file)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    if suffix in (".csv", ".tsv"):
        return _csv(text, "\t" if suffix == ".tsv" else ",")
    return _jsonl(text) if suffix in (".jsonl", ".ndjson") else _txt(text)


def _csv(text: io.TextIOBase, delimiter: str) -> Numbered:
    csv.field_size_limit(1 << 27)
    rows = csv.DictReader(text, delimiter=delimiter, restkey=_SURPLUS, restval="")
    names = [name for name in rows.fieldnames or () if name]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"two of its columns are called {twice[0]!r}")
    for number, row in enumerate(rows, 1):
        row.pop("", None)  # a column without a name, as of row numbers
        surplus = row.pop(_SURPLUS, ())
        yield number, "with more cells than there are columns" if any(surplus) else row


def _jsonl(text: io.TextIOBase) -> Numbered:
    for number, line in enumerate(text, 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            yield number, row if isinstance(row, dict) else {"path": row} if isinstance(row, str) else _UNREADABLE


def _txt(text: io.TextIOBase) -> Numbered:
    for number, line in enumerate(text, 1):
        if line.strip() and not line.startswith("#"):
            yield number, {"path": line.rstrip("\r\n")}


def _parquet(file: BinaryIO) -> Numbered:
    import pyarrow.parquet as pq

    number = 0
    for batch in pq.ParquetFile(file).iter_batches(batch_size=4096):
        for row in batch.to_pylist():
            number += 1
            yield number, row
