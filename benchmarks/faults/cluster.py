"""Backfills on a cluster in which things die: nothing lost, nothing twice, and Dagster knows what is stored.

    python -m benchmarks.faults.cluster [--count 50] [--seed 0] [--shards 3] [--clips 2]

PostgreSQL, an S3 server, three Ray nodes, a code server and Dagster's daemon run on this machine, with the instance of
deploy/dagster.yaml. Each round asks for a backfill of new shards, all assets of the embedded models. While it works,
one after the other dies, at random: a node with all that is on it, a node that is told so before, as spot machines are,
a worker that decodes, a process that has a model in it, the database for ten seconds, the object store for ten. Nobody
helps. Then the backfill must have ended well, with no run unfinished, every asset of every shard materialized, and with
the data version of what is stored. At the end all output must be what one undisturbed `caption-assets run` makes of the
same clips. Needs Linux and PostgreSQL; takes five minutes a round, mostly waiting.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain, cycle, islice
from pathlib import Path

import pyarrow.parquet as pq
from dagster import AssetKey, RunsFilter
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from benchmarks.faults.objects import contents, differences
from caption_assets.defs.history import History
from caption_assets.demo.clips import demo_scenes, render_dataset
from caption_assets.steps.versions import data_version
from caption_assets.store import Store
from caption_assets.store.rows import window_key
from caption_assets.store.tables import CAPTION_FINDINGS, ENHANCED_FINDINGS, TABLES
from caption_assets_tests.deploy.cluster import Deployment, kill
from caption_assets_tests.processes import descendants
from caption_assets_tests.s3 import S3Server

KINDS = ("node", "spot", "worker", "engine", "database", "objects")
AWAY_S = 10.0
HANG_S = 1500.0
# Before a death, from when on a step is at work again: each may be tried four times.
_PAUSES_S = (1.0, 25.0)
_FINDINGS = {"window_captions": CAPTION_FINDINGS, "enhanced_captions": ENHANCED_FINDINGS}


class Deaths:
    """What dies, drawn by a seed, and counted."""

    def __init__(self, deployment: Deployment, seed: int) -> None:
        self._deployment, self._chosen = deployment, random.Random(seed)
        self.counts: Counter[str] = Counter()

    def pause(self) -> float:
        return self._chosen.uniform(*_PAUSES_S)

    def next(self) -> None:
        """One more. A kind of which few have died comes first, as there is not always one of each to die."""
        for kind in sorted(KINDS, key=lambda kind: self.counts[kind] + self._chosen.uniform(0, 3)):
            if getattr(self, f"_{kind}")():
                self.counts[kind] += 1
                print(f"  {time.strftime('%H:%M:%S')} {kind} dies", flush=True)
                return

    def _node(self) -> bool:
        return self._ended(self._deployment.ray.kill)

    def _spot(self) -> bool:
        return self._ended(self._deployment.ray.take_away)

    def _ended(self, end: Callable[[str], None]) -> bool:
        ray = self._deployment.ray
        name = self._chosen.choice(sorted(ray.nodes.keys() - {"head"}))
        end(name)
        time.sleep(self._chosen.uniform(1, AWAY_S))
        ray.add(name)
        return True

    def steps(self) -> list[int]:
        """The processes of steps."""
        return [pid for pid, command, _ in self._processes() if _is_step(command)]

    def _worker(self) -> bool:
        return self._kill_one([pid for pid, command, _ in self._processes() if "caption_assets.workers" in command])

    def _engine(self) -> bool:
        return self._kill_one([pid for pid, command, step in self._processes() if _is_step(command) and _asks(step)])

    def _kill_one(self, found: list[int]) -> bool:
        kill(*(self._chosen.sample(found, 1) if found else ()))
        return bool(found)

    def _processes(self) -> Iterator[tuple[int, str, str]]:
        """Those of all nodes, each with its command line and the step that it belongs to."""
        for pid in chain.from_iterable(descendants(node.pid) for node in self._deployment.ray.nodes.values()):
            with suppress(OSError):
                command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
                variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
                steps = [text.partition("=")[2] for text in variables if text.startswith("DAGSTER_RUN_STEP_KEY=")]
                yield pid, command, "".join(steps)

    def _database(self) -> bool:
        self._deployment.postgres.kill()
        time.sleep(AWAY_S)
        self._deployment.postgres.start()
        return True

    def _objects(self) -> bool:
        fault = self._chosen.choice(("reset", "503"))
        self._deployment.s3.fault = lambda method, path: fault
        time.sleep(AWAY_S)
        self._deployment.s3.fault = lambda method, path: None
        return True


def _is_step(command: str) -> bool:
    return " execute_step " in command and not command.startswith("/bin/sh")


def _asks(step: str) -> bool:
    """Whether a step has a model in its process."""
    return step.startswith(("window_captions", "enhanced_captions")) and not step.endswith("_checks")


def put_clips(server: S3Server, folder: Path, number: int, shards: int, clips: int) -> list[str]:
    """A round's shards, by their names."""
    scenes = cycle(chain.from_iterable(demo_scenes().values()))
    scenes = islice(scenes, number * shards * clips, None)
    names = [f"r{number}-{shard}" for shard in range(shards)]
    render_dataset(folder, {name: list(islice(scenes, clips)) for name in names})
    for path in sorted(path for name in names for path in (folder / name).rglob("*.mp4")):
        server.put(f"clips/{path.relative_to(folder).as_posix()}", path.read_bytes())
    return names


def play(deployment: Deployment, deaths: Deaths, shards: list[str], most: int) -> Iterator[str]:
    """One backfill in which up to so many die; what is wrong then."""
    began, before = time.monotonic(), deaths.counts.total()
    keys = [asset.key for asset in deployment.pipeline.assets]
    backfill = deployment.backfill(*keys, shards=shards)
    due = None
    while not (how := deployment.ended(backfill)):
        if time.monotonic() > began + HANG_S:
            yield f"backfill {backfill} hangs"
            return
        if deaths.counts.total() - before < most:
            if due is None and deaths.steps():
                due = time.monotonic() + deaths.pause()
            elif due is not None and time.monotonic() > due:
                deaths.next()
                due = None
        time.sleep(1)
    if how != "COMPLETED_SUCCESS":
        yield f"backfill {backfill} ends as {how}"
    left = deployment.instance.get_runs(RunsFilter(statuses=NOT_FINISHED_STATUSES))
    yield from (f"run {run.run_id} is {run.status.value}" for run in left)
    yield from untrue(deployment, shards)
    runs = deployment.instance.get_runs(RunsFilter(tags={"dagster/backfill": backfill}))
    ended = dict(Counter(run.status.value for run in runs))
    print(f"  {deaths.counts.total() - before} deaths, {time.monotonic() - began:.0f} s, runs {ended}", flush=True)


def untrue(deployment: Deployment, shards: list[str]) -> Iterator[str]:
    """Shards of which Dagster does not say what is stored, and windows that are stored twice or without success."""
    store = Store(deployment.output)
    for made in deployment.pipeline.made:
        asset, table, key = made.definition.key, made.step.table, "/".join(made.choice.keys) or None
        versions = History(deployment.instance, asset).versions
        for shard in shards:
            rows, flagged = store.read_committed(table, shard, key), []
            if table.name in _FINDINGS:
                findings = store.read_committed(_FINDINGS[table.name], shard, key)
                flagged = [window_key(row) for row in findings if row.severity == "error"]
            of = f"{asset.to_user_string()} of {shard}"
            if versions.get(shard) != data_version(rows, flagged):
                yield f"{of}: Dagster says {versions.get(shard)}, stored is {data_version(rows, flagged)}"
            yield from (f"{of}: {row.error}" for row in rows if row.status != "ok")
    rendered = [asset.key for asset in deployment.pipeline.assets if asset.key not in _tables(deployment)]
    for asset in rendered:
        if missing := set(shards) - deployment.instance.get_materialized_partitions(asset):
            yield f"{asset.to_user_string()} of {sorted(missing)} is not materialized"
    deployment.output.fs.invalidate_cache()
    for name in TABLES:
        for path in (deployment.output / "tables" / name).rglob("*.parquet"):
            with path.open("rb") as file:
                columns = pq.read_table(file, columns=["clip_id", "start_frame", "end_frame"]).to_pylist()
            twice = [window for window, count in Counter(tuple(row.values()) for row in columns).items() if count > 1]
            yield from (f"{path} has {window} twice" for window in twice)


def _tables(deployment: Deployment) -> set[AssetKey]:
    return {made.definition.key for made in deployment.pipeline.made}


def undisturbed(deployment: Deployment, folder: Path) -> dict[str, object]:
    """What one run makes of all clips in the bucket."""
    wanted = f"s3://{deployment.s3.bucket}/wanted"
    home = folder / "undisturbed"
    home.mkdir()
    (home / "dagster.yaml").touch()
    command = [sys.executable, "-m", "caption_assets", "run", "--output-path", wanted, "--workers", "1"]
    command += ["--dataset", deployment.environment["CAPTION_ASSETS_DATASET"], "--captioning-algorithm", "demo"]
    command += ["--enhance-captions-algorithm", "demo_lm", "--device", "cpu"]
    plain = {name: value for name, value in deployment.environment.items() if not name.startswith("CAPTION_ASSETS_")}
    subprocess.run(command, check=True, env={**os.environ, **plain, "DAGSTER_HOME": str(home)}, capture_output=True)
    return contents(deployment.s3, "wanted", shards_in(deployment))


def shards_in(deployment: Deployment) -> list[str]:
    return sorted(path.name for path in (deployment.output.parent / "clips").iterdir())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50, help="deaths, of all rounds together")
    parser.add_argument("--a-round", type=int, default=6, help="deaths in one round, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shards", type=int, default=3, help="in each round")
    parser.add_argument("--clips", type=int, default=2, help="of each shard")
    parser.add_argument("--keep", type=Path, help="a folder that is made, and left with all logs in it")
    options = parser.parse_args()
    began, found, number = time.monotonic(), 0, 0
    with tempfile.TemporaryDirectory(prefix="cluster-") as work, S3Server() as server:
        folder = options.keep or Path(work)
        folder.mkdir(exist_ok=True)
        put_clips(server, folder / "clips", 0, options.shards, options.clips)
        deployment = Deployment(folder, server, folder / "clips", workers=2)
        with deployment.running():
            deaths = Deaths(deployment, options.seed)
            while deaths.counts.total() < options.count:
                shards = put_clips(server, folder / "clips", number, options.shards, options.clips)
                print(f"round {number}", flush=True)
                most = min(options.a_round, options.count - deaths.counts.total())
                for fault in play(deployment, deaths, shards, most):
                    found += 1
                    print(f"  FOUND {fault}", flush=True)
                number += 1
            wanted = undisturbed(deployment, folder)
            differs = differences(wanted, contents(server, "out", shards_in(deployment)))
            found += len(differs)
            print(*(f"FOUND {line}" for line in differs), f"{len(wanted)} things compared", sep="\n")
            died = ", ".join(f"{count} {kind}" for kind, count in sorted(deaths.counts.items()))
    took = f"in {number} rounds and {time.monotonic() - began:.0f} s"
    print(f"{deaths.counts.total()} deaths ({died}) {took}: {found} found")
    sys.exit(found > 0)


if __name__ == "__main__":
    main()
