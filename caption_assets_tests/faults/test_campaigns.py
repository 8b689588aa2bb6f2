"""Short runs of the campaigns of `benchmarks/faults`, which end with status 1 where they find something."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "campaign",
    [
        ("crashes", "--every", "511", "--seed", "361"),
        ("documents", "--count", "200", "--seed", "3"),
        ("servers", "--count", "5", "--seed", "11", "--shards", "1"),
        ("objects", "--count", "1", "--clips", "1", "--rate", "0.1", "--seed", "3"),
    ],
    ids=lambda campaign: campaign[0],
)
def test_nothing_is_found(campaign):
    name, *options = campaign
    command = [sys.executable, "-m", f"benchmarks.faults.{name}", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
