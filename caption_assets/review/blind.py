"""Comparisons as people make them: pairs without a word about whose texts they are, and the answers kept."""

import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from caption_assets.review.comparison import Choice, Pair, Study, current, result
from caption_assets.review.journal import Journal, Reviewer
from caption_assets.store.costs import cost_a_text
from caption_assets.store.rows import ComparisonRow
from caption_assets.store.store import Store
from caption_assets.store.tables import CAPTION_COMPARISONS

_SIGNIFICANT = 0.05


class PairsAsked(BaseModel):
    """A page's question for what is to be judged next by somebody."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reviewer: Reviewer
    count: Annotated[int, Field(ge=1, le=10_000)]


class ComparisonAsked(BaseModel):
    """An answer as a page sends it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pair: str
    choice: Choice
    reviewer: Reviewer


class Comparisons:
    """The study that a server was started for. For any thread."""

    def __init__(self, store: Store, of: Study) -> None:
        self._store, self._study = store, of
        self._journal: Journal[ComparisonRow] = Journal(store, CAPTION_COMPARISONS)
        self._judged: dict[str, set[str]] = defaultdict(set)
        self._lock = threading.Lock()
        for row in current(of, self._rows()):
            pair = of.by_window[row.clip_id, row.start_frame, row.end_frame]
            self._judged[row.reviewer].add(pair.id)

    def pairs(self, asked: PairsAsked) -> dict[str, Any]:
        """The next ones that somebody has not judged."""
        with self._lock:
            judged = set(self._judged[asked.reviewer])
        left = [pair for pair in self._study.pairs if pair.id not in judged]
        return {**self._progress(asked.reviewer), "pairs": [_shown(pair) for pair in left[: asked.count]]}

    def answer(self, asked: ComparisonAsked) -> dict[str, Any]:
        """Keeps an answer. Raises LookupError for texts that are not (or no longer) asked about."""
        pair = self._study.by_id[asked.pair]

        def row(now: str) -> ComparisonRow:
            return ComparisonRow(
                clip_id=pair.window.clip,
                start_frame=pair.frames[0],
                end_frame=pair.frames[1],
                first_key=self._study.first,
                second_key=self._study.second,
                first_hash=pair.first.hash,
                second_hash=pair.second.hash,
                left=pair.left,
                verdict=pair.preference(asked.choice),
                reviewer=asked.reviewer,
                at=now,
            )

        self._journal.add(pair.shard, row)
        with self._lock:
            judged = self._judged[asked.reviewer]
            judged.discard(pair.id) if asked.choice == "withdrawn" else judged.add(pair.id)
        return self._progress(asked.reviewer)

    def result(self) -> dict[str, Any]:
        """What all answers come to, those that other servers have taken, too; `said` has it in a sentence."""
        found = result(self._study, self._rows())
        for key, figures in found["figures"].items():
            cost = cost_a_text(self._store, key)
            figures["cost_per_1000_windows"] = None if cost is None else round(1000 * cost, 4)
        return {**found, "said": in_words(found)}

    def _rows(self) -> Iterator[ComparisonRow]:
        for shard in sorted({pair.shard for pair in self._study.pairs}):
            yield from self._store.read_rows(CAPTION_COMPARISONS, shard)

    def _progress(self, reviewer: str) -> dict[str, int]:
        return {"judged": len(self._judged[reviewer]), "windows": len(self._study.pairs)}


def in_words(found: Mapping[str, Any]) -> str:
    """A result in a sentence or two."""
    one, other = found["keys"]
    wins = found["preferred"]
    if not found["judged"]:
        return f"Nobody has compared {one} with {other} yet: {found['windows']} windows have different texts of both."
    by = ", ".join(found["reviewers"])
    counts = f"{one} is preferred in {wins[one]}, {other} in {wins[other]}"
    told = f"{found['judged']} of {found['windows']} windows judged by {by}: {counts}, "
    told += f"both are as good in {found['tie']}, both bad in {found['both_bad']}. "
    chance = f"p = {found['p']:.2g}, two-sided exact sign test"
    if found["p"] < _SIGNIFICANT:
        return f"{told}{found['ahead']} wins ({chance})."
    return f"{told}That neither is better would explain this ({chance})."


def _shown(pair: Pair) -> dict[str, Any]:
    """A pair as a page gets it: nothing in it tells whose a text is."""
    texts = {side: pair.text(side).text for side in ("left", "right")}
    return {
        "id": pair.id,
        "path": pair.window.path,
        "frames": pair.frames,
        "preview": pair.window.preview,
        **texts,
    }
