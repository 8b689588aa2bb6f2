"""Times of frames that come in the order in which they are shown, whatever the file says of them. Arithmetic only."""

import itertools
from bisect import bisect_left
from collections.abc import Sequence

MOST_REORDERED = 16
"""Frames that a decoder holds back to bring them into order, at most (H.264 and HEVC)."""
# Where so many times ascend, the others are faults; fewer do where frames are reordered.
_NEARLY_ALL = 0.9


def ascending_times(times: Sequence[int | None], step: int) -> list[int]:
    """One time for each frame, ascending, in the ticks of `times`; `step` is a frame's length where nothing tells.

    Times that ascend stay. Where they are those of the frames, given to the wrong ones (muxers that write the time of
    decoding for that of showing), they are put in order. Where most ascend, the others are spread evenly between
    those. Else none makes sense: frames then follow each other by `step`.
    """
    known = [t for t in times if t is not None]
    if len(known) == len(times) and ascend(known):
        return known
    trusted = _longest_ascending(times)
    if len(trusted) < _NEARLY_ALL * len(times) and len(known) == len(times):
        order = sorted(range(len(known)), key=known.__getitem__)
        put = [known[k] for k in order]
        if ascend(put) and all(abs(k - place) <= MOST_REORDERED for place, k in enumerate(order)):
            return put
    if len(trusted) * 2 <= len(known):
        start = min(known, default=0)
        return [start + k * step for k in range(len(times))]
    return _filled(times, trusted, step)


def ascend(times: Sequence[int]) -> bool:
    """Whether each time is later than the one before it."""
    return all(a < b for a, b in itertools.pairwise(times))


def _longest_ascending(times: Sequence[int | None]) -> list[int]:
    """Places of the longest ascending run of times that leaves a tick for each frame in between; of equal times, the
    first is taken."""
    ends: list[int] = []  # the least end of a run of each length, seen from the last time on
    last: list[int] = []  # the place of that end
    after: list[int] = [-1] * len(times)
    for place in reversed(range(len(times))):
        time = times[place]
        if time is None:
            continue
        # Values less their places must not rise: then at least one tick lies between two places.
        value = place - time
        length = bisect_left(ends, value + 1)
        after[place] = last[length - 1] if length else -1
        ends[length : length + 1], last[length : length + 1] = [value], [place]
    found, place = [], last[-1] if last else -1
    while place >= 0:
        found.append(place)
        place = after[place]
    return found


def _filled(times: Sequence[int | None], trusted: Sequence[int], step: int) -> list[int]:
    filled = [0] * len(times)
    anchors = [(place, times[place] or 0) for place in trusted]
    first, start = anchors[0]
    for place in range(first + 1):
        filled[place] = start - (first - place) * step
    for (a, at_a), (b, at_b) in itertools.pairwise(anchors):
        for place in range(a, b + 1):
            filled[place] = at_a + (at_b - at_a) * (place - a) // (b - a)
    end, at_end = anchors[-1]
    for place in range(end, len(times)):
        filled[place] = at_end + (place - end) * step
    return filled
