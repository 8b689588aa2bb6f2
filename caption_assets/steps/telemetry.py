"""A run as it is seen from outside: traces and metrics by OpenTelemetry, pushed by OTLP or for Prometheus to scrape.

Off unless OpenTelemetry's own variables ask for it: see `telemetry_exporters`.
"""

import logging
import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from caption_assets.errors import ConfigError
from caption_assets.extras import install, missing
from caption_assets.models.engines.meter import Usage
from caption_assets.models.engines.session import EngineSession
from caption_assets.steps.progress import Progress
from caption_assets.steps.report import ShardReport
from caption_assets.steps.telemetry_exporters import exporters, meters, shut, tracers
from caption_assets.store.rows import CaptionRow, EnhancedRow, key_of_text

if TYPE_CHECKING:
    from opentelemetry.trace import Span

log = logging.getLogger(__name__)
NAME = "caption_assets"
_STAGES = ("decode", "render", "wait", "prefill", "generate")
_NS = 1_000_000_000


@contextmanager
def telemetry(run_id: str | None = None) -> Iterator[Progress]:
    """Who is to be told how a run gets on, so that it is seen from outside; what is told is sent by the block's end.

    `run_id` is the id of its trace, where it is a UUID, so that all processes of a run are in one. Listens to nothing
    where nothing is asked for. Raises ConfigError for an exporter that is unknown or not installed.
    """
    traces, metrics = exporters("TRACES"), exporters("METRICS")
    if not traces and not metrics:
        yield Progress()
        return
    if wrong := missing("telemetry"):
        raise ConfigError("OpenTelemetry, by its environment variables", wrong, install("telemetry"))
    told = _Telemetry(run_id or str(uuid.uuid4()), traces, metrics)
    try:
        yield told
    except BaseException as error:
        told.close(error)
        raise
    told.close()


class _Telemetry(Progress):
    """Of one process of a run. A shard's spans are the run's, and a window's that of its shard and key; its stages are
    what its row says that they took, the last of them ending now. For any thread."""

    def __init__(self, run_id: str, traces: Iterable[str], metrics: Iterable[str]) -> None:
        from opentelemetry.sdk.resources import Resource

        resource = Resource.create(
            {"service.instance.id": run_id, **({} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": NAME})}
        )
        self._lock = threading.Lock()
        self._left: Counter[tuple[str, str]] = Counter()
        self._sessions: list[tuple[str, EngineSession]] = []
        # By asset and shard, when it began, in nanoseconds since 1970, and its items; and those that have a span.
        self._began: dict[tuple[str, str], tuple[int, int]] = {}
        self._seen: set[tuple[str, str]] = set()
        # By asset, key and shard; and how many have failed.
        self._spans: dict[tuple[str, str, str], Span] = {}
        self._num_failed = 0
        self._tracers = tracers(run_id, resource, traces)
        self._meters = meters(resource, metrics)  # last: it listens on a port
        self._tracer, meter = self._tracers.get_tracer(NAME), self._meters.get_meter(NAME)
        self._run = self._tracer.start_span("run", attributes={"caption_assets.run_id": run_id})
        self._made = meter.create_counter("caption_assets.items", description="Items that steps have made, by asset.")
        self._windows = meter.create_counter(
            "caption_assets.windows", description="Windows of shards that have ended, by asset, key and state."
        )
        self._tokens = meter.create_counter(
            "caption_assets.tokens", description="Tokens of requests, of which some were cached, and of answers."
        )

        def observed(
            name: str, unit: str, what: str, of: Callable[[EngineSession, Usage], float], *, gauge: bool = False
        ) -> None:
            create = meter.create_observable_gauge if gauge else meter.create_observable_counter
            create(f"caption_assets.{name}", [lambda _: self._by_session(of)], unit, what)

        observed("gpu.held", "s", "Seconds times GPUs that were leased.", lambda _, usage: usage.held_s)
        observed("gpu.busy", "s", "Of these, with something to do.", lambda _, usage: usage.busy_s)
        observed("cost", "", "What the leases cost, in the money of the price.", _cost)
        observed(
            "engine.starts",
            "",
            "One for all engines, and one for each restart.",
            lambda _, usage: usage.starts,
        )
        observed("queue.requests", "", "Requests that engines have.", lambda _, usage: usage.requests, gauge=True)
        observed("queue", "By", "Bytes of these.", lambda _, usage: usage.num_bytes, gauge=True)
        meter.create_observable_gauge(
            "caption_assets.items.left", [lambda _: self._by_asset()], description="Items of shards that have begun."
        )

    def close(self, error: BaseException | None = None) -> None:
        """Ends what is open, and sends what has not been sent. `error` is what the run has ended with, if it has."""
        stopped = isinstance(error, KeyboardInterrupt)
        for asset, shard in self._began.keys() - self._seen:
            self._span(asset, "", shard)
        for span in self._spans.values():
            span.end()
        if error is not None or self._num_failed:
            said = "it was stopped" if stopped else str(error or f"shards that failed: {self._num_failed}")
            self._run.set_status(_error(said))
        self._run.end()
        shut(self._tracers, self._meters, stopped=stopped)

    # What is told.

    def start(self, asset: str, shard: str, total: int, reused: int = 0, work: float | None = None) -> None:
        with self._lock:
            self._left[asset, shard] = total - reused
            self._began[asset, shard] = time.time_ns(), total

    def advance(self, asset: str, shard: str, items: int = 1, work: float | None = None) -> None:
        self._made.add(items, {"asset": asset})
        with self._lock:
            self._left[asset, shard] -= items

    def done(self, report: ShardReport) -> None:
        states = {"reused": report.reused, "failed": report.failed, "skipped": report.skipped}
        for state, count in {"ok": report.ok - report.reused, **states}.items():
            if count:
                self._windows.add(count, {"asset": report.asset, "key": report.key, "state": state})
        self._end(report.asset, report.key, report.shard)

    def failed(self, asset: str, shard: str, error: Exception, key: str = "") -> None:
        self._end(asset, key, shard, error)

    def working(self, asset: str, session: EngineSession) -> None:
        with self._lock:
            self._sessions.append((asset, session))

    def answered(self, asset: str, shard: str, row: CaptionRow | EnhancedRow) -> None:
        key = key_of_text(row)
        of = {"asset": asset, "key": key}
        counts = {"input": row.prompt_tokens, "cached": row.cached_tokens, "output": row.output_tokens}
        for kind, count in counts.items():
            if count:
                self._tokens.add(count, {**of, "kind": kind})
        took = {stage: getattr(row, f"{stage}_s", None) for stage in _STAGES}
        if took["generate"] is None:  # an engine that does not tell; then it is the row's share of its time
            took["generate"] = row.seconds
        known = {stage: round(seconds * _NS) for stage, seconds in took.items() if seconds is not None}
        ended = time.time_ns()
        at = ended - sum(known.values())
        of_shard = self._in(self._span(asset, key, shard))
        window = self._tracer.start_span("window", of_shard, attributes=_attributes(row), start_time=at)
        for stage, length in known.items():
            span = self._tracer.start_span(stage, self._in(window), start_time=at)
            at += length
            span.end(at)
        if row.status == "failed":
            window.set_status(_error(row.error))
        window.end(ended)

    # How it becomes spans and metrics.

    def _span(self, asset: str, key: str, shard: str) -> "Span":
        """Of a shard, from its beginning on, also where that has not been told. A shard has one for each key."""
        with self._lock:
            span = self._spans.get((asset, key, shard))
            if span is None:
                began, total = self._began.get((asset, shard), (time.time_ns(), 0))
                of: dict[str, Any] = {"asset": asset, "key": key, "shard": shard, "items": total}
                attributes = {f"caption_assets.{name}": value for name, value in of.items() if value != ""}
                span = self._tracer.start_span("shard", self._in(self._run), attributes=attributes, start_time=began)
                self._spans[asset, key, shard] = span
                self._seen.add((asset, shard))
            return span

    def _end(self, asset: str, key: str, shard: str, error: Exception | None = None) -> None:
        span = self._span(asset, key, shard)
        with self._lock:
            self._left[asset, shard] = 0
            self._num_failed += error is not None
            del self._spans[asset, key, shard]
        if error is not None:
            span.set_status(_error(str(error)))
        span.end()

    @staticmethod
    def _in(span: "Span") -> Any:
        from opentelemetry.trace import set_span_in_context

        return set_span_in_context(span)

    def _by_session(self, of: Callable[[EngineSession, Usage], float]) -> Iterator[Any]:
        from opentelemetry.metrics import Observation

        with self._lock:
            sessions = list(self._sessions)
        found: Counter[tuple[str, str]] = Counter()
        for asset, session in sessions:
            found[asset, session.variant.name] += of(session, session.usage)  # type: ignore[assignment]
        for (asset, key), value in found.items():
            yield Observation(value, {"asset": asset, "key": key})

    def _by_asset(self) -> Iterator[Any]:
        from opentelemetry.metrics import Observation

        with self._lock:
            left: Counter[str] = Counter()
            for (asset, _), count in self._left.items():
                left[asset] += max(0, count)
        for asset, count in left.items():
            yield Observation(count, {"asset": asset})


def _attributes(row: CaptionRow | EnhancedRow) -> dict[str, Any]:
    """A window's, by OpenTelemetry's conventions for what models do where there are any."""
    return {
        "caption_assets.clip_id": row.clip_id,
        "caption_assets.start_frame": row.start_frame,
        "caption_assets.end_frame": row.end_frame,
        "caption_assets.key": row.key,
        "caption_assets.status": row.status,
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": row.model_id,
        "gen_ai.usage.input_tokens": row.prompt_tokens or 0,
        "gen_ai.usage.output_tokens": row.output_tokens or 0,
    }


def _cost(session: EngineSession, usage: Usage) -> float:
    return usage.held_s / 3600.0 * (session.gpu_hour_price or 0.0)


def _error(message: str) -> Any:
    from opentelemetry.trace import Status, StatusCode

    return Status(StatusCode.ERROR, message)
