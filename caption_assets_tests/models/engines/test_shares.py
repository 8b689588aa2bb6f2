"""Shares of a run's time, by a clock that is set by hand."""

import pytest

from caption_assets.models.engines.shares import InBatches, SideBySide


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def played(shares, clock, events):
    """Plays `(seconds later, what, request)`; returns the shares by request."""
    taken = {}
    for later, what, name in events:
        clock.now += later
        if what == "enter":
            shares.enter(name)
        else:
            taken[name] = shares.leave(name, 0.0)
    return taken


def test_requests_that_are_in_the_engine_together_share_the_time():
    clock = Clock()
    taken = played(
        SideBySide(clock),
        clock,
        [
            (0, "enter", "a"),
            (0, "enter", "b"),
            (4, "leave", "a"),
            (1, "enter", "c"),
            (2, "leave", "b"),
            (1, "leave", "c"),
        ],
    )
    assert taken == {"a": 2.0, "b": 2.0 + 1.0 + 1.0, "c": 1.0 + 1.0}
    assert sum(taken.values()) == 8.0


def test_time_in_which_an_engine_has_nothing_is_the_next_requests():
    clock = Clock()
    taken = played(
        SideBySide(clock),
        clock,
        [
            (3, "enter", "a"),
            (1, "leave", "a"),
            (5, "enter", "b"),
            (0, "enter", "c"),
            (2, "leave", "c"),
            (1, "leave", "b"),
        ],
    )
    assert taken == {"a": 4.0, "b": 5.0 + 1.0 + 1.0, "c": 1.0}


def test_the_order_of_answers_that_come_together_does_not_count():
    for order in ("abc", "cab"):
        clock = Clock()
        shares = SideBySide(clock)
        for name in "abc":
            shares.enter(name)
        clock.now += 6
        assert [shares.leave(name, 0.0) for name in order] == [2.0, 2.0, 2.0]


def test_a_batch_knows_its_own_time_and_the_wait_for_a_request_is_that_requests():
    clock = Clock()
    shares = InBatches(clock)
    for name, waited in (("a", 3.0), ("b", 0.0)):
        shares.wait()
        clock.now += waited
        shares.enter(name)
    clock.now += 8
    assert [shares.leave("b", 4.0), shares.leave("a", 4.0)] == [4.0, 7.0]


@pytest.mark.parametrize("made", [SideBySide, InBatches])
def test_an_answer_to_nothing_takes_no_share(made):
    assert made().leave("unknown", 0.0) == 0.0
