"""The command `caption-assets calibrate`."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import get_args

import click

from caption_assets.cli.review import chosen_shards
from caption_assets.errors import ConfigError
from caption_assets.quality.calibration import auroc, auroc_interval, reliability, threshold
from caption_assets.review.marks import Joined, Scored, read_marks, reviewed_marks, scored
from caption_assets.settings import ConfidenceScore
from caption_assets.store.store import Store
from caption_assets.store.tables import ENHANCED_CAPTIONS, WINDOW_CAPTIONS

_SCORES = get_args(ConfidenceScore)
# With fewer of either, the figures say little.
_FEW = 30


@click.command()
@click.argument("marks", required=False)
@click.option("--output-path", required=True, help="Folder or fsspec URL that the captions are in.")
@click.option("--key", required=True, help="Caption key; <caption key>/<text key> for enhanced captions.")
@click.option("--precision", default=0.95, show_default=True, type=click.FloatRange(0, 1), help="Share to be right.")
@click.option("--score", type=click.Choice(_SCORES), help="The score to use; by default the one that tells most.")
@click.option("--bins", default=10, show_default=True, type=click.IntRange(2, 100), help="Rows of the table.")
def calibrate(marks: str | None, output_path: str, key: str, precision: float, score: str | None, bins: int) -> None:
    """Say what confidence is worth, by windows that people have marked right or wrong.

    MARKS is a CSV or Parquet file with the columns clip_id (or clip, the path in the dataset), start_frame and right
    (right or wrong, true or false, 1 or 0), and perhaps key, text or text_hash. Without it, the verdicts count that
    were given with `review --serve`.

    Prints how well each score tells right captions from wrong ones (AUROC: 1 is always, 0.5 is chance), the share of
    right ones by score, and the score from which on so many are right as --precision asks.
    """
    store = Store(output_path)
    shards = chosen_shards(store, ())
    keys = {
        of for shard in shards for of in (*store.keys(WINDOW_CAPTIONS, shard), *store.keys(ENHANCED_CAPTIONS, shard))
    }
    if key not in keys:
        known = ", ".join(sorted(keys))
        raise ConfigError(f"calibration of {key!r}", "no shard has texts of this key", f"choose: {known}")
    given, blank = read_marks(marks, key) if marks else (reviewed_marks(store, shards, key), 0)
    joined = scored(store, shards, key, given)
    if blank:
        joined = replace(joined, left_out={**joined.left_out, "rows without a mark": blank})
    for line in _report(joined, len(given), key, precision, score, bins):
        click.echo(line)


def _report(joined: Joined, given: int, key: str, precision: float, score: str | None, bins: int) -> Iterator[str]:
    texts = joined.texts
    right = [text.right for text in texts]
    good, bad = sum(right), len(right) - sum(right)
    left_out = ", ".join(f"{count} {why}" for why, count in joined.left_out.items())
    yield f"{given} marks of {key}: {good} right and {bad} wrong texts" + (
        f"; left out: {left_out}" if left_out else ""
    )
    if not good or not bad:
        there = "all are right" if good else "all are wrong" if bad else f"none is left: {left_out or 'there was none'}"
        raise ConfigError(f"calibration of {key!r}", there, "mark some texts as right and some as wrong")
    if min(good, bad) < _FEW:
        yield f"With fewer than {_FEW} of either, take these figures for a first impression."
    yield from ("", f"{'score':14s} {'AUROC':>6s}  95 %")
    areas = {name: auroc(_values(texts, name), right) for name in _SCORES}
    for name, area in areas.items():
        low, high = auroc_interval(_values(texts, name), right)
        yield f"{name:14s} {area:6.3f}  {low:.3f} to {high:.3f}"
    chosen = score or max(areas, key=lambda name: areas[name])
    values = _values(texts, chosen)
    yield from ("", f"{chosen:>21s} {'texts':>6s} {'right':>6s}  95 %")
    for part in reliability(values, right, bins):
        span = f"{part.lowest:.4g} to {part.highest:.4g}"
        yield f"{span:>21s} {part.count:6d} {part.share:6.0%}  {part.low:.0%} to {part.high:.0%}"
    yield ""
    found = threshold(values, right, precision)
    if found is None:
        yield f"No {chosen} is high enough for {precision:.1%} to be right."
        return
    least = _below(found.score)
    low, high = found.interval
    yield (
        f"From {chosen} {least:.6g} on, {found.precision:.1%} are right (95 %: {low:.1%} to {high:.1%}): "
        f"{found.kept} of {found.of} texts."
    )
    yield f"To find the others: --finding-confidence-score {chosen} --finding-least-confidence {least:.6g}"


def _below(score: float) -> float:
    """The score with six digits, and no higher."""
    unit = 10 ** (5 - math.floor(math.log10(abs(score)))) if score else 1
    return math.floor(score * unit) / unit


def _values(texts: Sequence[Scored], name: str) -> list[float]:
    return [text.scores[name] for text in texts]
