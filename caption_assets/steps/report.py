"""What a step says about a shard when it is done, and while it works."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from caption_assets.errors import ShardError
from caption_assets.store.rows import Row

_SHOWN = 20


class Progress:
    """Told how the steps get on. This one listens to nothing; subclasses show or count."""

    def start(self, asset: str, shard: str, total: int) -> None:
        """A shard has begun, with so many items."""

    def advance(self, asset: str, shard: str, items: int = 1) -> None:
        """So many more of its items are finished, well or not."""

    def done(self, report: "ShardReport") -> None:
        """A shard is processed."""

    def failed(self, asset: str, shard: str, error: Exception) -> None:
        """A shard has ended with an error."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A caption to show: whose it is, and its text."""

    clip: str
    window: str
    text: str


@dataclass(frozen=True, slots=True)
class ShardReport:
    """Counts of one step over one shard.

    `ok`, `failed` and `skipped` count rows by status; `reused` of the ok ones were there already. `failures` counts
    the rest by kind, and `failed_items` names some of them. `figures` are further numbers, by name, in the unit that
    the name says. `table` is the URL of the shard's table. `thumbnails` are animated WebP files.
    """

    asset: str
    shard: str
    clips: int
    ok: int
    failed: int
    skipped: int
    reused: int
    seconds: float
    table: str
    failures: Mapping[str, int]
    failed_items: tuple[str, ...]
    figures: Mapping[str, float | int | str] = field(default_factory=dict)
    samples: tuple[Sample, ...] = ()
    thumbnails: tuple[bytes, ...] = ()

    @property
    def rows(self) -> int:
        return self.ok + self.failed + self.skipped


def shard_report(
    asset: str,
    shard: str,
    rows: Sequence[Row],
    *,
    seconds: float,
    table: str,
    reused: int = 0,
    figures: Mapping[str, float | int | str] | None = None,
    samples: Iterable[Sample] = (),
    thumbnails: Iterable[bytes] = (),
) -> ShardReport:
    """Counts `rows`. Raises ShardError where there are rows and not one of them is ok."""
    by_status = Counter(row.status for row in rows)
    bad = [row for row in rows if row.status != "ok"]
    failures = Counter(row.error_kind for row in bad)
    items = tuple(f"{_name(row)}: {row.error}" for row in bad[:_SHOWN])
    if len(bad) > _SHOWN:
        items += (f"and {len(bad) - _SHOWN} more",)
    if not by_status["ok"]:
        wrong = "it has nothing to work on" if not rows else f"not one of {len(rows)} items worked; first: {items[0]}"
        raise ShardError(f"{asset} of shard {shard!r}", wrong.rstrip("."), "look at the shard's clips")
    return ShardReport(
        asset=asset,
        shard=shard,
        clips=len({row.clip_id for row in rows}),
        ok=by_status["ok"],
        failed=by_status["failed"],
        skipped=by_status["skipped"],
        reused=reused,
        seconds=seconds,
        table=table,
        failures=dict(failures),
        failed_items=items,
        figures=dict(figures or {}),
        samples=tuple(samples),
        thumbnails=tuple(thumbnails),
    )


def _name(row: Row) -> str:
    clip = getattr(row, "relative_path", row.clip_id)
    return clip if row.start_frame is None else f"{clip} {row.start_frame}_{row.end_frame}"


def windows_per_second(windows: int, seconds: float) -> dict[str, float]:
    """The figure of that name; none where there was nothing to do, which says nothing about speed."""
    return {"windows_per_second": round(windows / seconds, 3)} if windows else {}
