"""An object store that fails: whole runs over S3 whose connections break, whose answers are errors, cut off or late.

    python -m benchmarks.faults.objects [--count 5] [--seed 0] [--rate 0.03] [--clips 6]

Each trial puts two shards of the demo's clips into a bucket and runs `caption-assets run` with the embedded models
over it, writing into the same bucket, while requests fail at random: connections are reset, answers are 500 or 503
SlowDown, cut off in the middle, or half a second late. A run may end with shards that failed, for a reason that it
says. Then the store is well again, and one more run must complete everything: what is in the bucket is compared with
what a run over a good store leaves.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain, islice
from pathlib import Path

from s3fs import S3FileSystem
from upath import UPath

from caption_assets.demo.clips import demo_scenes, render_dataset
from caption_assets.store import TABLES, Store
from caption_assets_tests.commands import start_command
from caption_assets_tests.s3 import Fault, S3Server

FAULTS: tuple[Fault, ...] = ("reset", "500", "503", "truncated", "slow")
_SHORT = ("--captioning-max-output-tokens", "8", "--enhance-captions-max-output-tokens", "8")
_SMALL = ("--preview-target-height", "32", "--preview-compression-level", "1")
# Rows and documents say when and how; they are compared without that, and without the bucket's name.
_VARIES = ("seconds", "decode_s", "render_s", "wait_s", "prefill_s", "generate_s", "stamp", "fingerprint")
_RUN_S, _HUNG = 1800, 124


def failing(seed: str, rate: float, counts: Counter[str]) -> Callable[[str, str], Fault | None]:
    """Fails requests at random, and counts how."""
    chosen = random.Random(seed)

    def fault(method: str, path: str) -> Fault | None:
        if chosen.random() >= rate:
            return None
        kind = chosen.choice(FAULTS)
        counts[kind] += 1
        return kind

    return fault


def render_clips(folder: Path, clips: int) -> None:
    """Two shards with so many clips of the demo together."""
    scenes = list(islice(chain.from_iterable(demo_scenes().values()), clips))
    render_dataset(folder, {"a": scenes[::2], "b": scenes[1::2]})


def put_clips(server: S3Server, folder: Path) -> None:
    for path in sorted(folder.rglob("*.mp4")):
        server.put(f"in/{path.relative_to(folder).as_posix()}", path.read_bytes())


def run(server: S3Server, home: Path) -> tuple[int, str]:
    """One run of the command in a process of its own; its exit status and what it said."""
    home.mkdir(exist_ok=True)
    (home / "dagster.yaml").touch()
    root = f"s3://{server.bucket}"
    command = ["run", "--dataset", f"{root}/in", "--output-path", f"{root}/out"]
    command += ["--captioning-algorithm", "demo", "--device", "cpu", "--workers", "1", *_SHORT, *_SMALL]
    environment = {**os.environ, **server.environment, "DAGSTER_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    log = home / "said"
    process = start_command(command, environment, log)
    process.join(_RUN_S)
    if process.exitcode is None:
        os.killpg(process.pid or 0, signal.SIGKILL)
        return _HUNG, f"it was not done after {_RUN_S} s"
    return process.exitcode, log.read_text()


def contents(server: S3Server, folder: str = "out", shards: Sequence[str] = ("a", "b")) -> dict[str, object]:
    """All that a run has left in a folder, without what differs from run to run."""
    S3FileSystem.clear_instance_cache()
    root = f"{server.bucket}/{folder}/"
    place = UPath(f"s3://{root}", **server.options)
    files, store = place.fs, Store(place)
    found: dict[str, object] = {}
    for path in files.find(root):
        rel = path.removeprefix(root)
        if rel.endswith(".json"):
            found[rel] = json.loads((store.read_bytes(rel) or b"").replace(server.bucket.encode(), b"bucket"))
        elif rel.endswith(".webp"):
            found[rel] = store.read_bytes(rel)
        elif ".parts" in rel:
            found[rel] = "a part that no commit has taken up"
    for table in TABLES.values():
        for shard in shards:
            for key in store.keys(table, shard) if table.keyed else [None]:
                rows = [
                    {name: getattr(row, name) for name in row.__dataclass_fields__}
                    for row in store.read_rows(table, shard, key)
                ]
                text = json.dumps(
                    [{k: v for k, v in row.items() if k not in _VARIES} for row in rows], default=bytes.hex
                )
                found[f"{table} {shard} {key}"] = json.loads(text.replace(server.bucket, "bucket"))
    return found


def differences(wanted: dict[str, object], found: dict[str, object]) -> list[str]:
    return [
        f"{'lost' if name not in found else 'left over' if name not in wanted else 'other'}: {name}"
        for name in sorted(wanted.keys() | found.keys())
        if name not in found or name not in wanted or wanted[name] != found[name]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=0.03, help="of requests that fail")
    parser.add_argument("--clips", type=int, default=6)
    options = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory(prefix="objects-") as work:
        clips = Path(work) / "clips"
        render_clips(clips, options.clips)
        with S3Server() as server:
            put_clips(server, clips)
            status, said = run(server, Path(work) / "home")
            if status != 0:
                raise SystemExit(f"the run over a good store ended with status {status}:\n{said[-3000:]}")
            wanted = contents(server)
        for number in range(options.count):
            began, counts = time.perf_counter(), Counter[str]()
            with S3Server() as server:
                put_clips(server, clips)
                server.asked.clear()
                server.fault = failing(f"{options.seed}.{number}", options.rate, counts)
                status, said = run(server, Path(work) / f"home-{number}")
                requests = server.count()
                server.fault = lambda method, path: None
                left = len(differences(wanted, contents(server)))
                again, said_again = run(server, Path(work) / f"home-{number}")
                wrong = differences(wanted, contents(server))
            found = ["  the run hung"] * (status == _HUNG) + [
                f"  a traceback in {when}"
                for when, text in (("the run", said), ("the next", said_again))
                if "Traceback" in text
            ]
            found += [f"  status {again} of the run over the store that is well again"] * (again != 0)
            found += [f"  {line}" for line in wrong[:10]]
            bad += bool(found)
            failed = ", ".join(f"{kind} {counts[kind]}" for kind in FAULTS)
            print(
                f"{number}: {requests} requests, of which failed: {failed}; status {status}, {left} of {len(wanted)} "
                f"things missing or other; then status {again}, {len(wrong)}; {time.perf_counter() - began:.0f} s",
                *found,
                sep="\n",
                flush=True,
            )
            if found:
                print(said[-2000:], said_again[-2000:], sep="\n---\n")
    print(f"{options.count} trials, {bad} with a finding")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
