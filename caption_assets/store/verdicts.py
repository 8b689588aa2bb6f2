"""What people's verdicts on texts come to: of many rows, what stands of each text. Pure functions."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from caption_assets.store.rows import ComparisonRow, VerdictRow

Opinion = Literal["right", "wrong", "edited", "disputed"]
TextId = tuple[str, int, int, str, str]
"""A text: clip, first and last frame, key, and the text's hash."""
R = TypeVar("R", VerdictRow, ComparisonRow)


@dataclass(frozen=True, slots=True)
class Standing:
    """What people say of one text, each of them with the verdict that they gave last.

    `opinion` is "right" where all say so, "disputed" where only some do, else "edited" where somebody has edited the
    text, else "wrong". `edit` is the latest edited row, whatever the others say.
    """

    opinion: Opinion
    rows: tuple[VerdictRow, ...]

    @property
    def edit(self) -> VerdictRow | None:
        return max((row for row in self.rows if row.verdict == "edited"), key=lambda row: row.at, default=None)


def text_id(row: VerdictRow) -> TextId:
    return row.clip_id, row.start_frame, row.end_frame, row.key, row.text_hash


def standing(rows: Iterable[VerdictRow]) -> Mapping[TextId, Standing]:
    """What stands of every text that somebody has judged and not withdrawn it."""
    texts: dict[TextId, list[VerdictRow]] = defaultdict(list)
    for row in latest(rows, lambda row: (text_id(row), row.reviewer)):
        texts[text_id(row)].append(row)
    return {text: Standing(_opinion(found), tuple(found)) for text, found in texts.items()}


def latest(rows: Iterable[R], by: Callable[[R], Hashable]) -> list[R]:
    """Of the rows with the same `by` the latest, unless it withdraws what came before; the earliest of these first."""
    found: dict[Hashable, R] = {}
    for row in sorted(rows, key=lambda row: row.at):
        found[by(row)] = row
    return [row for row in sorted(found.values(), key=lambda row: row.at) if row.verdict != "withdrawn"]


def _opinion(rows: Iterable[VerdictRow]) -> Opinion:
    said = {row.verdict for row in rows}
    if said == {"right"}:
        return "right"
    if "right" in said:
        return "disputed"
    return "edited" if "edited" in said else "wrong"
