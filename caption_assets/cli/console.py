"""What the command line shows: progress while it works, and the summary at the end."""

import logging
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace

from rich import box
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from caption_assets.dataset import shard_name
from caption_assets.steps import Progress as StepProgress
from caption_assets.steps import ShardReport
from caption_assets.steps.checked import Checked
from caption_assets.steps.progress import Paces
from caption_assets.steps.progress_log import duration
from caption_assets.store import TABLES

# Of the tables' names, the word that tells them apart.
_COLUMNS = {name: name.removeprefix("clip_").removeprefix("window_").removesuffix("_captions") for name in TABLES}


# Figures of what a shard costs, and what the summary calls them.
_COSTS = {
    "gpu_held_seconds": "GPU s held",
    "gpu_busy_seconds": "busy",
    "engine_starts": "starts",
    "cpu_seconds": "CPU s",
    "bytes_read": "bytes read",
    "tokens_in": "tokens in",
    "tokens_out": "out",
    "cost": "money",
}
_REORDERING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
_MARKS = "\u200e\u200f\u061c"


def plain(text: str) -> str:
    """Text from elsewhere (names, captions, what servers say) as a terminal may have it: one line, nothing acted on.

    What would move the cursor, change colours or the order of letters stands there by its number.
    """
    return "".join(char.encode("unicode_escape").decode() if _acts(char) else char for char in text)


def shown(text: str) -> Text:
    """The same for rich, which takes no markup in it."""
    return Text(plain(text))


def _acts(char: str) -> bool:
    acts = unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or unicodedata.bidirectional(char) in _REORDERING
    return acts or char in _MARKS


class _Plain(logging.Formatter):
    """Messages of several lines keep them."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(plain, super().format(record).split("\n")))


class _Left(ProgressColumn):
    """How long a bar still takes."""

    max_refresh = 0.5

    def __init__(self, of: Callable[[str], str]) -> None:
        super().__init__()
        self._of = of

    def render(self, task: Task) -> Text:
        return Text(self._of(task.description), style="progress.remaining")


class RunConsole(StepProgress):
    """A progress bar for every asset, and a record of every report and failure, and of checks that did not pass.

    A context manager.
    """

    def __init__(self, console: Console, shards: int = 1) -> None:
        """`shards` is how many each asset is to be made for."""
        self.reports: dict[str, dict[tuple[str, str], ShardReport]] = {}
        self.failures: list[tuple[str, str, str]] = []
        self.checks: list[Checked] = []
        self.passed = 0
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description:<18}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            _Left(self._left),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._paces = Paces(shards)
        self._handler = RichHandler(console=console, show_path=False, show_time=False, level=logging.WARNING)
        self._handler.setFormatter(_Plain())

    def __enter__(self) -> "RunConsole":
        logging.getLogger("caption_assets").addHandler(self._handler)
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()
        logging.getLogger("caption_assets").removeHandler(self._handler)

    def start(self, asset: str, shard: str, total: int, reused: int = 0, work: float | None = None) -> None:
        if self._paces.start(asset, shard, total, reused, work):
            self._tasks[asset] = self._bars.add_task(asset, total=0)
        self._move(asset)

    def ready(self, asset: str) -> None:
        self._paces.ready(asset)

    def advance(self, asset: str, shard: str, items: int = 1, work: float | None = None) -> None:
        self._paces.advance(asset, shard, items, work)
        self._move(asset)

    def done(self, report: ShardReport) -> None:
        self._paces.over(report.asset, report.shard)
        self._move(report.asset)
        # Without what is not shown here: it would be kept for all shards until the end.
        costs = {name: figure for name, figure in report.figures.items() if name in _COSTS}
        kept = replace(report, samples=(), figures=costs, location="", data_version="", input_versions={})
        self.reports.setdefault(report.shard, {})[report.asset, report.key] = kept

    def failed(self, asset: str, shard: str, error: Exception, key: str = "") -> None:
        self._paces.failed(asset, shard)
        self._move(asset)
        self.failures.append((_named(asset, key), shard, str(error)))

    def checked(self, checked: Checked) -> None:
        if checked.passed:
            self.passed += 1
        else:
            self.checks.append(checked)

    def _move(self, asset: str) -> None:
        if asset not in self._tasks:
            return  # it has ended before it was begun
        pace = self._paces[asset]
        self._bars.update(self._tasks[asset], completed=pace.done, total=pace.total)

    def _left(self, asset: str) -> str:
        seconds = self._paces.seconds_left(asset)
        return "" if not seconds else f"{duration(seconds)} left"

    def summarize(self, shards: list[str], out: Console) -> None:
        """Prints a row for every shard, then everything that failed, with its reason."""
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column("shard", overflow="fold", min_width=10)
        for name in ("clips", *_COLUMNS.values(), "failed", "seconds"):
            table.add_column(name, justify="right")
        total: Counter[str] = Counter()
        broken = {shard for _, shard, _ in self.failures} & set(shards)
        seconds = 0.0
        for shard in shards:
            row = self._row(shard)
            took = _seconds(self.reports.get(shard, {}))
            total.update(row)
            seconds += took
            table.add_row(shown(shard_name(shard)), *_cells(row, "shard" if shard in broken else ""), f"{took:.1f}")
        if len(shards) > 1:
            table.add_section()
            whole = f"{len(broken)} shard{'s' * (len(broken) > 1)}" if broken else ""
            table.add_row("total", *_cells(total, whole), f"{seconds:.1f}")
        out.print(table)
        self._show_costs(out)
        reasons: Counter[str] = Counter()
        for shard in shards:
            for report in self.reports.get(shard, {}).values():
                reasons.update({f"{report.asset}: {kind}": n for kind, n in report.failures.items()})
                for item in report.failed_items:
                    of = _named(report.asset, report.key)
                    out.print(shown(f"{of} {shard_name(shard)}/ {item}"), style="yellow")
        if reasons:
            out.print(shown("failures by reason: " + ", ".join(f"{kind} {n}" for kind, n in sorted(reasons.items()))))
        for of, shard, error in self.failures:
            out.print(shown(f"{of} failed for shard {shard_name(shard)}: {error}"), style="red")

    def _show_costs(self, out: Console) -> None:
        """What the models have cost, a row each; without one, nothing."""
        costs: dict[str, Counter[str]] = {}
        for reports in self.reports.values():
            for (asset, _), report in reports.items():
                numbers = {n: v for n, v in report.figures.items() if n in _COSTS and isinstance(v, int | float)}
                costs.setdefault(asset, Counter()).update({"items": report.used.items, **numbers})
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column("cost", min_width=10)
        named = [name for name in _COSTS if any(of[name] for of in costs.values())]
        for name in named:
            table.add_column(_COSTS[name], justify="right")
        if "cost" in named:
            table.add_column("per 1,000", justify="right")
        for name, of in costs.items():
            cells = [f"{of[n]:,.2f}" if isinstance(of[n], float) else f"{of[n]:,}" for n in named]
            if "cost" in named:
                cells.append(f"{1000 * of['cost'] / of['items']:,.3f}" if of["cost"] and of["items"] else "")
            table.add_row(_COLUMNS[name], *cells)
        if costs:
            out.print(table)

    def _row(self, shard: str) -> Counter[str]:
        reports = self.reports.get(shard, {})
        row: Counter[str] = Counter()
        for (asset, _), report in reports.items():
            row[_COLUMNS[asset]] += report.ok
            row["clips"] += report.clips if asset == "clip_windows" else 0
            row["failed"] += report.failed + report.skipped
        return row


def _named(asset: str, key: str) -> str:
    """An asset, of texts with their key: a run may make those of several."""
    return f"{asset} {key}".rstrip()


def _seconds(reports: Mapping[tuple[str, str], ShardReport]) -> float:
    """Of a shard in all; previews and captions are made together, in the same seconds."""
    seconds: dict[str, float] = defaultdict(float)
    for (asset, _), report in reports.items():
        seconds[asset] += report.seconds
    together = max(seconds.pop("window_previews", 0.0), seconds.pop("window_captions", 0.0))
    return together + sum(seconds.values())


def _cells(row: Counter[str], broken: str) -> list[str]:
    """A row's numbers; `broken` says what failed as a whole, of which nobody has counted the windows."""
    *counts, failed = (str(row[name]) for name in ("clips", *_COLUMNS.values(), "failed"))
    return [*counts, ", ".join([failed] * bool(row["failed"] or not broken) + [broken] * bool(broken))]
