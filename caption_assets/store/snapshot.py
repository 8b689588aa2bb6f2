"""All of a shard's tables in one reading, taken apart by clip: what a rendering needs, and nothing is read twice."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from caption_assets.store.rows import (
    CaptionRow,
    EnhancedFindingRow,
    EnhancedRow,
    FindingRow,
    PreviewRow,
    VerdictRow,
    WindowRow,
)
from caption_assets.store.store import Store
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

Frames = tuple[int, int]
"""First and last frame of a window, both inclusive."""
Stamps = Mapping[tuple[str, str | None], str | None]
R = TypeVar("R", PreviewRow, CaptionRow, EnhancedRow, FindingRow, EnhancedFindingRow)


@dataclass(frozen=True, slots=True)
class ClipRows:
    """All that the tables hold about one clip.

    `windows` has at least one row; a single row without frames means a clip without windows. `captions` (by caption
    key) and `enhanced` (by text model's key, then caption key) have an entry for every table of the clip's shard, in
    the order that was asked for, also where that table holds nothing about this clip. `findings` has what the rules
    have against captions by caption key, and `enhanced_findings` against enhanced ones, by the same keys as those.
    `verdicts` are all that people have said of its texts.
    """

    windows: tuple[WindowRow, ...]
    previews: Mapping[Frames, PreviewRow] = field(default_factory=dict)
    captions: Mapping[str, Mapping[Frames, CaptionRow]] = field(default_factory=dict)
    enhanced: Mapping[tuple[str, str], Mapping[Frames, EnhancedRow]] = field(default_factory=dict)
    findings: Mapping[str, Mapping[Frames, FindingRow]] = field(default_factory=dict)
    enhanced_findings: Mapping[tuple[str, str], Mapping[Frames, EnhancedFindingRow]] = field(default_factory=dict)
    verdicts: tuple[VerdictRow, ...] = ()

    @property
    def clip(self) -> WindowRow:
        """The row that speaks for the clip: one with a window if there is any, which comes after one without."""
        return self.windows[-1]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A shard's clips, in the order of the windows' table, and the stamps of the tables that they were read from."""

    clips: tuple[ClipRows, ...]
    stamps: Stamps


def read_snapshot(
    store: Store,
    shard: str,
    stamps: Stamps | None = None,
    *,
    caption_keys: Sequence[str] = (),
    text_keys: Sequence[str] = (),
) -> Snapshot:
    """Every table of a shard, read once; `stamps` are those that `read_stamps` has just given.

    `caption_keys` and `text_keys` give the order of keys; others with a table follow in alphabetical order. Tables
    that are committed while this reads may be older in `clips` than in the store; then `stamps` differ from
    `read_stamps`.
    """
    stamps = stamps or read_stamps(store, shard)  # before the tables: what is committed from here on shows
    windows: dict[str, list[WindowRow]] = defaultdict(list)
    for row in store.read_rows(CLIP_WINDOWS, shard):
        windows[row.clip_id].append(row)
    previews = _by_clip(store.read_rows(WINDOW_PREVIEWS, shard))
    captions = _by_key(store, WINDOW_CAPTIONS, shard, stamps, [caption_keys])
    enhanced = _by_key(store, ENHANCED_CAPTIONS, shard, stamps, [caption_keys, text_keys])
    findings = {key: _by_clip(store.read_committed(CAPTION_FINDINGS, shard, "/".join(key))) for key in captions}
    enhanced_findings = {
        key: _by_clip(store.read_committed(ENHANCED_FINDINGS, shard, "/".join(key))) for key in enhanced
    }
    verdicts: dict[str, list[VerdictRow]] = defaultdict(list)
    if (SHARD_REVIEW.name, None) in stamps:
        for verdict in store.read_rows(SHARD_REVIEW, shard):
            verdicts[verdict.clip_id].append(verdict)
    clips = (
        ClipRows(
            windows=tuple(rows),
            previews=previews.get(clip_id, {}),
            captions={key: table.get(clip_id, {}) for (key,), table in captions.items()},
            enhanced={(text, of): table.get(clip_id, {}) for (of, text), table in enhanced.items()},
            findings={key: table.get(clip_id, {}) for (key,), table in findings.items()},
            enhanced_findings={(text, of): table.get(clip_id, {}) for (of, text), table in enhanced_findings.items()},
            verdicts=tuple(verdicts[clip_id]),
        )
        for clip_id, rows in windows.items()
    )
    return Snapshot(tuple(clips), stamps)


def read_stamps(store: Store, shard: str) -> Stamps:
    """What tells whether any table of the shard was written in between, by table and caption key. Verdicts have one
    where there are any."""
    tables = (*TABLES.values(), SHARD_REVIEW)
    stamps = store.each(lambda table: _stamps(store, table, shard), tables)
    return {
        (table.name, key): stamp
        for table, of_table in zip(tables, stamps, strict=True)
        for key, stamp in of_table.items()
    }


def read_finding_stamps(store: Store, shard: str, stamps: Stamps) -> Stamps:
    """The same of the findings of all texts that have a table, by their `stamps`.

    Where nothing else has changed, nobody need look at them: who commits findings says so first (`outdate_rendered`).
    """
    found = [(_FINDINGS[name], key) for name, key in stamps if name in _FINDINGS]
    looked = store.each(lambda place: store.table_stamp(place[0], shard, place[1]), found)
    return {(table.name, key): stamp for (table, key), stamp in zip(found, looked, strict=True)}


_FINDINGS: Mapping[str, Table[Any]] = {
    WINDOW_CAPTIONS.name: CAPTION_FINDINGS,
    ENHANCED_CAPTIONS.name: ENHANCED_FINDINGS,
}


def _stamps(store: Store, table: Table[Any], shard: str) -> Mapping[str | None, str | None]:
    if table is not SHARD_REVIEW:
        return store.table_stamps(table, shard)
    parts = store.parts(table, shard)  # nobody commits it
    return {None: " ".join(parts)} if parts else {}


def _by_key(
    store: Store, table: Table[R], shard: str, stamps: Stamps, wanted: Sequence[Sequence[str]]
) -> dict[tuple[str, ...], dict[str, dict[Frames, R]]]:
    """A keyed table's rows by the parts of its key, and by clip. For each part, those that are wanted come first, in
    their order, then the others; the last part counts first."""
    found = [key for name, key in stamps if name == table.name and key is not None]

    def order(key: str) -> list[tuple[int, str]]:
        parts = zip(key.split("/"), wanted, strict=True)
        places = [(of.index(part) if part in of else len(of), part) for part, of in parts]
        return places[::-1]

    return {tuple(key.split("/")): _by_clip(store.read_rows(table, shard, key)) for key in sorted(found, key=order)}


def _by_clip(rows: Iterable[R]) -> dict[str, dict[Frames, R]]:
    clips: dict[str, dict[Frames, R]] = defaultdict(dict)
    for row in rows:
        clips[row.clip_id][row.start_frame, row.end_frame] = row
    return clips
