"""What a step says about a shard when it is done, and while it works."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from caption_assets.errors import CaptionAssetsError, ShardError, first_line
from caption_assets.steps.versions import data_version
from caption_assets.store.rows import FLAGGED, Row, WindowKey
from caption_assets.store.tables import Table

log = logging.getLogger(__name__)
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Step:
    """A step as it declares itself: the table that it writes, and those that it reads.

    `version` goes up when equal settings and inputs give another table; it is part of every fingerprint, and the
    asset's code version. `items` are what it goes through, in a word.
    """

    table: Table[Any]
    reads: tuple[Table[Any], ...] = ()
    version: int = 1
    items: str = "windows"

    @property
    def name(self) -> str:
        return self.table.name

    def not_ready(self, shard: str, wrong: str) -> ShardError:
        """The error for a shard for which what this step reads is not there."""
        fix = f"materialize {' and '.join(table.name for table in self.reads)} for it first"
        return ShardError(self.asked(shard), wrong, fix)

    def asked(self, shard: str) -> str:
        """What an error about a shard names."""
        return f"{self.name} of shard {shard!r}"

    @contextmanager
    def errors_of(self, shard: str) -> Iterator[None]:
        """Makes a ShardError of an exception that nobody foresaw, so that it is this shard's and no other's."""
        try:
            yield
        except CaptionAssetsError:
            raise
        except Exception as error:
            log.exception("%s", self.asked(shard))
            wrong = f"{type(error).__name__}: {first_line(error).rstrip('.')}"
            raise ShardError(self.asked(shard), wrong, "report this as a bug, with what the log says") from error


@dataclass(frozen=True, slots=True)
class Sample:
    """A window to show: its clip's path, its frames, and what there is of it.

    `confidence` are the mean log-probability of the text's tokens and that of the lowest tenth; `findings` name the
    rules that have something against it; `picture` is its preview, an animated WebP.
    """

    clip: str
    window: str
    caption: str | None = None
    enhanced: str | None = None
    confidence: tuple[float, float] | None = None
    findings: tuple[str, ...] = ()
    picture: bytes | None = None


@dataclass(frozen=True, slots=True)
class Used:
    """What a step had to do for a shard in this run: `items` that it made anew, the bytes of the clips that it opened
    for them, and the tokens of requests, of which some were cached, and of answers."""

    items: int = 0
    bytes_read: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ShardReport:
    """Counts of one step over one shard.

    `ok`, `failed` and `skipped` count rows by status; `reused` of the ok ones were there already. `failures` counts
    the rest by kind, and `failed_items` names some of them. `figures` are further numbers, by name, in the unit that
    the name says. `key` is that of the shard's table, of texts; `location` is its URL, `data_version` the version of
    its content, and `input_versions` those of the tables that were read, by name.
    """

    asset: str
    shard: str
    clips: int
    ok: int
    failed: int
    skipped: int
    reused: int
    seconds: float
    location: str
    data_version: str
    input_versions: Mapping[str, str]
    failures: Mapping[str, int]
    failed_items: tuple[str, ...]
    figures: Mapping[str, float | int | str] = field(default_factory=dict)
    samples: tuple[Sample, ...] = ()
    key: str = ""
    used: Used = Used()

    @property
    def rows(self) -> int:
        return self.ok + self.failed + self.skipped


@dataclass(frozen=True, slots=True)
class Ended:
    """How one shard ended in one step. `key` is that of the table, of texts."""

    asset: str
    shard: str
    outcome: ShardReport | CaptionAssetsError
    key: str = ""


Outcomes = Iterator[Ended]


def shard_report(
    step: Step,
    shard: str,
    rows: Sequence[Row],
    *,
    key: str = "",
    seconds: float,
    location: str,
    input_versions: Mapping[str, str] | None = None,
    reused: int = 0,
    figures: Mapping[str, float | int | str] | None = None,
    samples: Iterable[Sample] = (),
    used: Used = Used(),
    flagged: Iterable[WindowKey] = (),
) -> ShardReport:
    """Counts `rows`; `flagged` are those of `data_version`. Raises ShardError where there are rows and not one of them
    is ok; a shard may have none, or none but those that were left out for a finding."""
    by_status = Counter(row.status for row in rows)
    bad = [row for row in rows if row.status != "ok"]
    failures = Counter(row.error_kind for row in bad)
    items = tuple(f"{_name(row)}: {row.error}" for row in bad[:_SHOWN])
    if len(bad) > _SHOWN:
        items += (f"and {len(bad) - _SHOWN} more",)
    tried = [row for row in rows if row.error_kind != FLAGGED]
    if tried and not by_status["ok"]:
        wrong = f"not one of {len(tried)} items worked; first: {_name(tried[0])}: {tried[0].error}"
        raise ShardError(step.asked(shard), wrong.rstrip("."), "see the reason of each in its table")
    return ShardReport(
        asset=step.name,
        key=key,
        shard=shard,
        clips=len({row.clip_id for row in rows}),
        ok=by_status["ok"],
        failed=by_status["failed"],
        skipped=by_status["skipped"],
        reused=reused,
        seconds=seconds,
        location=location,
        data_version=data_version(rows, flagged),
        input_versions=dict(input_versions or {}),
        failures=dict(failures),
        failed_items=items,
        figures=dict(figures or {}),
        samples=tuple(samples),
        used=used,
    )


def _name(row: Row) -> str:
    clip = getattr(row, "relative_path", row.clip_id)
    return clip if row.start_frame is None else f"{clip} {row.start_frame}_{row.end_frame}"


def windows_per_second(windows: int, seconds: float) -> dict[str, float]:
    """The figure of that name; none where there was nothing to do, which says nothing about speed."""
    return {"windows_per_second": round(windows / seconds, 3)} if windows and seconds else {}
