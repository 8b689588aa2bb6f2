"""A shard's tables as a page shows them: every window with its texts, worst first. Pure functions, no I/O."""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from caption_assets.quality import Finding
from caption_assets.records import Status, text_hash
from caption_assets.store.rows import (
    CaptionRow,
    EnhancedRow,
    FindingRow,
    PreviewRow,
    VerdictRow,
    WindowRow,
    key_of_text,
)
from caption_assets.store.snapshot import ClipRows, Frames
from caption_assets.store.verdicts import Standing, TextId, latest, standing

ROOT = "../"
"""From a page to the output root."""


@dataclass(frozen=True, slots=True)
class Said:
    """A verdict as a page shows it; `of` is the text that was judged where the window has another one now."""

    verdict: str
    reviewer: str
    at: str
    edited: str | None = None
    of: str | None = None


@dataclass(frozen=True, slots=True)
class TextView:
    """A caption or an enhanced caption of a window, or why there is none.

    `confidence` has mean, minimum and lowest tenth of the log-probabilities; `rank` is the share of other texts of the
    same key with a lower mean, from 0 to 1, where those with the same one count half. `outdated` says that the text is
    about an earlier caption. `said` are the verdicts that stand, `opinion` what they come to.
    """

    key: str
    hash: str
    text: str | None
    status: Status
    error: str
    model: str
    engine: str
    finish_reason: str | None
    prompt_tokens: int | None
    output_tokens: int | None
    seconds: float
    confidence: tuple[float, float, float] | None
    rank: float | None = None
    outdated: bool = False
    findings: tuple[Finding, ...] = ()
    said: tuple[Said, ...] = ()
    opinion: str | None = None


@dataclass(frozen=True, slots=True)
class WindowView:
    """A window of a clip. `badness` sorts windows: the largest is the worst.

    Frames and seconds are None for a clip without windows. `preview` and `document` are relative to the page.
    """

    clip: str
    path: str
    document: str
    frames: Frames | None
    seconds: tuple[float, float] | None
    status: Status
    error: str
    preview: str | None
    preview_size: tuple[int, int] | None
    preview_error: str
    texts: tuple[TextView, ...]
    badness: float = 0.0


@dataclass(frozen=True, slots=True)
class ShardView:
    """All windows of a shard, by clip and time; `keys` are those of its texts, in the order of a window's."""

    shard: str
    keys: tuple[str, ...]
    windows: tuple[WindowView, ...]

    def texts(self) -> dict[TextId, TextView]:
        """The texts that windows have now."""
        return {
            (window.clip, *window.frames, text.key, text.hash): text
            for window in self.windows
            if window.frames
            for text in window.texts
            if text.text is not None
        }


def shard_view(shard: str, clips: Sequence[ClipRows]) -> ShardView:
    """The view of a shard's rows."""
    keys: dict[str, None] = {}
    for rows in clips:
        keys |= dict.fromkeys(rows.captions)
    for rows in clips:
        keys |= dict.fromkeys(key_of_text(row) for table in rows.enhanced.values() for row in table.values())
    windows = [_window(row, rows, standing(rows.verdicts)) for rows in clips for row in rows.windows]
    windows.sort(key=lambda window: (window.path, window.clip, window.frames or (-1, -1)))
    return ShardView(shard, tuple(keys), tuple(_weighed(windows)))


def summary(view: ShardView) -> dict[str, Any]:
    """What the index says of a shard: counts of windows, and of each key's texts."""
    windows = [window for window in view.windows if window.frames is not None]
    texts: dict[str, list[TextView]] = defaultdict(list)
    for window in windows:
        for text in window.texts:
            texts[text.key].append(text)
    return {
        "shard": view.shard,
        "clips": len({window.clip for window in view.windows}),
        "windows": len(windows),
        "failed": sum(window.status == "failed" for window in view.windows),
        "keys": {key: _key_summary(texts[key]) for key in view.keys},
    }


def _key_summary(texts: Sequence[TextView]) -> dict[str, Any]:
    there = [text for text in texts if text.text is not None and not text.outdated]
    opinions = Counter(text.opinion for text in there if text.opinion)
    means = [text.confidence[0] for text in there if text.confidence]
    return {
        "texts": len(there),
        "failed": sum(text.status == "failed" for text in texts),
        "findings": dict(Counter(finding.rule for text in there for finding in text.findings)),
        "errors": sum(any(finding.severity == "error" for finding in text.findings) for text in there),
        "mean_logprob": round(sum(means) / len(means), 4) if means else None,
        "judged": opinions.total(),
        **{opinion: opinions[opinion] for opinion in ("right", "wrong", "edited", "disputed")},
        "accepted_share": round(opinions["right"] / opinions.total(), 4) if opinions else None,
    }


def _window(row: WindowRow, rows: ClipRows, stands: Mapping[TextId, Standing]) -> WindowView:
    frames = None if row.start_frame is None or row.end_frame is None else (row.start_frame, row.end_frame)
    preview = rows.previews.get(frames) if frames else None
    if preview is not None and preview.content_hash != row.content_hash:
        preview = None
    return WindowView(
        clip=row.clip_id,
        path=row.relative_path,
        document=f"{ROOT}metas/v0/{quote(row.clip_id)}.json",
        frames=frames,
        seconds=None if row.start_s is None or row.end_s is None else (row.start_s, row.end_s),
        status=row.status,
        error=row.error,
        preview=ROOT + quote(preview.path) if preview and preview.path else None,
        preview_size=_size(preview),
        preview_error=preview.error if preview else "",
        texts=tuple(_texts(row, frames, rows, stands)) if frames else (),
    )


def _size(preview: PreviewRow | None) -> tuple[int, int] | None:
    return (preview.width, preview.height) if preview and preview.width and preview.height else None


def _texts(row: WindowRow, frames: Frames, rows: ClipRows, stands: Mapping[TextId, Standing]) -> Iterable[TextView]:
    """Captions of the window's content, then what was made of captions."""
    hashes: dict[str, str] = {}
    earlier = [said for said in rows.verdicts if (said.start_frame, said.end_frame) == frames]
    for key, table in rows.captions.items():
        caption = table.get(frames)
        if caption is not None and caption.content_hash == row.content_hash:
            hashes[key] = text_hash(caption.text or "")
            yield _text(caption, rows.findings.get(key, {}).get(frames), False, stands, earlier)
    for keys, texts in rows.enhanced.items():
        enhanced = texts.get(frames)
        if enhanced is not None:
            found = rows.enhanced_findings.get(keys, {}).get(frames)
            outdated = enhanced.caption_hash != hashes.get(enhanced.caption_key)
            yield _text(enhanced, found, outdated, stands, earlier)


def _text(
    row: CaptionRow | EnhancedRow,
    found: FindingRow | None,
    outdated: bool,
    stands: Mapping[TextId, Standing],
    earlier: Sequence[VerdictRow],
) -> TextView:
    key, of_text = key_of_text(row), text_hash(row.text or "")
    frames = row.start_frame, row.end_frame
    stood = stands.get((row.clip_id, *frames, key, of_text)) if row.text is not None else None
    before = [said for said in earlier if said.key == key and (row.text is None or said.text_hash != of_text)]
    of_before = latest(before, lambda said: (said.text_hash, said.reviewer))
    model = " ".join(filter(None, (row.server_model or row.model_id, row.model_revision[:12], row.precision)))
    scores = row.mean_logprob, row.min_logprob, row.low_logprob
    return TextView(
        key=key,
        hash=of_text,
        text=row.text if row.status == "ok" else None,
        status=row.status,
        error=row.error,
        model=model,
        engine=" ".join(filter(None, (row.engine, row.engine_version))),
        finish_reason=row.finish_reason,
        prompt_tokens=row.prompt_tokens,
        output_tokens=row.output_tokens,
        seconds=round(row.seconds, 3),
        confidence=None if None in scores else tuple(round(score, 4) for score in scores),  # type: ignore[arg-type]
        outdated=outdated,
        findings=_findings(found) if found is not None and found.text_hash == of_text else (),
        said=tuple([_said(said) for said in (stood.rows if stood else ())] + [_said(said, True) for said in of_before]),
        opinion=stood.opinion if stood else None,
    )


def _said(row: VerdictRow, of_another: bool = False) -> Said:
    return Said(row.verdict, row.reviewer, row.at, row.edited, row.text if of_another else None)


def _findings(row: FindingRow) -> tuple[Finding, ...]:
    return tuple(map(Finding, row.rules, row.severities, row.messages))


def _weighed(windows: Sequence[WindowView]) -> Iterable[WindowView]:
    """The windows with ranks and badness: what failed comes before what has findings, errors before warnings, and then
    the least confident, each text among those of its own key: models are not equally sure of what they say."""
    means: dict[str, list[float]] = defaultdict(list)
    for window in windows:
        for text in window.texts:
            if text.confidence is not None:
                means[text.key].append(text.confidence[0])
    for of_key in means.values():
        of_key.sort()
    for window in windows:
        texts = []
        for text in window.texts:
            if text.confidence is not None:
                text = replace(text, rank=_rank(means[text.key], text.confidence[0]))
            texts.append(text)
        yield replace(window, texts=tuple(texts), badness=_badness(window, texts))


def _rank(ordered: Sequence[float], mean: float) -> float:
    """Which share of the others is lower; of those that are as high, half counts."""
    others = len(ordered) - 1
    below = (bisect_left(ordered, mean) + bisect_right(ordered, mean) - 1) / 2
    return round(below / others, 4) if others else 0.5


def _badness(window: WindowView, texts: Sequence[TextView]) -> float:
    counted = Counter(finding.severity for text in texts if not text.outdated for finding in text.findings)
    failed = (window.status == "failed") + sum(text.status == "failed" for text in texts)
    unsure = 1 - min((text.rank for text in texts if text.rank is not None), default=1.0)
    return round(
        1e6 * min(failed, 99) + 1e4 * min(counted["error"], 99) + 1e2 * min(counted["warning"], 99) + unsure, 4
    )
