"""Times of frames that are known to be in order, made of times that need not make sense."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from caption_assets.media.times import ascending_times, clock_restarts


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


def clock(start: int, stop: int) -> list[int | None]:
    return [40 * k for k in range(start, stop)]


DAMAGED = 10**8


@pytest.mark.parametrize(
    ("times", "restarts", "expected"),
    [
        (clock(0, 30) + clock(0, 60), [30], clock(0, 90)),
        (clock(0, 240) + clock(1, 361), [240], clock(0, 600)),
        (clock(0, 240) + clock(100, 300), [240], clock(0, 440)),  # to the middle of what came before
        (clock(100, 340) + clock(0, 300), [240], clock(100, 640)),
        (clock(0, 570) + clock(0, 30), [570], clock(0, 600)),  # late, early: few frames on one side
        (clock(0, 30) + clock(0, 570), [30], clock(0, 600)),
        (clock(0, 50) * 4, [50, 100, 150], clock(0, 200)),
        (clock(0, 50) + clock(0, 50) + clock(80, 130), [50], clock(0, 100) + clock(130, 180)),  # and a pause
        (clock(0, 50) + clock(900, 950) + clock(0, 50), [100], clock(0, 50) + clock(900, 1000)),
        (clock(0, 50) + clock(0, 3) + [DAMAGED] + clock(4, 50), [50], clock(0, 100)),
        ([*clock(0, 45), DAMAGED, *clock(46, 50), 0, None, *clock(2, 50)], [50], clock(0, 100)),
    ],
)
def test_where_a_clock_starts_anew_the_rest_goes_on_after_what_came_before(
    times: Sequence[int | None], restarts: Sequence[int], expected: Sequence[int]
) -> None:
    assert clock_restarts(times) == restarts
    assert ascending_times(times, 33) == expected


@pytest.mark.parametrize(
    "times",
    [
        clock(0, 200),
        clock(0, 50) + clock(90_000, 90_050),  # a pause of an hour
        [*clock(0, 50), DAMAGED, *clock(51, 200)],
        [*clock(0, 50), 0, *clock(51, 200)],
        clock(0, 50) + [DAMAGED + 40 * k for k in range(20)] + clock(70, 200),  # a damaged stretch
        clock(100, 150) + clock(0, 20) + clock(170, 200),
        [k for at in range(0, 200, 17) for k in clock(at + 16, at + 17) + clock(at, at + 16)],  # reordered
        [7] * 100,
        [None] * 100,
        list(range(4000, 0, -40)),
        [],
    ],
)
def test_damaged_and_reordered_times_and_pauses_are_no_clock_that_starts_anew(times: Sequence[int | None]) -> None:
    assert clock_restarts(times) == []
