"""Figures of confidence, against what is known of marks that were made to have them."""

import math

import numpy as np
import pytest

from caption_assets.quality.calibration import auroc, auroc_interval, kendall_tau, reliability, threshold


def test_the_area_is_the_share_of_pairs_in_the_right_order():
    rng = np.random.default_rng(1)
    scores, right = rng.integers(0, 12, 200) / 3, rng.random(200) < 0.6
    pairs = [(good > bad) + (good == bad) / 2 for good in scores[right] for bad in scores[~right]]
    assert auroc(scores, right) == pytest.approx(np.mean(pairs))
    assert auroc([1, 2, 3], [False, True, True]) == 1.0
    assert auroc([1, 1], [False, True]) == 0.5
    assert math.isnan(auroc([1, 2], [True, True]))


def test_the_interval_covers_the_true_area_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    true, covered = 0.76025, 0  # of normal scores that lie one deviation apart
    for _ in range(300):
        right = np.arange(120) < 70
        low, high = auroc_interval(rng.normal(0, 1, 120) + right, right)
        covered += low < true < high
    assert 0.91 <= covered / 300 <= 0.99
    assert auroc_interval([1, 2], [False, True]) == (pytest.approx(0.207, abs=1e-3), 1.0)  # two texts tell nothing
    low, high = auroc_interval([*range(60)], [k >= 14 for k in range(60)])
    assert 0.9 < low < 0.92
    assert high == 1.0


def test_bins_hold_all_texts_once_and_equal_scores_together():
    scores, right = [0.0] * 30 + [1.0, 2.0, 3.0], [k % 3 == 0 for k in range(30)] + [True] * 3
    first, *others = reliability(scores, right, bins=10)
    assert (first.lowest, first.highest, first.count, first.right) == (0.0, 0.0, 30, 10)
    assert sum(part.count for part in others) == 3
    assert first.low < first.share < first.high
    rng = np.random.default_rng(3)
    values = rng.random(1000)
    parts = reliability(values, rng.random(1000) < values)
    assert [part.count for part in parts] == [100] * 10
    # The share of right ones is the score, by how they were made.
    for part in parts:
        assert part.low - 0.05 < (part.lowest + part.highest) / 2 < part.high + 0.05


def test_the_threshold_keeps_the_most_texts_that_are_right_as_often_as_asked():
    scores, right = [5, 4, 3, 2, 1], [True, True, False, True, False]
    found = threshold(scores, right, 0.75)
    assert (found.score, found.kept, found.right, found.precision) == (2, 4, 3, 0.75)
    assert threshold(scores, right, 1.0).kept == 2
    assert threshold(scores, [False, *right[1:]], 0.9) is None
    assert threshold([1, 1, 1, 0], [True, True, False, True], 0.9) is None  # equal scores stay together
    low, high = found.interval
    assert low < 0.75 < high


def test_tau_is_the_share_of_pairs_that_are_in_the_same_order_less_that_of_the_others():
    assert kendall_tau([1, 2, 3, 4], [10, 20, 30, 40]) == 1.0
    assert kendall_tau([1, 2, 3, 4], [4, 3, 2, 1]) == -1.0
    assert kendall_tau([1, 2, 3], [1, 3, 2]) == pytest.approx(1 / 3)
    assert kendall_tau([1, 2, 2], [1, 2, 3]) == pytest.approx(2 / math.sqrt(6))  # tau-b, by hand
    assert math.isnan(kendall_tau([1, 1], [1, 2]))
