"""Short runs of the campaigns of `benchmarks/faults`, which end with status 1 where they find something."""

import importlib
import os
import sys

import pytest

from caption_assets_tests.commands import start_main


@pytest.mark.parametrize(
    "campaign",
    [
        ("documents", "--count", "200", "--seed", "3"),
        ("servers", "--count", "5", "--seed", "11", "--shards", "1"),
        ("objects", "--count", "1", "--clips", "1", "--rate", "0.1", "--seed", "3"),
    ],
    ids=lambda campaign: campaign[0],
)
def test_nothing_is_found(campaign, monkeypatch, capfd):
    name, *options = campaign
    monkeypatch.setattr(sys, "argv", [name, *options])
    status = None
    try:
        importlib.import_module(f"benchmarks.faults.{name}").main()
    except SystemExit as ended:
        status = ended.code
    assert not status, capfd.readouterr()


def test_a_crash_at_any_change_of_a_file_loses_nothing(tmp_path):
    """In a process of its own, as each of its runs is a fork of it."""
    log = tmp_path / "said"
    process = start_main("benchmarks.faults.crashes", ("--every", "511", "--seed", "361"), os.environ, log)
    process.join()
    assert process.exitcode == 0, log.read_text()[-5000:]
