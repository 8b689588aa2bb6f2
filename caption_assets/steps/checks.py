"""Checks of what the assets have made of a shard: read from its tables, whoever asks, and whenever.

Each check is a function whose docstring says what it looks at; what counts as too much is in the settings. Nothing is
judged anew: what rules have against texts is in the tables of findings.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from types import MappingProxyType
from typing import Any

from caption_assets.models.confidence import lowest_tenth
from caption_assets.settings import CheckName, CheckSettings, FindingSeverity
from caption_assets.steps.checked import Checked, Judgement, Part, ShardTables, TextRow, example, may, most
from caption_assets.store.rows import PreviewRow, WindowRow, window_key
from caption_assets.store.store import Store
from caption_assets.store.tables import CLIP_WINDOWS, ENHANCED_CAPTIONS, WINDOW_CAPTIONS, WINDOW_PREVIEWS

# Kinds of failures, in any table, that are about frames of a clip.
_NOT_DECODED = frozenset({"decode", "truncated", "damaged", "changed", "timeout", "worker_died"})
# Rules that have a check of their own.
_APART = frozenset({"low_confidence", "near_duplicate", "facts_lost"})


def clips_without_windows(part: Part) -> Judgement:
    """Share of the shard's clips of which no window could be made: files that cannot be read, and clips too short."""
    with_windows = {row.clip_id for row in part.tables.windows if row.status == "ok"}
    without = {row.clip_id: row for row in part.tables.windows if row.clip_id not in with_windows}
    reasons = Counter(row.error_kind for row in without.values())
    return most(
        "clips have no window",
        [f"{part.tables.name(row)}: {row.error}" for row in without.values()],
        len(with_windows) + len(without),
        part.settings.most_clips_without_windows,
        {"windows": sum(row.status == "ok" for row in part.tables.windows), **_prefixed("because", reasons)},
    )


def frames_decoded(part: Part) -> Judgement:
    """Share of the shard's clips with frames that could not be decoded: files that break off, and windows that failed
    when they were captioned or previewed."""
    tables = part.tables
    frames = {window_key(row): len(row.frame_ids) for row in tables.windows}
    hashes = {row.clip_id: row.content_hash for row in tables.windows}
    rows: list[WindowRow | PreviewRow | TextRow] = [*tables.windows, *tables.previews]
    rows += [row for key in tables.keys(WINDOW_CAPTIONS.name) for row in tables.texts(key or "")]
    bad = {
        window_key(row): row
        for row in rows
        if row.status == "failed"
        and row.error_kind in _NOT_DECODED
        and getattr(row, "content_hash", None) in (None, hashes.get(row.clip_id))
    }
    worst: dict[str, str] = {}
    for row in bad.values():
        worst.setdefault(row.clip_id, f"{tables.name(row)}: {row.error}")
    of_windows = [key for key, row in bad.items() if row.start_frame is not None]
    figures = {
        "windows_not_decoded": len(of_windows),
        "sampled_frames_not_decoded": sum(frames.get(key, 0) for key in of_windows),
        "clips_that_break_off": len({row.clip_id for row in bad.values() if row.start_frame is None}),
    }
    what = "clips have frames that cannot be decoded"
    return most(what, list(worst.values()), len(hashes), part.settings.most_clips_not_decoded, figures)


def previews_made(part: Part) -> Judgement:
    """Share of the windows that have a preview, of clips of which any was asked for: a trial leaves the others."""
    tables = part.tables
    made = {window_key(row) for row in tables.previews if row.status == "ok"}
    failed = {window_key(row): row.error for row in tables.previews if row.status != "ok"}
    asked = {row.clip_id for row in tables.previews}
    windows = [row for row in tables.windows if row.status == "ok" and row.clip_id in asked]
    lacking = [row for row in windows if window_key(row) not in made]
    worst = [f"{tables.name(row)}: {failed.get(window_key(row), 'not made yet')}" for row in lacking]
    return most("windows have no preview", worst, len(windows), 1 - part.settings.least_previews, {})


def preview_frames(part: Part) -> Judgement:
    """Previews with fewer frames than a moving picture has."""
    least = part.settings.least_preview_frames
    made = [row for row in part.tables.previews if row.status == "ok"]
    few = sorted((row for row in made if (row.num_frames or 0) < least), key=lambda row: row.num_frames or 0)
    figures = _spread("frames", [row.num_frames or 0 for row in made])
    worst = [f"{part.tables.name(row)}: {row.num_frames} frames" for row in few]
    return most(f"previews have fewer than {least} frames", worst, len(made), 0.0, figures)


def preview_files(part: Part) -> Judgement:
    """Previews whose file is missing, has another size than was written, or is larger than previews are to be."""
    largest, tables = part.settings.most_preview_bytes, part.tables
    made = [row for row in tables.previews if row.status == "ok"]
    sizes = tables.store.sizes([row.path or "" for row in made])
    worst = []
    for row in made:
        size = sizes.get(row.path or "")
        if size is None:
            worst.append(f"{tables.name(row)}: its file is missing")
        elif size != row.num_bytes:
            worst.append(
                f"{tables.name(row)}: its file has {size:,} bytes, and was written with {row.num_bytes or 0:,}"
            )
        elif size > largest:
            worst.append(f"{tables.name(row)}: its file has {size:,} bytes")
    figures = _spread("bytes", [size for size in sizes.values() if size is not None])
    return most("previews are missing, changed or too large", worst, len(made), 0.0, figures)


def texts_made(part: Part) -> Judgement:
    """Share of the windows that have a text, of all that one was asked for."""
    asked = [row for row in part.rows if row.status != "skipped"]
    lacking = [row for row in asked if row.status != "ok"]
    worst = [f"{part.tables.name(row)}: {row.error}" for row in lacking]
    reasons = Counter(row.error_kind for row in lacking)
    figures = {"skipped": len(part.rows) - len(asked), **_prefixed("because", reasons)}
    return most("windows have no text", worst, len(asked), 1 - part.settings.least_texts, figures)


def findings(part: Part) -> Judgement:
    """What rules have against the texts, by rule; findings on confidence, duplicates and lost facts only where they are
    errors, since they have checks of their own."""
    settings, total = part.settings, len(part.found)
    found = list(part.by_rules(lambda rule, severity: rule not in _APART or severity == "error"))
    flagged = sum(row.severity == "error" for _, row, _ in found)
    by_rule = Counter(rule for _, _, said in found for rule, _ in said)
    worst = [example(part, row, said) for row, _, said in found]
    judged = most("texts have a finding", worst, total, settings.most_found, {"texts_flagged": flagged, **by_rule})
    too_many = flagged > settings.most_flagged * total
    said = f"{judged.said}; {flagged} of them an error" + (f", {may(settings.most_flagged)}" if too_many else "")
    figures = {**judged.figures, "not_judged": len(part.good) - total}
    return Judgement(judged.passed and not too_many, said, figures, judged.worst)


def low_confidence(part: Part) -> Judgement:
    """Share of texts that their model was not sure of, by the limits of the setting `quality`; without any, none is.

    The metadata has the mean confidence and that of the lowest tenth.
    """
    known = [(row.mean_logprob, row) for row in part.good if row.mean_logprob is not None]
    scores = [score for score, _ in known]
    figures: dict[str, float | int] = {"texts_without_logprobs": len(part.good) - len(known)}
    if scores:
        figures |= {"mean_logprob": round(fmean(scores), 6), "lowest_tenth": round(lowest_tenth(scores), 6)}
    low = [(row, said) for row, _, said in part.by_rules(lambda rule, _: rule == "low_confidence")]
    low.sort(key=lambda pair: pair[0].mean_logprob or 0.0)
    worst = [example(part, row, said) for row, said in low]
    what = "texts have low confidence"
    return most(what, worst, len(part.found), part.settings.most_low_confidence, figures)


def near_duplicates(part: Part) -> Judgement:
    """Share of texts that are like one about another clip."""
    worst = [example(part, row, said) for row, _, said in part.by_rules(lambda rule, _: rule == "near_duplicate")]
    return most("texts are like another's", worst, len(part.found), part.settings.most_near_duplicates, {})


def facts_kept(part: Part) -> Judgement:
    """Share of enhanced texts that have lost a number or a colour that their caption names."""
    worst = [example(part, row, said) for row, _, said in part.by_rules(lambda rule, _: rule == "facts_lost")]
    return most("texts have lost a number or a colour", worst, len(part.found), part.settings.most_facts_lost, {})


@dataclass(frozen=True, slots=True)
class Check:
    """A check and how much it weighs, unless the settings say otherwise."""

    name: CheckName
    severity: FindingSeverity
    judge: Callable[[Part], Judgement] = field(repr=False)

    @property
    def about(self) -> str:
        return " ".join((self.judge.__doc__ or "").split())


_TEXTS = (
    Check("texts_made", "error", texts_made),
    Check("findings", "error", findings),
    Check("low_confidence", "warning", low_confidence),
    Check("near_duplicates", "warning", near_duplicates),
)
CHECKS: Mapping[str, tuple[Check, ...]] = MappingProxyType(
    {
        CLIP_WINDOWS.name: (
            Check("clips_without_windows", "error", clips_without_windows),
            Check("frames_decoded", "warning", frames_decoded),
        ),
        WINDOW_PREVIEWS.name: (
            Check("previews_made", "error", previews_made),
            Check("preview_frames", "warning", preview_frames),
            Check("preview_files", "error", preview_files),
        ),
        WINDOW_CAPTIONS.name: _TEXTS,
        ENHANCED_CAPTIONS.name: (*_TEXTS, Check("facts_kept", "warning", facts_kept)),
    }
)
"""The checks of every table, by its name, which is also the asset's."""


def check_table(tables: ShardTables, table: str, key: str | None, settings: CheckSettings) -> list[Checked]:
    """All checks of one table of a shard that are not off; none where there is no such table. Raises StoreError."""
    if key not in tables.keys(table):
        return []
    part, results = Part(tables, key, settings), []
    for check in CHECKS[table]:
        severity: Any = settings.severities.get(check.name, check.severity)
        if severity != "off":
            results.append(Checked(table, key, tables.shard, check.name, severity, check.judge(part)))
    return results


def check_shard(store: Store, shard: str, settings: CheckSettings) -> list[Checked]:
    """All checks of whatever a shard has. Raises StoreError."""
    tables = ShardTables(store, shard)
    return [
        checked
        for table in CHECKS
        for key in tables.keys(table)
        for checked in check_table(tables, table, key, settings)
    ]


def _prefixed(word: str, counts: Mapping[str, int]) -> dict[str, int]:
    return {f"{word}_{name}": count for name, count in counts.items()}


def _spread(unit: str, values: Sequence[int]) -> dict[str, float | int]:
    if not values:
        return {}
    return {f"least_{unit}": min(values), f"mean_{unit}": round(fmean(values), 1), f"most_{unit}": max(values)}
