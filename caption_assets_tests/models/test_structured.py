"""The times of a structured caption are those of its window."""

import re

import pytest

from caption_assets.models.schemas import bounded, tightened
from caption_assets.models.structured import STRUCTURED, within


def times_of(seconds):
    """Whether a time fits the schema of a window of so many seconds."""
    schema = within(bounded(dict(STRUCTURED), "structured"), seconds)
    (pattern,) = set(re.findall(r'"pattern":"([^"]*)"', schema))
    assert within(tightened(schema), seconds) == tightened(schema)
    return lambda first, last: bool(re.search(pattern, "-".join(f"{at // 60}:{at % 60:02d}" for at in (first, last))))


@pytest.mark.parametrize(("seconds", "last"), [(0.4, 1), (8.0, 8), (8.54, 9), (27.0, 27), (58.9, 59)])
def test_times_lie_within_the_window_and_none_ends_before_it_begins(seconds, last):
    fits = times_of(seconds)
    for first in range(70):
        for end in range(70):
            assert fits(first, end) == (first <= end <= last), (first, end)


@pytest.mark.parametrize(("seconds", "last"), [(59.5, 60), (75.2, 76), (600.0, 599)])
def test_times_of_longer_windows_lie_within_them(seconds, last):
    fits = times_of(seconds)
    assert fits(0, last)
    assert fits(last, last)
    for late in (last + 1, last + 7, last + 60):
        assert not fits(0, late) or late > 599
        assert not fits(late, last) or late > 599
