"""A few rounds of the campaign against servers that misbehave; `python -m benchmarks.faults.servers` has more."""

import subprocess
import sys


def test_a_server_that_misbehaves_costs_no_window_and_mixes_none_up():
    command = [sys.executable, "-m", "benchmarks.faults.servers", "--count", "5", "--seed", "11", "--shards", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "5 rounds of 5 windows" in done.stdout
    assert "No hang, no caption under another window" in done.stdout
