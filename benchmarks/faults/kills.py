"""Runs that are killed or stopped at random moments: nothing finished is lost, nothing is there twice, none hangs.

    python -m benchmarks.faults.kills [--count 200] [--seed 0] [--stop] [--engine ENGINE]

`caption-assets run` makes all four assets of the demo's clips, in a process group of its own, with the project's
dagster.yaml. SIGKILL goes to the group at a moment drawn from the whole time that a run takes, engine start and imports
included; then the next run goes on in the same output. Once a run has ended by itself, the output must be what an
undisturbed run makes, and the next trial begins with an empty one. With --stop the signal is SIGINT or SIGTERM, to the
group or to the process alone, and the command must end within seconds, with 130 or 143. Needs Linux.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median

from benchmarks.faults.outputs import Output, faults_of, read_output
from caption_assets.demo.clips import demo_scenes, render_dataset
from caption_assets_tests.processes import at_work, hear_signals

PROJECT = Path(__file__).parents[2]
HANG_SECONDS = 600.0
_STOP_SECONDS, _TIDY_SECONDS = 30.0, 10.0
_STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}


class Trials:
    """The demo's clips as a dataset, a Dagster instance, and the runs over them."""

    def __init__(self, work: Path, engine: str = "auto") -> None:
        self.work, self._engine = work, engine
        scenes = demo_scenes()
        self.shards = list(scenes)
        render_dataset(work / "clips", scenes)
        shutil.copy(PROJECT / "dagster.yaml", work)

    def start(self, out: Path, *flags: str, dataset: str = "clips") -> subprocess.Popen[bytes]:
        """A command in a process group of its own; what all print is in one log."""
        models = ["--captioning-algorithm", "demo", "--enhance-captions-algorithm", "demo_lm", "--engine", self._engine]
        call = [sys.executable, "-m", "caption_assets", "run", "--dataset", dataset, "--output-path", str(out)]
        path = os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), str(PROJECT)])
        environment = {**os.environ, "DAGSTER_HOME": str(self.work), "HF_HUB_OFFLINE": "1", "PYTHONPATH": path}
        with (self.work / "log").open("ab") as log:
            return subprocess.Popen(
                [*call, "--device", "cpu", "--store-window-mp4", *models, *flags],
                cwd=self.work,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=hear_signals,
            )

    def said(self) -> str:
        return (self.work / "log").read_text(errors="replace").strip()[-2000:]


def group_left(group: int) -> list[str]:
    """Commands of the processes of a group that still work, after a moment to end in."""
    until = time.monotonic() + 10
    while True:
        listed = subprocess.run(["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True, check=True).stdout
        rows = [line.split(None, 2) for line in listed.splitlines()]
        left = [row[-1][:120] for row in rows if row[0] == str(group) and "Z" not in row[1]]
        if not left or time.monotonic() > until:
            return left
        time.sleep(0.2)


def campaign(count: int, seed: int, *, stop: bool = False, engine: str = "auto") -> tuple[Counter[str], list[float]]:
    """What became of so many signals, where what begins with FOUND is a fault, and the seconds that stopping took."""
    chosen, outcomes, took, sent = random.Random(seed), Counter[str](), [], 0
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        trials = Trials(Path(folder), engine)
        whole_s, wanted = undisturbed(trials)
        out, before = trials.work / "out", Output({}, {})
        while sent < count:
            run = trials.start(out)
            number = chosen.choice(list(_STATUS)) if stop else signal.SIGKILL
            group = not stop or chosen.random() < 0.5
            try:
                run.wait(chosen.uniform(0.2, 1.1 * whole_s))
                faults = _ended(run.returncode, (0,))
            except subprocess.TimeoutExpired:
                sent += 1
                (os.killpg if group else os.kill)(run.pid, number)
                began = time.monotonic()
                faults = _await(run, number)
                took += [time.monotonic() - began] if stop else []
            faults += _left(run)
            now, finished = read_output(out, trials.shards), run.returncode == 0
            lost = [key for key, row in before.rows.items() if row["status"] == "ok" and key not in now.rows]
            faults += [f"{key} is lost" for key in lost] + faults_of(out, trials.shards, wanted if finished else None)
            for fault in faults:
                outcomes[f"FOUND {fault} (signal {sent}): {trials.said()}"] += 1
            outcomes["ended by itself, as undisturbed" if finished else f"signalled {_with(len(now.rows))} rows"] += 1
            if not sent % 10:
                print(f"{sent} of {count} signals: {dict(outcomes)}", file=sys.stderr, flush=True)
            before = now
            if finished:
                shutil.rmtree(out)
                before = Output({}, {})
    return outcomes, took


def undisturbed(trials: Trials) -> tuple[float, Output]:
    """The seconds that a run takes which nothing disturbs, and what it makes."""
    began, out = time.monotonic(), trials.work / "wanted"
    if trials.start(out).wait(HANG_SECONDS):
        raise RuntimeError(f"an undisturbed run fails: {trials.said()}")
    return time.monotonic() - began, read_output(out, trials.shards)


def _await(run: subprocess.Popen[bytes], number: signal.Signals) -> list[str]:
    """What is wrong with how a command ends that has had a signal."""
    began = time.monotonic()
    try:
        run.wait(HANG_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        return [f"it goes on after {number.name}"]
    if number is signal.SIGKILL:
        return []
    seconds = time.monotonic() - began
    # It may have been at its very end, or at its very beginning, where Python itself acts on the signal.
    faults = _ended(run.returncode, (_STATUS[number], 0, -number))
    return faults + ([f"{number.name} took {seconds:.0f} s"] if seconds > _STOP_SECONDS else [])


def _ended(status: int, good: tuple[int, ...]) -> list[str]:
    return [] if status in good else [f"a command ends with {status}"]


def _left(run: subprocess.Popen[bytes]) -> list[str]:
    """Processes of a command that has ended, and that still work after a moment."""
    until = time.monotonic() + _TIDY_SECONDS
    while left := at_work(run.pid):
        if time.monotonic() > until:
            os.killpg(run.pid, signal.SIGKILL)
            return [f"{process} is left" for process in left]
        time.sleep(0.2)
    return []


def _with(rows: int) -> str:
    return "with no" if not rows else "with under 30" if rows < 30 else "with 30 and more"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stop", action="store_true", help="SIGINT and SIGTERM instead of SIGKILL")
    parser.add_argument("--engine", default="auto", help="the engine of both models' variants (default: auto)")
    options = parser.parse_args()
    outcomes, took = campaign(options.count, options.seed, stop=options.stop, engine=options.engine)
    for outcome, number in outcomes.most_common():
        print(f"{number:5d}  {outcome}")
    if took:
        print(f"{len(took)} stops took {median(took):.1f} s ({min(took):.1f} to {max(took):.1f})")
    sys.exit(any(outcome.startswith("FOUND") for outcome in outcomes))


if __name__ == "__main__":
    main()
