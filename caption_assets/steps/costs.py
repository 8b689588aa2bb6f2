"""What a step of a run costs, kept in the table of runs: by shard, as they end.

Shards are in an engine together, and in the workers: of what has been spent and charged to none, a shard that ends has
as large a share as it has of the engine's answers. All of them, and what is left when the engine is closed, come to the
whole.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from caption_assets.models.engines.meter import Usage
from caption_assets.models.engines.session import EngineSession
from caption_assets.steps.context import StepContext
from caption_assets.steps.report import Outcomes, ShardReport, Step, Used
from caption_assets.store.costs import costed_asset
from caption_assets.store.rows import CostRow
from caption_assets.store.tables import RUN_COSTS
from caption_assets.workers.cpu import cpu_seconds

_PER_HOUR = 3600.0


def charged(context: StepContext, step: Step, outcomes: Outcomes, session: EngineSession | None = None) -> Outcomes:
    """`outcomes`, with what each of the step's shards costs among its figures; rows of the table of runs are written.

    With a session, the last row is written when that is closed.
    """
    account = _Account(context, session)
    if session is not None:
        context.progress.working(step.name, session)
        session.when_closed.append(account.settle)
    try:
        for ended in outcomes:
            if ended.asset == step.name and isinstance(ended.outcome, ShardReport):
                ended = replace(ended, outcome=account.charge(ended.outcome))
            yield ended
    finally:
        if session is None:
            account.settle()


class _Account:
    """Of one step of a run. Captions by several prompts are assets of their own."""

    def __init__(self, context: StepContext, session: EngineSession | None) -> None:
        self._context, self._session = context, session
        self._rows: dict[str, list[CostRow]] = {}
        self._read = self._reading()
        # Spent, and charged to no shard yet; and the engine's seconds for answers of shards that have been charged.
        self._open = dict.fromkeys(self._read, 0.0)
        self._charged_s = session.answered_s if session is not None else 0.0

    def charge(self, report: ShardReport) -> ShardReport:
        asset = costed_asset(report.key) if report.key else report.asset
        row = self._row(asset, report.shard, report.used, self._share(report))
        self._context.store.append_rows(RUN_COSTS, self._context.run_id, [row], asset)
        return replace(report, figures={**report.figures, **figures(row)})

    def settle(self) -> None:
        """Adds what no shard was charged with, and commits."""
        for asset in self._rows:
            self._row(asset, "", Used(), 1.0)  # of the first one alone, if of several
            self._context.store.commit_rows(RUN_COSTS, self._context.run_id, self._rows[asset], asset)
        self._rows = {}

    def _share(self, report: ShardReport) -> float:
        if self._session is None:
            return 1.0
        answered_s = self._session.answered_s - self._charged_s
        if not report.used.items or answered_s <= 0.0:
            return 0.0
        self._charged_s += report.seconds
        return min(1.0, report.seconds / answered_s)

    def _row(self, asset: str, shard: str, used: Used, share: float) -> CostRow:
        before, self._read = self._read, self._reading()
        for name, value in self._read.items():
            self._open[name] += value - before[name]
        spent = {name: share * value for name, value in self._open.items()}
        spent["engine_starts"] = self._open["engine_starts"]
        for name, value in spent.items():
            self._open[name] -= value
        price = self._session.gpu_hour_price if self._session else None
        row = CostRow(
            run_id=self._context.run_id,
            asset=asset,
            shard=shard,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=spent["seconds"],
            items=used.items,
            device=self._session.info.device if self._session and self._session.started else "",
            gpu_held_s=spent["gpu_held_s"],
            gpu_busy_s=spent["gpu_busy_s"],
            engine_starts=round(spent["engine_starts"]),
            cpu_s=max(0.0, spent["cpu_s"]),
            bytes_read=used.bytes_read,
            prompt_tokens=used.prompt_tokens,
            cached_tokens=used.cached_tokens,
            output_tokens=used.output_tokens,
            gpu_hour_price=price,
            cost=None if price is None else spent["gpu_held_s"] / _PER_HOUR * price,
        )
        self._rows.setdefault(asset, []).append(row)
        return row

    def _reading(self) -> dict[str, float]:
        """What has been spent by now, by the names of the columns."""
        usage = self._session.usage if self._session is not None else Usage()
        return {
            "seconds": time.monotonic(),
            "cpu_s": cpu_seconds(),
            "gpu_held_s": usage.held_s,
            "gpu_busy_s": usage.busy_s,
            "engine_starts": usage.starts,
        }


def figures(row: CostRow) -> Mapping[str, float | int]:
    """What people see of a row, as numbers that can be plotted."""
    found: dict[str, float | int] = {"cpu_seconds": round(row.cpu_s, 2)}
    if row.bytes_read:
        found["bytes_read"] = row.bytes_read
    if row.prompt_tokens or row.output_tokens:
        found |= {"tokens_in": row.prompt_tokens, "tokens_out": row.output_tokens}
    if row.engine_starts:
        found["engine_starts"] = row.engine_starts
    if row.gpu_held_s:
        found |= {"gpu_held_seconds": round(row.gpu_held_s, 2), "gpu_busy_seconds": round(row.gpu_busy_s, 2)}
    if row.cost and row.items:
        found |= {"cost": round(row.cost, 5), "cost_per_1000_windows": round(1000 * row.cost / row.items, 4)}
    return found
