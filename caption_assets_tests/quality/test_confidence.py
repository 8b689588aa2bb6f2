"""Confidence tells right captions from wrong ones, and rules find what is planted: their benchmark, on few scenes."""

import json
import subprocess
import sys
from typing import get_args

import pytest

from caption_assets.quality import RULES
from caption_assets.settings import FindingRule

SCORES = ("mean_logprob", "min_logprob", "low_logprob")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    out = tmp_path_factory.mktemp("trust") / "trust.json"
    command = [sys.executable, "-m", "benchmarks.trust", "--no-vllm", "--processes", "1", "--out", str(out)]
    done = subprocess.run([*command, "--scenes", "8", "--captions", "300"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def figures(report):
    return report["figures"]["plain"]


def test_all_that_is_to_be_is(report):
    assert report["not_run"].keys() == {"vllm", "skewed"}
    assert {name: figure for name, (figure, holds) in report["holds"].items() if not holds} == {}
    assert len(report["holds"]) == 8


def test_all_planted_defects_are_found_and_true_captions_are_not_accused(report):
    rules = report["figures"]["rules"]
    assert rules["planted"].keys() == set(get_args(FindingRule))
    counts = [tuple(of.values()) for languages in rules["planted"].values() for of in languages.values()]
    assert counts == [(60, 60)] * 3 * len(RULES)
    assert rules["false"]["captions"]["findings"] == {}
    longer = rules["false"]["enhanced texts"]  # the long ones are sometimes the same
    assert sum(longer["findings"].values()) == longer["the same text as another"]


def test_one_wrong_fact_makes_a_caption_less_likely_and_words_alone_do_not_know(figures):
    planted = figures["planted, video"]
    assert set(planted) == {
        *("all", "colour (8)", "shape (8)", "motion (8)", "background (8)", "order (4)"),
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
