"""Confidence tells right captions from wrong ones: the benchmark, on few scenes."""

import numpy as np
import pytest

from benchmarks.confidence import (
    SCORES,
    SEED,
    Reader,
    captioned,
    case,
    falls_part,
    hard_case,
    planted_part,
    sampled_scene,
    summary,
)
from caption_assets.demo.facts import compare, read, write

SCENES = [sampled_scene(SEED + 1, number) for number in range(8)]


@pytest.fixture(scope="module")
def reader():
    return Reader(None)


def test_one_wrong_fact_makes_a_caption_less_likely_and_the_language_alone_does_not_know(reader):
    results = {"planted": planted_part(reader, SCENES), "falls": falls_part(reader, SCENES)}
    figures = summary(results)
    planted = results["planted"]["video"]
    assert {kind: len(rows) for kind, rows in planted.items()} == {
        **dict.fromkeys(("true", "colour", "shape", "motion", "background"), 8),
        "order": 4,
    }
    for score in SCORES:
        assert figures["planted, video"]["all"][score][0] >= 0.95
        assert figures["planted, language"]["all"][score][0] < 0.8
    assert all(kind["mean_logprob"]["falls"] == 1.0 for kind in figures["falls"].values())
    assert {kind.partition(" ")[0] for kind in figures["falls"]} == {"colours", "reversed", "another"}


def test_the_models_own_errors_are_less_sure_and_a_text_is_scored_as_it_was_written(reader):
    cases = [hard_case(number, scene, SEED + 1) for number, scene in enumerate(SCENES * 2)]
    cases += [case(f"clear-{number}", scene) for number, scene in enumerate(SCENES[:4])]
    found = captioned(cases, None)
    right = [row["right"] for row in found.values()]
    assert 4 <= sum(right) <= len(cases) - 4
    assert summary({"hard": found})["hard"]["video"]["mean_logprob"][0] >= 0.9
    for made in cases[:3]:
        (again,) = reader.scores(made, [found[made.name]["text"]])
        for score in SCORES:
            assert getattr(again, score) == pytest.approx(found[made.name][score], abs=1e-3)


def test_planted_facts_are_wrong_in_one_thing_only():
    from benchmarks.confidence import backwards, planted

    rng = np.random.default_rng(1)
    for number in range(40):
        facts = sampled_scene(SEED, number).facts()
        for kind, text in planted(facts, rng):
            same = compare(read(text), facts)
            assert not same["all"]
            assert not same[kind], (kind, text)
            others = {"colour", "shape", "motion", "background"} - {kind}
            # Of two things that act in turn, the order is all that tells them apart by what they do.
            assert all(same[name] for name in others) or kind == "order", (kind, text, write(facts))
        assert backwards(backwards(facts)) == facts
