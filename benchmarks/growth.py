"""How what a dataset costs grows with it: CPU time, memory and stored bytes by stage, for datasets of several sizes.

    python -m benchmarks.growth --sizes 1x100 1x5000 100x10 1000x10 [--stages plan captions …] [--folder /data/growth]

A size is shards x clips of each. The clips are real ones (24 frames of 64x48, one window each, each with bytes of its
own). Each stage is a process of its own that works on what those before it have made:

    list        what shards there are, and the version of each one's listing
    plan        windows: each clip is opened and probed
    previews    a WebP for each window, by a decode of its own
    captions    frames are decoded and sent to an engine that answers at once: a server on the loopback device
    documents   all of the layout's JSON, rendered anew from the tables
    nothing     windows, previews and captions once more, where nothing is to be done
    run         the same four through Dagster, into an instance and an output of their own: `caption-assets run`
    rerun       that once more
    sensor      a tick of the sensor that looks at every shard of that instance; later ticks only look for new shards
    schedule    a tick of the schedule: is anything missing or out of date
    backfill    what `caption-assets backfill` asks for, and the daemon at work until it has nothing more to launch
    plain       the same for plain assets with the same names and shards: what Dagster itself needs

CPU seconds are of a stage's process and of all that it starts, without the imports (but for `run` and `rerun`, whose
start is in them); other work on the machine disturbs them little. Memory is the largest resident set of any of its
processes. The second half of a line compares with the size before of as many clips a shard (of one shard: with
the one before): what each further clip costs, and that by what each clip more cost from the first such size to the
second. Bytes are those of Dagster's storage.

With `--folder`, figures that are there are not measured again, so that a long run can be taken up. Needs Linux, no GPU.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import re
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np

from benchmarks.servers import serve
from caption_assets.media.mp4 import write_mp4

_DIFFERENT_CLIPS = 8
_WIDTH, _HEIGHT = 64, 48


@dataclass(frozen=True)
class Size:
    """Of a dataset: so many shards of so many clips."""

    shards: int
    each: int

    @property
    def clips(self) -> int:
        return self.shards * self.each

    def __str__(self) -> str:
        return f"{self.shards}x{self.each}"


@dataclass(frozen=True)
class Figures:
    """CPU and wall seconds, MiB of the largest process, and bytes of Dagster's storage, of one stage."""

    cpu_s: float
    wall_s: float
    peak_mib: float
    stored: int = 0


class Place:
    """Where a dataset of one size is, and what is made of it."""

    def __init__(self, folder: Path, size: Size) -> None:
        self.size = size
        self.folder = folder / str(size)
        self.clips, self.out, self.home = (self.folder / name for name in ("clips", "out", "home"))

    def make(self) -> None:
        """The clips: a few real ones, each time with other bytes in a box that players skip."""
        if (self.folder / "made").exists():
            return
        shutil.rmtree(self.clips, ignore_errors=True)
        self.home.mkdir(parents=True, exist_ok=True)
        queued = "run_coordinator: {module: dagster, class: QueuedRunCoordinator}\n"
        (self.home / "dagster.yaml").write_text(f"telemetry: {{enabled: false}}\n{queued}")
        different = [_clip(self.folder / "one.mp4", seed) for seed in range(_DIFFERENT_CLIPS)]
        number = 0
        for shard in range(self.size.shards):
            (folder := self.clips / f"shard-{shard:05d}").mkdir(parents=True)
            for clip in range(self.size.each):
                own = struct.pack(">I4sQ", 16, b"free", number)
                (folder / f"{clip:06d}.mp4").write_bytes(different[number % len(different)] + own)
                number += 1
        (self.folder / "made").touch()

    def figures(self, stage: str) -> Path:
        """Where they are kept."""
        return self.folder / f"{stage}.json"

    @property
    def environment(self) -> dict[str, str]:
        """Of the deployment whose instance and output `run` makes."""
        return {
            "CAPTION_ASSETS_DATASET": str(self.clips),
            "CAPTION_ASSETS_OUTPUT": str(self.folder / "run"),
            "CAPTION_ASSETS_ENGINE": "openai",
            "CAPTION_ASSETS_VARIANT": "demo",
            "CAPTION_ASSETS_PREVIEW_TARGET_HEIGHT": str(_HEIGHT),
            "DAGSTER_HOME": str(self.home),
        }


def _clip(path: Path, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    frames = (rng.integers(0, 40, (_HEIGHT, _WIDTH, 3), dtype=np.uint8) for _ in range(24))
    write_mp4(str(path), frames, Fraction(24))
    return path.read_bytes()


@contextlib.contextmanager
def measured() -> Iterator[Callable[[], Figures]]:
    """Gives what tells the figures of the block, when it has ended."""
    cpu, wall, found = _cpu_s(), time.perf_counter(), list[Figures]()
    yield lambda: found[0]
    spent = _cpu_s() - cpu
    peak = max(_own_peak_kib(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024
    found.append(Figures(spent, time.perf_counter() - wall, peak))


def _cpu_s() -> float:
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, kinds))


def _own_peak_kib() -> int:
    """Of this process alone: what getrusage tells begins with the parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


# The stages. Each imports what it needs before it measures.


def _list(place: Place) -> Figures:
    from caption_assets import open_dataset

    with measured() as figures:
        dataset = open_dataset(str(place.clips))
        assert len(dict(dataset.versions(dataset.shards()))) == place.size.shards
    return figures()


def _plan(place: Place) -> Figures:
    shutil.rmtree(place.out, ignore_errors=True)
    return _steps(place, ["plan"], new=True)


def _previews(place: Place) -> Figures:
    return _steps(place, ["previews"], new=True)


def _captions(place: Place) -> Figures:
    return _steps(place, ["captions"], new=True)


def _nothing(place: Place) -> Figures:
    return _steps(place, ["plan", "previews", "captions"], new=False)


def _steps(place: Place, names: Iterable[str], new: bool) -> Figures:
    """Steps as the assets' bodies call them; `new` says whether they are to find all or nothing to do."""
    from caption_assets import (
        CaptionModelSettings,
        CaptionSettings,
        PreviewSettings,
        ShardReport,
        StepContext,
        Store,
        WindowSettings,
        Workers,
        caption_shards,
        model_session,
        open_dataset,
        preview_shards,
        window_shards,
    )

    def ended(outcomes: Iterable[object]) -> None:
        items = 0
        for each in outcomes:
            report = each.outcome  # type: ignore[attr-defined]
            assert isinstance(report, ShardReport), report
            assert (report.ok, report.reused) == (place.size.each, 0 if new else place.size.each), report
            items += report.ok
        assert items == place.size.clips, items

    with measured() as figures, Workers(2) as workers:
        dataset, context = open_dataset(str(place.clips)), StepContext(Store(str(place.out)), workers)
        shards = dataset.shards()
        for name in names:
            if name == "plan":
                ended(window_shards(context, dataset, shards, WindowSettings()))
            elif name == "previews":
                ended(preview_shards(context, shards, PreviewSettings(target_height=_HEIGHT)))
            else:
                with model_session(CaptionModelSettings(engine="openai")) as session:
                    ended(caption_shards(context, shards, session, CaptionSettings()))
    return figures()


def _documents(place: Place) -> Figures:
    from caption_assets import CLIP_WINDOWS, Store
    from caption_assets.save_export import paths
    from caption_assets.steps.documents import render_documents_of

    store = Store(str(place.out))
    shards = store.shards(CLIP_WINDOWS)
    for folder in ("metas", "processed_videos", "processed_clip_chunks"):
        shutil.rmtree(place.out / folder, ignore_errors=True)
    for shard in shards:
        store.delete(paths.rendered(shard))
    with measured() as figures:
        for shard in shards:
            render_documents_of(store, shard)
    assert sum(len(files) for _, _, files in os.walk(place.out / "metas" / "v0")) == place.size.clips
    return figures()


def _run(place: Place) -> Figures:
    shutil.rmtree(place.folder / "run", ignore_errors=True)
    _forget(place)
    return _command(place)


def _command(place: Place) -> Figures:
    command = [sys.executable, "-m", "caption_assets", "run", "--generate-captions", "--generate-previews"]
    with measured() as figures:
        subprocess.run(command, env=os.environ | place.environment, check=True, stdout=subprocess.DEVNULL)
    stored = sum(path.stat().st_size for path in place.home.rglob("*") if path.is_file())
    return Figures(**asdict(figures()) | {"stored": stored})


def _forget(place: Place) -> None:
    """Makes the instance new."""
    for path in place.home.iterdir():
        if path.name != "dagster.yaml":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _sensor(place: Place) -> Figures:
    import dagster as dg

    os.environ |= place.environment
    from caption_assets.definitions import defs
    from caption_assets.defs.pipeline import Pipeline
    from caption_assets.settings.environment import deployed_settings

    definition, clips = defs.resolve_sensor_def("register_new_shards"), Pipeline(deployed_settings()).resources["clips"]
    with dg.DagsterInstance.get() as instance, measured() as figures:
        cursor, ticks = None, 0
        while True:
            with dg.build_sensor_context(instance, cursor=cursor, resources={"clips": clips}) as context:
                told = definition.evaluate_tick(context)
            assert not told.asset_events, "what the run has told of the shards is to be all"
            cursor, ticks = told.cursor, ticks + 1
            if not json.loads(cursor or "{}").get("next_shard"):
                break
    return figures()


def _schedule(place: Place) -> Figures:
    from datetime import UTC, datetime

    import dagster as dg

    os.environ |= place.environment
    from caption_assets.definitions import defs

    # What `run` does not make, each shard's page and enhanced captions, is asked for.
    definition, repository = defs.resolve_schedule_def("missing_shards"), defs.get_repository_def()
    with dg.DagsterInstance.get() as instance, measured() as figures:
        context = dg.build_schedule_context(instance, datetime.now(UTC), repository_def=repository)
        assert definition.evaluate_tick(context).run_requests
    return figures()


def _backfill(place: Place, module: str = "caption_assets.definitions") -> Figures:
    import logging

    from dagster import DagsterInstance
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import ModuleTarget
    from dagster._daemon.backfill import execute_backfill_iteration

    os.environ |= place.environment
    from caption_assets import open_dataset
    from caption_assets.defs.backfills import ask_for_backfill
    from caption_assets.defs.partitions import add_new_shards
    from caption_assets.defs.pipeline import Pipeline
    from caption_assets.settings.environment import deployed_settings

    _forget(place)
    pipeline, defs = Pipeline(deployed_settings()), import_module(module).defs
    target = ModuleTarget(module, None, os.getcwd(), "caption_assets")
    with DagsterInstance.get() as instance, WorkspaceProcessContext(instance, target) as workspace:
        with measured() as figures:
            dataset = open_dataset(str(place.clips))
            add_new_shards(instance, pipeline.shards, dataset)
            ask_for_backfill(instance, defs, [asset.key for asset in pipeline.assets], dataset.shards())
            before = -1
            while (queued := instance.get_runs_count()) != before or not queued:
                before = queued
                list(execute_backfill_iteration(workspace, logging.getLogger("backfill")))
        assert queued >= place.size.shards / 1024, queued
    return figures()


STAGES: Mapping[str, Callable[[Place], Figures]] = {
    "list": _list,
    "plan": _plan,
    "previews": _previews,
    "captions": _captions,
    "documents": _documents,
    "nothing": _nothing,
    "run": _run,
    "rerun": _command,
    "sensor": _sensor,
    "schedule": _schedule,
    "backfill": _backfill,
    "plain": partial(_backfill, module="benchmarks.parts.plain"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=_size, default=[Size(1, 100), Size(1, 2000), Size(100, 10)])
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES), metavar="STAGE")
    parser.add_argument("--folder", type=Path, help="where datasets, outputs and figures are kept")
    parser.add_argument("--again", action="store_true", help="measure again what has been measured")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        (stage,), place = options.stages, Place(options.one, *options.sizes)
        place.figures(stage).write_text(json.dumps(asdict(STAGES[stage](place))))
        return
    with contextlib.ExitStack() as kept:
        folder = options.folder or Path(kept.enter_context(tempfile.TemporaryDirectory()))
        server = kept.enter_context(answering())
        # By stage: the sizes of as many clips a shard, in their order.
        rows: dict[str, dict[int, list[tuple[Size, Figures]]]] = defaultdict(lambda: defaultdict(list))
        for size in options.sizes:
            place = Place(folder, size)
            place.make()
            for stage in options.stages:
                figures = _figures(place, stage, server, options.again)
                series = rows[stage][0 if size.shards == 1 else size.each]
                series.append((size, figures))
                print(_line(stage, series), flush=True)


def _size(text: str) -> Size:
    if not (found := re.fullmatch(r"(\d+)x(\d+)", text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 100x10")
    return Size(*map(int, found.groups()))


def _figures(place: Place, stage: str, server: str, again: bool) -> Figures:
    kept = place.figures(stage)
    if again or not kept.exists():
        command = [sys.executable, "-m", "benchmarks.growth", "--one", str(place.folder.parent)]
        command += ["--sizes", str(place.size), "--stages", stage]
        environment = os.environ | {"OPENAI_BASE_URL": server}
        if status := subprocess.run(command, env=environment, stdout=sys.stderr).returncode:
            raise SystemExit(f"{stage} of {place.size} ended with status {status}")
    return Figures(**json.loads(kept.read_text()))


def _line(stage: str, series: list[tuple[Size, Figures]]) -> str:
    size, figures = series[-1]
    count = float(size.clips)
    text = f"{stage:10s} {size!s:>9s}  {figures.cpu_s:8.2f} s CPU {figures.wall_s:8.2f} s"
    text += f"  {1000 * figures.cpu_s / count:8.2f} ms a clip  {figures.peak_mib:6.0f} MiB"
    if figures.stored:
        text += f"  {figures.stored / 1024:9.0f} KiB stored"
    if len(series) > 1:
        each = _each(series[-2], series[-1])
        text += f" | each more {1000 * each.cpu_s:7.2f} ms {each.peak_mib * 1024:6.2f} KiB"
        if figures.stored:
            text += f", {each.stored * size.each / 1024:.1f} KiB stored a shard"
        if len(series) > 2:
            first = _each(series[0], series[1])
            text += f" (x {each.cpu_s / first.cpu_s:.2f}, x {each.peak_mib / first.peak_mib:.2f})"
    return text


@dataclass(frozen=True)
class _More:
    cpu_s: float
    peak_mib: float
    stored: float


def _each(before: tuple[Size, Figures], after: tuple[Size, Figures]) -> _More:
    """What each clip more cost, from one size to the next: what is the same for all sizes is left out."""
    more, (_, a), (_, b) = after[0].clips - before[0].clips, before, after
    return _More((b.cpu_s - a.cpu_s) / more, (b.peak_mib - a.peak_mib) / more, (b.stored - a.stored) / more)


@contextlib.contextmanager
def answering() -> Iterator[str]:
    """The address of a server that answers at once, in a process of its own."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(1, 0.0, there), daemon=True)
    process.start()
    try:
        (address,) = here.recv()
        yield address
    finally:
        process.kill()


if __name__ == "__main__":
    main()
