"""`caption-assets export`, as users run it."""

import json
import shutil
import sys

import pandas as pd
import pytest
from click.testing import CliRunner

from caption_assets.cli import main
from caption_assets.cli.app import cli
from caption_assets.exports.formats import FORMATS
from caption_assets_tests.exports.conftest import captioned, out  # noqa: F401


@pytest.fixture
def export(out, tmp_path, monkeypatch, capsys):  # noqa: F811
    """Calls the command's entry point on the test's output; returns its status and what it printed."""
    monkeypatch.setenv("COLUMNS", "160")

    def call(*arguments):
        given = ["caption-assets", "export", *map(str, arguments), "--output-path", str(tmp_path / "out")]
        monkeypatch.setattr(sys, "argv", given)
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code, *capsys.readouterr()

    return call


def test_a_first_export_a_second_and_what_stays(export, tmp_path):
    status, said, _ = export("diffsynth", "--workers", 1)
    assert status == 0
    where = tmp_path / "out" / "exports" / "diffsynth" / "qwen"
    assert said.splitlines() == [f"6 samples in {where}", "files: 8 written, 0 unchanged, 0 removed"]
    assert len(pd.read_csv(where / "metadata.csv")) == 6
    status, said, _ = export("diffsynth", "--max-characters", 40, "--workers", 1)
    assert status == 0
    assert said.splitlines() == [
        f"3 samples in {where}",
        "files: 2 written, 3 unchanged, 3 removed",
        "left out 3: the text is too long",
    ]


def test_splits_and_a_shard_of_its_own(export, tmp_path):
    to = tmp_path / "x"
    status, said, _ = export(
        "jsonl", "--to", to, "--shard", "b", "--videos", "links", "--validation", 0.5, "--test", 0.49
    )
    assert status == 0
    split = said.split("(")[1].split()[0]
    row = json.loads((to / split / "metadata.jsonl").read_text())
    assert row["shard"] == "b"


def test_clips_that_are_in_two_shards_are_told(export, tmp_path):
    for table in ("clip_windows", "window_captions/qwen"):
        folder = tmp_path / "out" / "tables" / table
        shutil.copy(folder / "a.parquet", folder / "c.parquet")
    status, said, _ = export("jsonl", "--videos", "links")
    assert (status, "3 clips are in shard a and in c, and go out twice: prune takes" in said) == (0, True)


def test_wrong_usage_is_one_line_and_nothing_is_made(export, tmp_path):
    for arguments, said in (
        (("txt", "--key", "qwen9"), "there are none of that key. Choose: qwen."),
        (("webdataset", "--videos", "links"), "the format cannot have them. Choose windows or clips."),
        (("txt", "--shard", "c"), "it has no windows. There are: a, b."),
        (("txt", "--validation", 0.5, "--test", 0.5), "nothing to train on."),
        (("lance",), "'lance' is not one of"),
    ):
        status, printed, error = export(*arguments)
        assert (status, printed, error.count("\n")) == (2, "", 1), error
        assert said in error
    assert not (tmp_path / "out" / "exports").exists()


def test_nothing_to_export_is_no_success(export):
    status, said, _ = export("jsonl", "--min-characters", 1000)
    assert status == 1
    assert said.startswith("0 samples in ")


def test_the_help_names_every_format():
    said = CliRunner().invoke(cli, ["export", "--help"]).output
    assert all(name in said for name in FORMATS)
