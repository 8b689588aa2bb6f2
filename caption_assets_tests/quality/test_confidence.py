"""Confidence tells right captions from wrong ones: the benchmark of it, on few scenes."""

import json
import subprocess
import sys

import pytest

SCORES = ("mean_logprob", "min_logprob", "low_logprob")


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    out = tmp_path_factory.mktemp("confidence") / "scores.json"
    command = [sys.executable, "-m", "benchmarks.confidence", "--scenes", "16", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(out.read_text())["figures"]


def test_one_wrong_fact_makes_a_caption_less_likely_and_words_alone_do_not_know(figures):
    planted = figures["planted, video"]
    assert set(planted) == {
        *("all", "colour (16)", "shape (16)", "motion (16)", "background (16)", "order (8)"),
    }
    for kind in planted.values():
        assert all(kind[score][0] >= 0.95 for score in SCORES)
    assert all(figures["planted, language"]["all"][score][0] < 0.8 for score in SCORES)


def test_the_models_own_errors_are_less_sure(figures):
    hard = figures["hard"]
    assert min(hard["right"], hard["wrong"]) >= 3
    assert max(hard["video"][score][0] for score in SCORES) >= 0.9
    assert figures["furthest from the engine's own scores"] < 1e-3


def test_a_caption_is_less_likely_with_another_video(figures):
    assert {kind.partition(" ")[0] for kind in figures["falls"]} == {"colours", "reversed", "another"}
    for kind in figures["falls"].values():
        assert kind["mean_logprob"]["falls"] == 1.0
        own, other = kind["mean_logprob"]["median"]
        assert other < own - 0.5
