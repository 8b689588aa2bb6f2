"""Texts that people have marked right or wrong, read from a table or taken from the reviews, with their scores."""

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from caption_assets.errors import ConfigError
from caption_assets.records import text_hash
from caption_assets.settings import ConfidenceScore
from caption_assets.store.rows import CaptionRow, EnhancedRow, key_of_text
from caption_assets.store.store import Store
from caption_assets.store.tables import CLIP_WINDOWS, ENHANCED_CAPTIONS, SHARD_REVIEW, WINDOW_CAPTIONS
from caption_assets.store.verdicts import standing

_RIGHT = frozenset({"right", "true", "1", "1.0", "yes", "y", "ok", "good"})
_WRONG = frozenset({"wrong", "false", "0", "0.0", "no", "n", "bad", "edited"})
_NONE = frozenset({"", "none", "nan", "null", "withdrawn", "disputed", "unsure"})
_CLIP, _START, _MARK = ("clip_id", "clip"), ("start_frame", "start"), ("right", "verdict", "mark")
_SCORES = get_args(ConfidenceScore)


@dataclass(frozen=True, slots=True)
class Mark:
    """What people say of a window's text. `clip` is its id, or its path in the dataset; `hash` is the text's."""

    clip: str
    start_frame: int
    right: bool
    hash: str | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """A marked text with its scores, by name."""

    right: bool
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Joined:
    """The marked texts that have scores, and how many marks were left out for what reason."""

    texts: tuple[Scored, ...]
    left_out: Mapping[str, int]


def read_marks(path: str, key: str) -> tuple[list[Mark], int]:
    """The marks of a CSV or Parquet file, and how many rows have none.

    Columns: `clip_id` (or `clip`, a path in the dataset), `start_frame`, `right` (or `verdict`), and if there are any
    `key`, of which only `key`'s rows count, and `text` or `text_hash`, by which a mark is of that text alone.
    Raises ConfigError for a file, a column or a mark that cannot be read.
    """
    asked, marks, blank = f"marks in {path}", [], 0
    rows = _rows(path, asked)
    for number, row in enumerate(rows, 1):
        if number == 1:
            clip, start, mark = (_column(row, names, asked) for names in (_CLIP, _START, _MARK))
        if row.get("key") not in (None, "", key):
            continue
        said = str("" if row[mark] is None else row[mark]).strip().lower()
        if said in _NONE:
            blank += 1
            continue
        if said not in _RIGHT | _WRONG:
            raise ConfigError(asked, f"row {number} has the mark {row[mark]!r}", "mark each as right or wrong")
        try:
            frame = int(float(row[start]))
        except (TypeError, ValueError):
            wrong = f"row {number} has the {start} {row[start]!r}"
            raise ConfigError(asked, wrong, "give the number of the window's first frame") from None
        text = row.get("text")
        known = row.get("text_hash") or (text_hash(text) if text else None)
        marks.append(Mark(str(row[clip]), frame, said in _RIGHT, known))
    if not marks:
        raise ConfigError(asked, "there is none", f"mark windows of {key!r} as right or wrong")
    return marks, blank


def reviewed_marks(store: Store, shards: Iterable[str], key: str) -> list[Mark]:
    """What people have said on the pages of texts of `key`: right, or wrong and edited; not what they dispute."""
    marks = []
    for shard in shards:
        for (clip, start, _, of, hashed), found in standing(store.read_rows(SHARD_REVIEW, shard)).items():
            if of == key and found.opinion != "disputed":
                marks.append(Mark(clip, start, found.opinion == "right", hashed))
    return marks


def scored(store: Store, shards: Sequence[str], key: str, marks: Sequence[Mark]) -> Joined:
    """Marks with the scores of the texts that they are of.

    `key` is a caption key, or `<caption key>/<text key>` of enhanced captions. Marks of one text that differ are left
    out, and so are those of a window that is unknown, has no text, has another one by now, or has no score.
    """
    rows, ids = _texts(store, shards, key)
    said: dict[tuple[str, int], set[bool]] = defaultdict(set)
    left_out: Counter[str] = Counter()
    for mark in marks:
        place = ids.get(mark.clip, mark.clip), mark.start_frame
        row = rows.get(place)
        if row is None:
            left_out["of no window here"] += 1
        elif not row.text or row.status != "ok":
            left_out["of a window without a text"] += 1
        elif mark.hash is not None and mark.hash != text_hash(row.text):
            left_out["of another text"] += 1
        elif row.mean_logprob is None:
            left_out["without a score"] += 1
        else:
            said[place].add(mark.right)
    if disputed := sum(len(marks) > 1 for marks in said.values()):
        left_out["disputed"] = disputed
    texts = []
    for place, opinions in said.items():
        if len(opinions) == 1:
            values = {name: getattr(rows[place], name) for name in _SCORES}
            texts.append(Scored(next(iter(opinions)), values))
    return Joined(tuple(texts), dict(left_out))


def _texts(
    store: Store, shards: Sequence[str], key: str
) -> tuple[dict[tuple[str, int], CaptionRow | EnhancedRow], dict[str, str]]:
    """The rows with this key by clip and first frame, and clips' ids by their paths."""
    table: Any = ENHANCED_CAPTIONS if "/" in key else WINDOW_CAPTIONS
    rows: dict[tuple[str, int], CaptionRow | EnhancedRow] = {}
    ids: dict[str, str] = {}
    for shard in shards:
        for row in store.read_rows(table, shard, key):
            assert key_of_text(row) == key
            rows[row.clip_id, row.start_frame] = row
        ids |= {row.relative_path: row.clip_id for row in store.read_rows(CLIP_WINDOWS, shard)}
    return rows, ids


def _rows(path: str, asked: str) -> Iterator[dict[str, Any]]:
    try:
        if path.lower().endswith((".csv", ".tsv", ".txt")):
            with Path(path).open(encoding="utf-8-sig", newline="") as file:
                head = file.readline()
                file.seek(0)
                yield from csv.DictReader(file, delimiter=max(",;\t", key=head.count))
        else:
            yield from pq.read_table(path).to_pylist()
    except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        why = str(error).splitlines()[0]
        raise ConfigError(asked, f"they cannot be read ({why})", "give a CSV or Parquet file") from error


def _column(row: Mapping[str, Any], names: Sequence[str], asked: str) -> str:
    name = next((name for name in names if name in row), None)
    if name is None:
        fix = f"give columns clip_id, start_frame and right; there are {', '.join(map(str, row))}"
        raise ConfigError(asked, f"no column is called {names[0]}", fix)
    return name
