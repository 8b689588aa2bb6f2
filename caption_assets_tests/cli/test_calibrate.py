"""`caption-assets calibrate`, on marks whose truth is known."""

import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caption_assets.cli import main
from caption_assets.store.store import Store
from caption_assets.store.tables import CLIP_WINDOWS, ENHANCED_CAPTIONS, SHARD_REVIEW, WINDOW_CAPTIONS
from caption_assets_tests.rows import caption, enhanced, verdict, window

COUNT = 200


@pytest.fixture
def store(tmp_path):
    """Captions of a shard, of which the first 120 have higher means than the others, all but one."""
    store, rng = Store(tmp_path / "out"), np.random.default_rng(4)
    windows = [window(f"clip-{k:03d}", relative_path=f"a/{k}.mp4") for k in range(COUNT)]
    means = [*rng.uniform(-0.1, -0.01, 119), -0.9, *rng.uniform(-0.8, -0.2, 80)]
    noise = rng.uniform(-3, -1, COUNT)
    rows = [
        caption(row, f"A bike. {k}", mean_logprob=means[k], min_logprob=noise[k], low_logprob=noise[k])
        for k, row in enumerate(windows)
    ]
    store.commit_rows(CLIP_WINDOWS, "a", windows)
    store.commit_rows(WINDOW_CAPTIONS, "a", rows, "qwen")
    return store


@pytest.fixture
def calibrate(store, monkeypatch, capsys):
    def call(*arguments, key="qwen"):
        command = ["caption-assets", "calibrate", *map(str, arguments), "--output-path", store.url(), "--key", key]
        monkeypatch.setattr(sys, "argv", command)
        status = 0
        try:
            main()
        except SystemExit as stop:
            status = stop.code or 0
        out = capsys.readouterr()
        return status, out.out, out.err

    return call


def marks(path, head, lines):
    path.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8-sig")
    return path


def test_marks_with_a_known_truth_give_its_figures(calibrate, tmp_path):
    lines = [f"clip-{k:03d},0,{'right' if k < 120 else 'wrong'}" for k in range(COUNT)]
    status, out, _ = calibrate(marks(tmp_path / "marks.csv", "clip_id,start_frame,right", lines), "--precision", "0.99")
    assert status == 0
    assert "200 marks of qwen: 120 right and 80 wrong texts\n" in out
    # One right caption is below all 80 wrong ones: 119 of 120 pairs are in order. The others are noise.
    assert "mean_logprob    0.992" in out
    area = float(out.partition("min_logprob ")[2].split()[0])
    assert 0.4 < area < 0.6
    table = [line.split() for line in out.splitlines() if " to -" in line]
    assert [int(row[3]) for row in table] == [20] * 10
    assert [row[4] for row in table] == ["5%", "0%", "0%", "0%", "95%", *["100%"] * 5]
    # The best of the wrong ones costs no more than that: 119 of 120.
    assert "99.2% are right" in out
    assert "120 of 200 texts." in out
    limit = float(out.split("--finding-least-confidence ")[1])
    assert -0.25 < limit <= -0.2
    assert "119 of 200 texts." in calibrate(tmp_path / "marks.csv", "--precision", "1")[1]


def test_marks_may_be_parquet_by_path_and_of_one_text(calibrate, tmp_path):
    table = {
        "clip": [f"a/{k}.mp4" for k in range(COUNT)] + ["a/0.mp4", "elsewhere.mp4"],
        "start_frame": [0] * (COUNT + 2),
        "verdict": ["right" if k < 120 else "edited" for k in range(COUNT)] + ["wrong", "right"],
        "text": [f"A bike. {k}" for k in range(COUNT - 1)] + ["Another.", "A bike. 0", None],
        "key": ["qwen"] * (COUNT + 2),
    }
    table["verdict"][5], table["key"][6] = "withdrawn", "other"
    pq.write_table(pa.table(table), tmp_path / "marks.parquet")
    status, out, _ = calibrate(tmp_path / "marks.parquet", "--score", "min_logprob")
    assert status == 0
    # Of 202 rows one has no mark and one is of another key; of the rest one is disputed, one of another text.
    assert "200 marks of qwen: 117 right and 79 wrong texts; left out: " in out
    assert "1 of no window here" in out
    assert "1 of another text" in out
    assert "1 disputed" in out
    assert "No min_logprob is high enough" in out or "From min_logprob" in out


def test_verdicts_of_the_review_count_where_no_table_is_given(calibrate, store):
    rows = store.read_rows(WINDOW_CAPTIONS, "a", "qwen")
    said = [verdict(row, "right" if k < 120 else "edited", at=f"{k:04d}", edited="B.") for k, row in enumerate(rows)]
    said += [verdict(rows[0], "wrong", reviewer="bob", at="9")]  # the two do not agree
    store.put_part(SHARD_REVIEW, "a", said)
    status, out, _ = calibrate()
    assert status == 0
    assert "199 marks of qwen: 119 right and 80 wrong texts\n" in out
    assert "mean_logprob    0.992" in out


def test_enhanced_captions_have_their_own_key(calibrate, store, tmp_path):
    rows = store.read_rows(WINDOW_CAPTIONS, "a", "qwen")
    longer = [
        replace(enhanced(row), mean_logprob=-0.1 - k, min_logprob=-1, low_logprob=-1) for k, row in enumerate(rows)
    ]
    store.commit_rows(ENHANCED_CAPTIONS, "a", longer, "qwen/qwen_lm")
    file = marks(tmp_path / "m.csv", "clip_id;start_frame;right", ["clip-000;0;1", "clip-001;0;0"])
    status, out, _ = calibrate(file, key="qwen/qwen_lm")
    assert status == 0
    assert "With fewer than 30 of either" in out
    assert "mean_logprob    1.000  0.207 to 1.000" in out


@pytest.mark.parametrize(
    ("head", "lines", "wrong"),
    [
        (
            "clip_id,right",
            ["clip-000,1"],
            "no column is called start_frame. Give columns clip_id, start_frame and right",
        ),
        ("clip_id,start_frame,right", ["clip-000,0,perhaps"], "row 1 has the mark 'perhaps'"),
        ("clip_id,start_frame,right", ["clip-000,first,1"], "row 1 has the start_frame 'first'"),
        ("clip_id,start_frame,right", [], "there is none"),
        ("clip_id,start_frame,right", ["clip-000,0,1", "clip-001,0,1"], "all are right"),
        ("clip_id,start_frame,right", ["nowhere,0,1"], "none is left: 1 of no window here"),
        ("clip_id,start_frame,right", ["clip-000,0,1", "clip-000,0,0", "clip-001,0,"], "1 disputed, 1 rows without"),
    ],
)
def test_marks_that_cannot_be_used_are_one_clear_error(calibrate, tmp_path, head, lines, wrong):
    status, _, err = calibrate(marks(tmp_path / "marks.csv", head, lines))
    assert status == 2
    assert wrong in err


def test_a_file_that_is_no_table_and_a_key_without_captions_are_told(calibrate, tmp_path):
    (tmp_path / "marks.parquet").write_text("no")
    assert "they cannot be read" in calibrate(tmp_path / "marks.parquet")[2]
    file = marks(tmp_path / "m.csv", "clip_id,start_frame,right", ["clip-000,0,1", "clip-001,0,0"])
    status, _, err = calibrate(file, key="nobody")
    assert status == 2
    assert "no shard has texts of this key. Choose: " in err
