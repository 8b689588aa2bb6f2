"""The assets through Dagster, in an instance of its own: what the benchmarks know of the package's Dagster project."""

import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from caption_assets.dataset import open_dataset
from caption_assets.settings import Captions, EnhancedCaptions, PipelineSettings, PreviewSettings, WindowSettings
from caption_assets.steps import Progress, ShardReport


class Reports(Progress):
    """The assets' reports; what fails is said on standard error.

    `ended` is when an asset's last report came, by `time.perf_counter`: its engine is closed after that. `last_item` is
    when its last item was there. `seconds` is the wall time of all runs together.
    """

    def __init__(self) -> None:
        self.reports: list[ShardReport] = []
        self.ended: dict[str, float] = {}
        self.last_item: dict[str, float] = {}
        self._spans: list[tuple[float, float]] = []
        self.seconds = 0.0

    def advance(self, asset: str, shard: str, items: int = 1, work: float | None = None) -> None:
        self.last_item[asset] = time.perf_counter()

    def done(self, report: ShardReport) -> None:
        self.reports.append(report)
        self.ended[report.asset] = now = time.perf_counter()
        self._spans.append((now - report.seconds, now))

    def failed(self, asset: str, shard: str, error: Exception, key: str = "") -> None:
        print(f"{asset} of {shard}: {error}", file=sys.stderr)

    @property
    def step_seconds(self) -> float:
        """Wall time in which a step was at work; what is made together, as previews and captions are, counts once."""
        total, until = 0.0, 0.0
        for start, end in sorted(self._spans):
            total += max(0.0, end - max(start, until))
            until = max(until, end)
        return total

    def of(self, asset: str) -> list[ShardReport]:
        return [report for report in self.reports if report.asset == asset]


def materialize(
    clips: str,
    output: str,
    configs: Mapping[str, Mapping[str, Any]],
    *,
    caption_model: Mapping[str, Any],
    text_model: Mapping[str, Any],
    runs: Iterable[Sequence[str]] | None = None,
) -> Reports:
    """Materializes the assets that `configs` names (asset -> its config), with models of these settings.

    `runs` are the shards that go together, in turn; by default all do. Raises RuntimeError where a shard fails.
    """
    import dagster as dg

    from caption_assets.defs.pipeline import Pipeline
    from caption_assets.defs.run import materialize_shards

    dataset, reports = open_dataset(clips), Reports()
    settings = PipelineSettings(
        dataset=dataset.root,
        output=output,
        windows=WindowSettings(**configs.get("clip_windows", {})),
        previews=PreviewSettings(**configs.get("window_previews", {})),
        captions=(Captions(**caption_model, **configs.get("window_captions", {})),),
        enhanced=(EnhancedCaptions(**text_model, **configs.get("enhanced_captions", {})),),
    )
    with tempfile.TemporaryDirectory() as home, dg.instance_for_test(temp_dir=home) as instance:
        started = time.perf_counter()
        for shards in [dataset.shards()] if runs is None else runs:
            failed = materialize_shards(instance, Pipeline(settings), shards, configs, reports)
            if failed:
                raise RuntimeError(f"shards failed: {', '.join(sorted(failed))}")
        reports.seconds = time.perf_counter() - started
    return reports
