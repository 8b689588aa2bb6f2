"""Two keys side by side: which windows are asked about, on which side each text stands, and what the answers come to.

Whoever judges is not told whose text is whose. Sides and order are drawn by a hash of the window and a seed: they are
the same after a restart and for every reviewer, and a window more or less changes nothing for the others.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import comb
from statistics import fmean
from typing import Any, Literal

from caption_assets.errors import ConfigError
from caption_assets.records import Preference, Side
from caption_assets.review.views import ShardView, TextView, WindowView
from caption_assets.store.rows import ComparisonRow
from caption_assets.store.verdicts import latest

Choice = Literal["left", "right", "tie", "both_bad", "withdrawn"]
"""An answer as it was given, by sides."""
_SIDES: tuple[Side, Side] = ("first", "second")


@dataclass(frozen=True, slots=True)
class Pair:
    """A window with a text by each key. `id` is of these very texts; `left` says which stands on the left."""

    id: str
    shard: str
    window: WindowView
    first: TextView
    second: TextView
    left: Side

    @property
    def frames(self) -> tuple[int, int]:
        return self.window.frames or (0, 0)

    def text(self, side: Literal["left", "right"]) -> TextView:
        return self.first if (side == "left") == (self.left == "first") else self.second

    def preference(self, choice: Choice) -> Preference:
        """Which of the two is meant by a side."""
        if choice in ("tie", "both_bad", "withdrawn"):
            return choice
        return _SIDES[(choice == "left") != (self.left == "first")]


@dataclass(frozen=True)
class Study:
    """All pairs of two keys, in the order in which they are asked about.

    `same` counts windows in which both keys say the same, which are not asked about.
    """

    first: str
    second: str
    pairs: tuple[Pair, ...]
    same: int

    @cached_property
    def by_id(self) -> Mapping[str, Pair]:
        return {pair.id: pair for pair in self.pairs}

    @cached_property
    def by_window(self) -> Mapping[tuple[str, int, int], Pair]:
        return {(pair.window.clip, *pair.frames): pair for pair in self.pairs}


def study(views: Sequence[ShardView], keys: tuple[str, str], seed: int = 0) -> Study:
    """Raises ConfigError where one of the keys has no texts, or there is no window with different texts of both."""
    first, second = sorted(keys)
    known = sorted({key for view in views for key in view.keys})
    for key in keys:
        if key not in known:
            raise ConfigError(f"compare {key!r}", "no window has a text of this key", f"choose: {', '.join(known)}")
    if first == second:
        raise ConfigError(f"compare {first!r} with itself", "both texts are the same", "name two keys")
    pairs, same = [], 0
    for view in views:
        for window in view.windows:
            texts = {text.key: text for text in window.texts if text.text is not None and not text.outdated}
            if window.frames is None or first not in texts or second not in texts:
                continue
            if texts[first].hash == texts[second].hash:
                same += 1
                continue
            drawn = _drawn(seed, first, second, window.clip, *window.frames)
            of_texts = _drawn(drawn, texts[first].hash, texts[second].hash)
            left = _SIDES[int(drawn[-1], 16) % 2]
            pairs.append((drawn, Pair(of_texts[:32], view.shard, window, texts[first], texts[second], left)))
    if not pairs:
        wrong = f"{same} windows have the same text of both" if same else "no window has texts of both"
        raise ConfigError(f"compare {first!r} with {second!r}", wrong, "caption a shard with both")
    pairs.sort(key=lambda drawn_pair: drawn_pair[0])
    return Study(first, second, tuple(pair for _, pair in pairs), same)


def current(of: Study, rows: Iterable[ComparisonRow]) -> list[ComparisonRow]:
    """The answers that stand, of the texts that the windows have now."""
    return [row for row in _standing(of, rows) if _pair(of, row) is not None]


def result(of: Study, rows: Iterable[ComparisonRow]) -> dict[str, Any]:
    """What the answers come to, and the differences between all texts of the two keys.

    A window counts once, whoever and how many judged it: for the key that more of them prefer. `p` is the probability
    that as lopsided a result would come about by chance if neither were better: the two-sided exact sign test over the
    windows with a preference.
    """
    stands = _standing(of, rows)
    counted = [row for row in stands if _pair(of, row) is not None]
    windows: dict[str, list[Preference]] = defaultdict(list)
    for row in counted:
        pair = _pair(of, row)
        assert pair is not None
        windows[pair.id].append(row.verdict)
    outcomes = Counter(map(_outcome, windows.values()))
    p = sign_test(outcomes["first"], outcomes["second"])
    names: dict[Side, str] = {"first": of.first, "second": of.second}
    wins = {name: outcomes[side] for side, name in names.items()}
    ahead = None if len(set(wins.values())) == 1 else max(wins, key=lambda name: wins[name])
    return {
        "keys": [of.first, of.second],
        "windows": len(of.pairs),
        "same": of.same,
        "judged": len(windows),
        "reviewers": sorted({row.reviewer for row in counted}),
        "disputed": sum({"first", "second"} <= set(said) for said in windows.values()),
        "of_earlier_texts": len(stands) - len(counted),
        "preferred": wins,
        "tie": outcomes["tie"],
        "both_bad": outcomes["both_bad"],
        "ahead": ahead,
        "p": p,
        "figures": {
            of.first: _figures([pair.first for pair in of.pairs]),
            of.second: _figures([pair.second for pair in of.pairs]),
        },
    }


def sign_test(one: int, other: int) -> float:
    """Two-sided exact sign test: of fair coins, the share of outcomes that are as lopsided as this one or more."""
    total, fewer = one + other, min(one, other)
    return min(1.0, 2 * sum(comb(total, k) for k in range(fewer + 1)) / 2**total)


def _standing(of: Study, rows: Iterable[ComparisonRow]) -> list[ComparisonRow]:
    own = (row for row in rows if (row.first_key, row.second_key) == (of.first, of.second))
    return latest(own, lambda row: (row.clip_id, row.start_frame, row.end_frame, *_texts(row), row.reviewer))


def _pair(of: Study, row: ComparisonRow) -> Pair | None:
    pair = of.by_window.get((row.clip_id, row.start_frame, row.end_frame))
    return pair if pair is not None and (pair.first.hash, pair.second.hash) == _texts(row) else None


def _texts(row: ComparisonRow) -> tuple[str, str]:
    return row.first_hash, row.second_hash


def _outcome(said: Sequence[Preference]) -> Preference:
    """What the answers of several people about one window come to."""
    first, second = said.count("first"), said.count("second")
    if first != second:
        return "first" if first > second else "second"
    return "both_bad" if said.count("both_bad") > len(said) / 2 else "tie"


def _figures(texts: Sequence[TextView]) -> dict[str, float | int | None]:
    """Of one key's texts: means a text, findings a hundred texts, tokens and seconds in all."""

    def mean(of: Callable[[TextView], float | None]) -> float | None:
        known = [value for text in texts if (value := of(text)) is not None]
        return round(fmean(known), 7) if known else None

    def total(of: Callable[[TextView], float | None]) -> float:
        return round(sum(of(text) or 0 for text in texts), 3)

    return {
        "characters": mean(lambda text: len(text.text or "")),
        "words": mean(lambda text: len((text.text or "").split())),
        "findings_per_100": mean(lambda text: 100 * len(text.findings)),
        "mean_logprob": mean(lambda text: text.confidence[0] if text.confidence else None),
        "low_logprob": mean(lambda text: text.confidence[2] if text.confidence else None),
        "prompt_tokens": total(lambda text: text.prompt_tokens),
        "output_tokens": total(lambda text: text.output_tokens),
        "seconds": total(lambda text: text.seconds),
    }


def _drawn(*of: object) -> str:
    return hashlib.sha256("\0".join(map(str, of)).encode("utf-8", "surrogatepass")).hexdigest()
