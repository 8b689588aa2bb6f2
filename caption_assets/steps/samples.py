"""Which of a shard's windows people are shown: the worst, and some from all over it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from caption_assets.save_export import paths
from caption_assets.steps.report import Sample
from caption_assets.store.rows import CaptionRow, EnhancedRow, PreviewRow, WindowKey, window_key
from caption_assets.store.store import Store

_SAMPLES = 8
_PICTURES = 4
T = TypeVar("T")
Findings = Mapping[WindowKey, Sequence[str]]
"""By window, the rules that have something against its text."""


def preview_samples(store: Store, rows: Sequence[PreviewRow], clip_of: Callable[[PreviewRow], str]) -> list[Sample]:
    """Previews from all over the shard, with their files."""
    shown = spread(rows, _PICTURES)
    windows = list(map(window_key, shown))
    return _with_pictures(store, windows, [_sample(*each) for each in zip(windows, map(clip_of, shown), strict=True)])


def text_samples(
    store: Store,
    rows: Sequence[CaptionRow] | Sequence[EnhancedRow],
    findings: Findings,
    *,
    clip_of: Callable[[CaptionRow | EnhancedRow], str],
    captions: Mapping[WindowKey, str | None] | None = None,
) -> list[Sample]:
    """Texts of a shard, the worst first: by the rules that have something against them, then by confidence.

    Half of them are the worst, the others are from all over the shard. `captions` are what enhanced texts were made
    from, by window. The first ones have their previews' files, where there are any.
    """

    def badness(row: CaptionRow | EnhancedRow) -> tuple[int, float]:
        return -len(findings.get(window_key(row), ())), 0.0 if row.low_logprob is None else row.low_logprob

    judged = [row for row in rows if findings.get(window_key(row)) or row.low_logprob is not None]
    worst = sorted(judged, key=badness)[: _SAMPLES // 2]
    others = [row for row in rows if row not in worst]
    chosen = sorted([*worst, *spread(others, _SAMPLES - len(worst))], key=badness)
    samples = []
    for row in chosen:
        window, text = window_key(row), row.text or ""
        sample = replace(
            _sample(window, clip_of(row)),
            findings=tuple(findings.get(window, ())),
            confidence=None if row.mean_logprob is None else (row.mean_logprob, row.low_logprob or row.mean_logprob),
        )
        of = (text, None) if captions is None else (captions.get(window) or "", text)
        samples.append(replace(sample, caption=of[0], enhanced=of[1]))
    return _with_pictures(store, list(map(window_key, chosen)), samples)


def spread(rows: Sequence[T], most: int) -> list[T]:
    """At most so many of `rows`, in their order, from the middles of equal parts of all of them."""
    count = min(most, len(rows))
    return [rows[(2 * k + 1) * len(rows) // (2 * count)] for k in range(count)]


def _sample(window: WindowKey, clip: str) -> Sample:
    return Sample(clip, f"{window[1]}_{window[2]}")


def _with_pictures(store: Store, windows: Sequence[WindowKey], samples: list[Sample]) -> list[Sample]:
    """The samples, the first ones with their previews, where those are there. Where they are is no need to look up."""
    files = [paths.preview(*window) for window in windows[:_PICTURES]]
    pictures = [*store.each(store.read_bytes, files), *[None] * (len(samples) - len(files))]
    return [replace(sample, picture=picture) for sample, picture in zip(samples, pictures, strict=True)]
