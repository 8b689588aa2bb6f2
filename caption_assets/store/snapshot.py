"""All of a shard's tables in one reading, taken apart by clip: what a rendering needs, and nothing is read twice."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from caption_assets.store.added import WINDOW_COLUMNS, added_rows, rendered_columns
from caption_assets.store.rows import (
    CaptionRow,
    EnhancedFindingRow,
    EnhancedRow,
    FindingRow,
    PreviewRow,
    VerdictRow,
    WindowRow,
)
from caption_assets.store.store import Looked, Store
from caption_assets.store.tables import (
    CAPTION_FINDINGS,
    CLIP_WINDOWS,
    ENHANCED_CAPTIONS,
    ENHANCED_FINDINGS,
    SHARD_REVIEW,
    TABLES,
    WINDOW_CAPTIONS,
    WINDOW_PREVIEWS,
    Table,
)

_TABLES = (*TABLES.values(), SHARD_REVIEW)
_BY_NAME = {table.name: table for table in _TABLES}
_VERDICTS = (SHARD_REVIEW.name, None)
_FINDINGS: Mapping[str, Table[Any]] = {
    WINDOW_CAPTIONS.name: CAPTION_FINDINGS,
    ENHANCED_CAPTIONS.name: ENHANCED_FINDINGS,
}

Frames = tuple[int, int]
"""First and last frame of a window, both inclusive."""
Looks = Mapping[tuple[str, str | None], Looked]
"""What there is of a shard's tables, by table and caption key."""
Stamps = Mapping[tuple[str, str | None], str | None]
"""What tells versions of them apart."""
R = TypeVar("R", PreviewRow, CaptionRow, EnhancedRow, FindingRow, EnhancedFindingRow)


@dataclass(frozen=True, slots=True)
class ClipRows:
    """All that the tables hold about one clip.

    `windows` has at least one row; a single row without frames means a clip without windows. `captions` (by caption
    key) and `enhanced` (by text model's key, then caption key) have an entry for every table of the clip's shard, in
    the order that was asked for, also where that table holds nothing about this clip. `findings` has what the rules
    have against captions by caption key, and `enhanced_findings` against enhanced ones, by the same keys as those.
    `verdicts` are all that people have said of its texts. `added` has what documents show of users' own tables, by
    name: of each window, values by column.
    """

    windows: tuple[WindowRow, ...]
    previews: Mapping[Frames, PreviewRow] = field(default_factory=dict)
    captions: Mapping[str, Mapping[Frames, CaptionRow]] = field(default_factory=dict)
    enhanced: Mapping[tuple[str, str], Mapping[Frames, EnhancedRow]] = field(default_factory=dict)
    findings: Mapping[str, Mapping[Frames, FindingRow]] = field(default_factory=dict)
    enhanced_findings: Mapping[tuple[str, str], Mapping[Frames, EnhancedFindingRow]] = field(default_factory=dict)
    verdicts: tuple[VerdictRow, ...] = ()
    added: Mapping[str, Mapping[Frames, Mapping[str, Any]]] = field(default_factory=dict)

    @property
    def clip(self) -> WindowRow:
        """The row that speaks for the clip: one with a window if there is any, which comes after one without."""
        return self.windows[-1]


def look_at(store: Store, shard: str, tables: Iterable[Table[Any]] = _TABLES) -> Looks:
    """What there is of every table of a shard that documents are rendered from. Reads none."""
    tables = list(tables)
    looked = store.each(lambda table: store.look(table, shard), tables)
    looks = {(table.name, key): look for table, of in zip(tables, looked, strict=True) for key, look in of.items()}
    return {table: look for table, look in looks.items() if table != _VERDICTS or look.parts}


def stamps_of(looks: Looks) -> Stamps:
    """What tells whether any of the tables was written in between. Nobody commits verdicts: their parts tell."""
    return {table: " ".join(look.parts) if table == _VERDICTS else look.stamp for table, look in looks.items()}


def look_at_findings(store: Store, shard: str, looks: Looks) -> Stamps:
    """What tells whether findings were written in between: the stamps of those of all texts that `looks` has.

    Where nothing else has changed, nobody need look at them: who commits findings says so first (`outdate_rendered`).
    """
    found = [(_FINDINGS[name], key) for name, key in looks if name in _FINDINGS]
    stamps = store.each(lambda place: store.table_stamp(place[0], shard, place[1]), found)
    return {(table.name, key): stamp for (table, key), stamp in zip(found, stamps, strict=True)}


def read_snapshot(
    store: Store, shard: str, looks: Looks, *, caption_keys: Sequence[str] = (), text_keys: Sequence[str] = ()
) -> tuple[ClipRows, ...]:
    """Every table of a shard, read once: its clips, in the order of the windows' table.

    `looks` are those that `look_at` has just given. `caption_keys` and `text_keys` give the order of keys; others
    with a table follow in alphabetical order. Of tables that are committed while this reads, the rows may be older than
    in the store; then `look_at` has other stamps afterwards.
    """

    def read(table: tuple[str, str | None]) -> list[Any]:
        name, key = table
        return store.read_table(_BY_NAME[name], shard, key, looks[table]).rows

    rows = dict(zip(looks, store.each(read, looks), strict=True))
    windows: dict[str, list[WindowRow]] = defaultdict(list)
    for row in rows[CLIP_WINDOWS.name, None]:
        windows[row.clip_id].append(row)
    previews = _by_clip(rows[WINDOW_PREVIEWS.name, None])
    captions = _by_key(rows, WINDOW_CAPTIONS, [caption_keys])
    enhanced = _by_key(rows, ENHANCED_CAPTIONS, [caption_keys, text_keys])
    findings = {key: _by_clip(store.read_committed(CAPTION_FINDINGS, shard, "/".join(key))) for key in captions}
    enhanced_findings = {
        key: _by_clip(store.read_committed(ENHANCED_FINDINGS, shard, "/".join(key))) for key in enhanced
    }
    verdicts: dict[str, list[VerdictRow]] = defaultdict(list)
    for verdict in rows.get(_VERDICTS, ()):
        verdicts[verdict.clip_id].append(verdict)
    added = _added(store, shard)
    return tuple(
        ClipRows(
            windows=tuple(of_clip),
            previews=previews.get(clip_id, {}),
            captions={key: table.get(clip_id, {}) for (key,), table in captions.items()},
            enhanced={(text, of): table.get(clip_id, {}) for (of, text), table in enhanced.items()},
            findings={key: table.get(clip_id, {}) for (key,), table in findings.items()},
            enhanced_findings={(text, of): table.get(clip_id, {}) for (of, text), table in enhanced_findings.items()},
            verdicts=tuple(verdicts[clip_id]),
            added={name: table.get(clip_id, {}) for name, table in added.items()},
        )
        for clip_id, of_clip in windows.items()
    )


def _by_key(
    rows: Mapping[tuple[str, str | None], list[Any]], table: Table[R], wanted: Sequence[Sequence[str]]
) -> dict[tuple[str, ...], dict[str, dict[Frames, R]]]:
    """A keyed table's rows by the parts of its key, and by clip. For each part, those that are wanted come first, in
    their order, then the others; the last part counts first."""
    found = [key for name, key in rows if name == table.name and key is not None]

    def order(key: str) -> list[tuple[int, str]]:
        parts = zip(key.split("/"), wanted, strict=True)
        places = [(of.index(part) if part in of else len(of), part) for part, of in parts]
        return places[::-1]

    return {tuple(key.split("/")): _by_clip(rows[table.name, key]) for key in sorted(found, key=order)}


def _added(store: Store, shard: str) -> dict[str, dict[str, dict[Frames, dict[str, Any]]]]:
    """What documents show of users' own tables, by table and clip. Who writes those says so: see `outdate_rendered`."""
    found: dict[str, dict[str, dict[Frames, dict[str, Any]]]] = {}
    for name, columns in rendered_columns(store).items():
        clips = found[name] = defaultdict(dict)
        for row in added_rows(store, name, shard, columns):
            clip_id, start, end = (row.pop(column) for column in WINDOW_COLUMNS)
            clips[clip_id][start, end] = row
    return found


def _by_clip(rows: Iterable[R]) -> dict[str, dict[Frames, R]]:
    clips: dict[str, dict[Frames, R]] = defaultdict(dict)
    for row in rows:
        clips[row.clip_id][row.start_frame, row.end_frame] = row
    return clips
