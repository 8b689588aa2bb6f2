"""Several runs at once over the same shards, with different settings: rows and files agree, whoever was last.

    python -m benchmarks.faults.writers [--count 12] [--seed 0]

Each trial starts two to four commands over the demo's clips and one output, which differ in the size and rate of their
previews, in the length of their windows, or not at all. All must end, each with a status that says what became of it,
and no row may name a file that is not as the row says. A last run, alone, must then make what an undisturbed run makes.
"""

import argparse
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.faults.kills import HANG_SECONDS, Trials, undisturbed
from benchmarks.faults.outputs import faults_of

_PREVIEWS = (["--generate-previews"], ["--generate-previews", "--generate-captions"], [])
_HEIGHTS, _RATES, _WINDOWS = (90, 120, 200), (1.0, 2.0), (48, 256)


def drawn(chosen: random.Random) -> list[str]:
    """Flags of one command."""
    flags = [
        "--preview-target-height",
        str(chosen.choice(_HEIGHTS)),
        "--preview-target-fps",
        str(chosen.choice(_RATES)),
    ]
    if chosen.random() < 0.3:
        flags += ["--captioning-window-size", str(chosen.choice(_WINDOWS))]
    return flags + chosen.choice(_PREVIEWS)


def campaign(count: int, seed: int) -> Counter[str]:
    """What became of so many trials; what begins with FOUND is a fault."""
    chosen, outcomes = random.Random(seed), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="writers-") as folder:
        trials = Trials(Path(folder))
        _, wanted = undisturbed(trials)
        for number in range(count):
            out = trials.work / f"out-{number}"
            runs = [trials.start(out, *drawn(chosen)) for _ in range(chosen.randint(2, 4))]
            for run in runs:
                status = run.wait(HANG_SECONDS)
                outcomes[f"ended with {status}"] += 1
                if status not in (0, 1):
                    outcomes[f"FOUND status {status}: {trials.said()}"] += 1
            for fault in faults_of(out, trials.shards):
                outcomes[f"FOUND after {len(runs)} at once: {fault} (trial {number})"] += 1
            if trials.start(out).wait(HANG_SECONDS):
                outcomes[f"FOUND the last run fails: {trials.said()}"] += 1
            for fault in faults_of(out, trials.shards, wanted):
                outcomes[f"FOUND in the end: {fault} (trial {number})"] += 1
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    outcomes = campaign(options.count, options.seed)
    for outcome, number in outcomes.most_common():
        print(f"{number:5d}  {outcome}")
    sys.exit(any(outcome.startswith("FOUND") for outcome in outcomes))


if __name__ == "__main__":
    main()
