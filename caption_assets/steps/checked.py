"""What a check is given and what it says: a shard's tables, read as they are asked for, and a judgement in words."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from caption_assets.records import text_hash
from caption_assets.settings import CheckName, CheckSettings, FindingSeverity
from caption_assets.store.rows import CaptionRow, EnhancedRow, FindingRow, PreviewRow, WindowRow, window_key
from caption_assets.store.store import Store
from caption_assets.store.tables import (
    CAPTION_FINDINGS,
    CLIP_WINDOWS,
    ENHANCED_CAPTIONS,
    ENHANCED_FINDINGS,
    TABLES,
    WINDOW_CAPTIONS,
    WINDOW_PREVIEWS,
)

_EXAMPLES, _SHOWN = 8, 120
TextRow = CaptionRow | EnhancedRow


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a check says of a shard: `bad` of `total` items, in words, figures, and the worst of the items."""

    passed: bool
    said: str
    figures: Mapping[str, float | int | str]
    worst: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Checked:
    """A judgement with what it is about: the table and its key, the shard, the check and how much that weighs."""

    table: str
    key: str | None
    shard: str
    check: CheckName
    severity: FindingSeverity
    judgement: Judgement

    @property
    def asset(self) -> str:
        return self.table if self.key is None else f"{self.table} {self.key}"

    @property
    def passed(self) -> bool:
        return self.judgement.passed

    @property
    def failed(self) -> bool:
        """Whether it does not pass, and that is an error."""
        return not self.passed and self.severity == "error"


class ShardTables:
    """A shard's tables, each read when a check asks for it."""

    def __init__(self, store: Store, shard: str) -> None:
        self.store, self.shard = store, shard
        self._texts: dict[str, list[TextRow]] = {}

    @cached_property
    def windows(self) -> list[WindowRow]:
        return self.store.read_rows(CLIP_WINDOWS, self.shard)

    @cached_property
    def previews(self) -> list[PreviewRow]:
        return self.store.read_rows(WINDOW_PREVIEWS, self.shard)

    @cached_property
    def paths(self) -> Mapping[str, str]:
        """The clips as people know them, by id."""
        return {row.clip_id: row.relative_path for row in self.windows}

    def texts(self, key: str) -> list[TextRow]:
        if key not in self._texts:
            table: Any = ENHANCED_CAPTIONS if "/" in key else WINDOW_CAPTIONS
            self._texts[key] = self.store.read_rows(table, self.shard, key)
        return self._texts[key]

    def keys(self, table: str) -> list[str | None]:
        """The keys under which the shard has such a table; None for one without keys."""
        if TABLES[table].keyed:
            return list(self.store.keys(TABLES[table], self.shard))
        rows = self.windows if table == CLIP_WINDOWS.name else self.previews
        return [None] if rows else []

    def name(self, row: WindowRow | PreviewRow | TextRow) -> str:
        clip = self.paths.get(row.clip_id, row.clip_id)
        return clip if row.start_frame is None else f"{clip} {row.start_frame}_{row.end_frame}"


@dataclass(frozen=True)
class Part:
    """One table of a shard, as its checks see it."""

    tables: ShardTables
    key: str | None
    settings: CheckSettings

    @cached_property
    def rows(self) -> list[TextRow]:
        return self.tables.texts(self.key or "")

    @cached_property
    def good(self) -> list[TextRow]:
        return [row for row in self.rows if row.status == "ok"]

    @cached_property
    def found(self) -> list[tuple[TextRow, FindingRow]]:
        """The texts that have been judged as they are, each with what was found."""
        enhanced = "/" in (self.key or "")
        table: Any = ENHANCED_FINDINGS if enhanced else CAPTION_FINDINGS
        known = {window_key(row): row for row in self.tables.store.read_committed(table, self.tables.shard, self.key)}
        pairs = ((row, known.get(window_key(row))) for row in self.good)
        return [(row, found) for row, found in pairs if found and found.text_hash == text_hash(row.text or "")]

    def by_rules(
        self, chosen: Callable[[str, str], bool]
    ) -> Iterator[tuple[TextRow, FindingRow, list[tuple[str, str]]]]:
        """The texts with findings that are chosen by rule and severity, with what they say; errors first."""
        for row, found in sorted(self.found, key=lambda pair: pair[1].severity != "error"):
            findings = zip(found.rules, found.severities, found.messages, strict=True)
            said = [(rule, text) for rule, severity, text in findings if chosen(rule, severity)]
            if said:
                yield row, found, said


def most(
    what: str, worst: Sequence[str], total: int, allowed: float, figures: Mapping[str, float | int | str]
) -> Judgement:
    """Passes where at most that share of `total` is among the `worst`."""
    share = len(worst) / total if total else 0.0
    passed = share <= allowed + 1e-9
    said = f"{len(worst):,} of {total:,} {what} ({share:.1%})"
    if not passed:
        said += f", {may(allowed)}"
    examples = tuple(worst[:_EXAMPLES])
    if len(worst) > _EXAMPLES:
        examples += (f"and {len(worst) - _EXAMPLES} more",)
    return Judgement(passed, said, {"share": round(share, 5), "bad": len(worst), "of": total, **figures}, examples)


def may(most: float) -> str:
    return f"and {most:.1%} may" if most else "and none may"


def example(part: Part, row: TextRow, said: Sequence[tuple[str, str]]) -> str:
    text = " ".join((row.text or "").split())
    short = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
    return f"{part.tables.name(row)}: {'; '.join(f'{rule}: {message}' for rule, message in said)}: {short!r}"
