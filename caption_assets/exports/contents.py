"""What an export holds, in figures: of a shard, and added up."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from caption_assets.exports.base import Entry, Totals
from caption_assets.exports.samples import Sample
from caption_assets.store.rows import CaptionRow, EnhancedRow


@dataclass(slots=True)
class Contents:
    """Totals by split, windows that stay by reason, who wrote the texts (key, model, revision and prompt hash), what
    people say of those that they looked at, and how many videos have which suffix."""

    splits: dict[str, Totals] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    authors: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    opinions: Counter[str] = field(default_factory=Counter)
    suffixes: Counter[str] = field(default_factory=Counter)

    @property
    def samples(self) -> int:
        return sum(totals.samples for totals in self.splits.values())

    def add(self, other: "Contents") -> None:
        for split, totals in other.splits.items():
            self.splits[split] = self.splits.get(split, Totals()) + totals
        self.left_out += other.left_out
        self.authors += other.authors
        self.opinions += other.opinions
        self.suffixes += other.suffixes

    def add_entries(self, entries: Sequence[Entry]) -> None:
        """Adds samples with their videos; all of a clip's come together."""
        self.suffixes.update(PurePosixPath(entry.path).suffix.lower() for entry in entries)
        self._add_samples([entry.sample for entry in entries])

    def _add_samples(self, samples: Sequence[Sample]) -> None:
        clips = {(sample.split, sample.window.clip_id) for sample in samples}
        for sample in samples:
            row = sample.window
            key = sample.split, row.clip_id
            totals = Totals(1, int(key in clips), (row.end_s or 0.0) - (row.start_s or 0.0))
            clips.discard(key)
            self.splits[sample.split] = self.splits.get(sample.split, Totals()) + totals
            self.authors.update(_author(text) for text in (sample.caption, sample.enhanced) if text is not None)
            self.opinions.update([sample.opinion] if sample.opinion else [])

    def summary(self) -> dict[str, Any]:
        """As JSON has it; the inverse of `contents_of`."""
        return {
            "splits": {split: [of.samples, of.clips, round(of.seconds, 6)] for split, of in self.splits.items()},
            "left_out": dict(self.left_out),
            "opinions": dict(self.opinions),
            "suffixes": dict(self.suffixes),
            "authors": [[*author, times] for author, times in sorted(self.authors.items())],
        }


def contents_of(summary: Mapping[str, Any]) -> Contents:
    """What a manifest tells; nothing where it tells nothing."""
    authors = {
        (key, model, revision, prompt): times for key, model, revision, prompt, times in summary.get("authors", ())
    }
    splits = {split: Totals(*of) for split, of in summary.get("splits", {}).items()}
    left_out, opinions, suffixes = (Counter(summary.get(name, {})) for name in ("left_out", "opinions", "suffixes"))
    return Contents(splits, left_out, Counter(authors), opinions, suffixes)


def _author(row: CaptionRow | EnhancedRow) -> tuple[str, str, str, str]:
    return row.key, row.model_id, row.model_revision, row.prompt_hash
