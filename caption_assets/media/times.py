"""Times of frames that come in the order in which they are shown, whatever the file says of them. Arithmetic only."""

import itertools
import statistics
from bisect import bisect_left
from collections.abc import Sequence

MOST_REORDERED = 16
"""Frames that a decoder holds back to bring them into order, at most (H.264 and HEVC)."""
# Where so many times ascend, the others are faults; fewer do where frames are reordered.
_NEARLY_ALL = 0.9
# So many frames on both sides tell a clock that restarts from times that are damaged.
_SURE = 8


def clock_restarts(times: Sequence[int | None]) -> list[int]:
    """Places at which the clock of `times` starts anew, as in files that were joined byte by byte: times jump back, and
    ascend from there for a while below those that came before. Times that are reordered do not, nor do damaged ones,
    beside which the clock goes on.
    """
    places = [place for place, t in enumerate(times) if t is not None]
    known = [t for t in times if t is not None]
    step = _usual_step(known)
    restarts: list[int] = []
    start = 0
    for k in range(_SURE, len(known) - _SURE + 1):
        if known[k] >= known[k - 1]:
            continue
        # One of the times on each side may be damaged.
        following = known[k : k + _SURE]
        if sorted(following)[-2] >= statistics.median(known[k - _SURE : k]):
            continue
        if len(_longest_ascending(following)) < _SURE - 1:
            continue
        if not _goes_on(known, start, k, step):
            restarts.append(places[k])
            start = k
    return restarts


def _goes_on(known: Sequence[int], start: int, k: int, step: int) -> bool:
    """Whether the clock that began at `start` goes on as if there were no jump back at `k`: frames before it, or from
    it on, are then a damaged stretch."""

    def lie_apart(before: int, after: int) -> bool:
        frames = after - before
        return 2 / 3 <= (known[after] - known[before]) / (frames * step) <= 3 / 2

    before = next((j for j in range(k - 1, start - 1, -1) if known[j] < known[k]), None)
    after = next((j for j in range(k + 1, len(known)) if known[j] > known[k - 1] or known[j] < known[j - 1]), None)
    return (before is not None and lie_apart(before, k)) or (after is not None and lie_apart(k - 1, after))


def ascending_times(times: Sequence[int | None], step: int) -> list[int]:
    """One time for each frame, ascending, in the ticks of `times`; `step` is a frame's length where nothing tells.

    Where the clock restarts, the rest goes on a frame's usual length after what came before.
    """
    bounds = [0, *clock_restarts(times), len(times)]
    usual = _usual_step([t for t in times if t is not None])
    joined: list[int] = []
    for start, end in itertools.pairwise(bounds):
        part = _of_one_clock(times[start:end], step)
        later = joined[-1] + usual - part[0] if joined else 0
        joined += [t + later for t in part]
    return joined


def _usual_step(times: Sequence[int]) -> int:
    """The distance of most neighbours that ascend, at least 1."""
    return round(statistics.median([b - a for a, b in itertools.pairwise(times) if a < b] or [1]))


def _of_one_clock(times: Sequence[int | None], step: int) -> list[int]:
    """Times that ascend stay. Where they are those of the frames, given to the wrong ones (muxers that write the time
    of decoding for that of showing), they are put in order. Where most ascend, the others are spread evenly between
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
