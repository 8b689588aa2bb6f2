"""The stages of `benchmarks.growth`, by name: each works on what those before it have made, and tells what it took."""

import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path

from benchmarks.parts.growing import HEIGHT, Place

_MORE = 30
"""Shards that `next` makes."""
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True)
class Figures:
    """CPU and wall seconds of one stage, MiB of its largest process, the clips that it was about, and bytes in the
    storage of Dagster."""

    cpu_s: float
    wall_s: float
    peak_mib: float
    clips: int
    stored: int = 0


@contextlib.contextmanager
def measured(clips: int) -> Iterator[Callable[[], Figures]]:
    """Gives what tells the figures of the block, which is about so many clips, when it has ended."""
    Path("/proc/self/clear_refs").write_text("5")  # the largest resident set is that from now on
    cpu, wall, found = _cpu_s(), time.perf_counter(), list[Figures]()
    yield lambda: found[0]
    spent = _cpu_s() - cpu
    peak = max(_own_peak_kib(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024
    found.append(Figures(spent, time.perf_counter() - wall, peak, clips))


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

    with measured(place.size.clips) as figures:
        dataset = open_dataset(str(place.clips))
        assert len(dict(dataset.versions(dataset.shards()))) == place.size.shards
    return figures()


def _plan(place: Place) -> Figures:
    shutil.rmtree(place.out, ignore_errors=True)
    return _steps(place, ["plan"], new=True)


def _previews(place: Place) -> Figures:
    shutil.rmtree(place.out / "tables" / "window_previews", ignore_errors=True)
    return _steps(place, ["previews"], new=True)


def _captions(place: Place) -> Figures:
    shutil.rmtree(place.out / "tables" / "window_captions", ignore_errors=True)
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

    with measured(place.size.clips) as figures, Workers(2) as workers:
        dataset, context = open_dataset(str(place.clips)), StepContext(Store(str(place.out)), workers)
        shards = dataset.shards()
        for name in names:
            if name == "plan":
                ended(window_shards(context, dataset, shards, WindowSettings()))
            elif name == "previews":
                ended(preview_shards(context, shards, PreviewSettings(target_height=HEIGHT)))
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
    with measured(place.size.clips) as figures:
        for shard in shards:
            render_documents_of(store, shard)
    assert sum(len(files) for _, _, files in os.walk(place.out / "metas" / "v0")) == place.size.clips
    return figures()


def _run(place: Place) -> Figures:
    shutil.rmtree(place.folder / "run", ignore_errors=True)
    place.forget()
    return _command(place)


def _command(place: Place) -> Figures:
    command = [sys.executable, "-m", "caption_assets", "run", "--generate-captions", "--generate-previews"]
    with measured(place.size.clips) as figures:
        subprocess.run(command, env=os.environ | place.environment, check=True, stdout=subprocess.DEVNULL)
    return replace(figures(), stored=place.stored)


def _sensor(place: Place) -> Figures:
    import dagster as dg

    os.environ |= place.environment
    from caption_assets.definitions import defs
    from caption_assets.defs.pipeline import Pipeline
    from caption_assets.settings.environment import deployed_settings

    definition, clips = defs.resolve_sensor_def("register_new_shards"), Pipeline(deployed_settings()).resources["clips"]
    with dg.DagsterInstance.get() as instance, measured(place.size.clips) as figures:
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
    with dg.DagsterInstance.get() as instance, measured(place.size.clips) as figures:
        context = dg.build_schedule_context(instance, datetime.now(UTC), repository_def=repository)
        assert definition.evaluate_tick(context).run_requests
    return figures()


def _next(place: Place) -> Figures:
    import dagster as dg

    os.environ |= place.environment | {"CAPTION_ASSETS_OUTPUT": str(place.folder / "next")}
    from benchmarks.parts.history import History
    from caption_assets import open_dataset
    from caption_assets.defs.pipeline import Pipeline
    from caption_assets.defs.run import materialize_shards
    from caption_assets.settings.environment import deployed_settings
    from caption_assets.steps import Progress

    shutil.rmtree(place.folder / "next", ignore_errors=True)
    place.forget()
    pipeline, steps = Pipeline(deployed_settings()), {"clip_windows", "window_previews", "window_captions"}
    shards = open_dataset(str(place.clips)).shards()
    made, more = shards[:-_MORE], shards[-_MORE:]
    with dg.DagsterInstance.get() as instance:
        assert not materialize_shards(instance, pipeline, made[:1], steps, Progress())
        History(instance, made).copy_all()
        before = place.stored
        with measured(_MORE * place.size.each) as figures:
            assert not materialize_shards(instance, pipeline, more, steps, Progress())
    return replace(figures(), stored=place.stored - before)


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

    place.forget()
    pipeline, defs = Pipeline(deployed_settings()), import_module(module).defs
    target = ModuleTarget(module, None, os.getcwd(), "caption_assets")
    with DagsterInstance.get() as instance, WorkspaceProcessContext(instance, target) as workspace:
        with measured(place.size.clips) as figures:
            dataset = open_dataset(str(place.clips))
            add_new_shards(instance, pipeline.shards, dataset)
            ask_for_backfill(instance, defs, [asset.key for asset in pipeline.assets], dataset.shards())
            before = -1
            while (queued := instance.get_runs_count()) != before or not queued:
                before = queued
                list(execute_backfill_iteration(workspace, logging.getLogger("backfill")))
        assert queued >= place.size.shards / 1024, queued
    return figures()


def _plain_run(place: Place) -> Figures:
    import dagster as dg

    os.environ |= place.environment
    from benchmarks.parts.plain import defs
    from caption_assets import open_dataset
    from caption_assets.defs.partitions import add_new_shards, range_tags
    from caption_assets.defs.pipeline import Pipeline
    from caption_assets.settings.environment import deployed_settings
    from caption_assets.steps import captions, previews, windows

    place.forget()
    pipeline, dataset = Pipeline(deployed_settings()), open_dataset(str(place.clips))
    steps = {windows.STEP, previews.STEP, captions.STEP}
    job = defs.resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.get() as instance, measured(place.size.clips) as figures:
        add_new_shards(instance, pipeline.shards, dataset)
        for made in pipeline.made:
            if made.step in steps:
                of_one = job.get_subset(asset_selection={made.definition.key})
                tags = range_tags(tuple(dataset.shards()))
                assert of_one.execute_in_process(_QUIET, instance, tags=tags).success
    return replace(figures(), stored=place.stored)


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
    "plain-run": _plain_run,
    "next": _next,
    "backfill": _backfill,
    "plain-backfill": partial(_backfill, module="benchmarks.parts.plain"),
}
