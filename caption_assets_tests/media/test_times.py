"""Times of frames that are known to be in order, made of times that need not make sense."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from caption_assets.media.times import ascending_times


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0, 40, 80, 1000], [0, 40, 80, 1000]),  # sound ones stay, whatever their distances
        ([0, 120, 40, 80, 240, 160, 200], [0, 40, 80, 120, 160, 200, 240]),  # the times of other frames
        ([0, 40, 40, 120, 160], [0, 40, 80, 120, 160]),  # one is there twice
        ([0, 40, 40, 63_000, 63_040], [0, 40, 31_520, 63_000, 63_040]),
        ([*range(0, 800, 40), 760, *range(840, 2000, 40)], list(range(0, 2000, 40))),
        ([None, 40, 80, None, 160, None], [0, 40, 80, 120, 160, 200]),  # some are missing
        ([*range(0, 800, 40), 9_999_999, *range(840, 2000, 40)], list(range(0, 2000, 40))),  # one is damaged
        ([7, 7, 7, 7], [7, 47, 87, 127]),  # nonsense: by the rate
        ([None, None, None], [0, 40, 80]),
        ([200, 160, 120, 80, 40, 0] * 3, [40 * k for k in range(18)]),
        ([0, 1, 1, 1, 2], [0, 40, 80, 120, 160]),  # no room between those that could be right
        ([], []),
    ],
)
def test_times_ascend_and_stay_what_they_were_where_that_makes_sense(
    times: Sequence[int | None], expected: Sequence[int]
) -> None:
    assert ascending_times(times, 40) == list(expected)


def test_any_times_at_all_give_one_time_a_frame_that_ascends() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        size = int(rng.integers(1, 40))
        times = [
            None if rng.random() < 0.1 else int(t) for t in rng.integers(-50, int(rng.choice([5, 50, 5000])), size)
        ]
        found = ascending_times(times, int(rng.integers(1, 50)))
        assert len(found) == size
        assert all(a < b for a, b in itertools.pairwise(found)), times
