"""Calls in a thread that can be left behind."""

import threading

import pytest

from caption_assets.models.engines.watched import StuckError, Watched

HANG_S = 120.0


def test_a_call_gives_what_it_returns_or_raises():
    watched = Watched(HANG_S)
    assert [watched.call(lambda k=k: k + 1) for k in range(3)] == [1, 2, 3]
    with pytest.raises(LookupError, match="not here"):
        watched.call(lambda: (_ for _ in ()).throw(LookupError("not here")))
    assert watched.call(lambda: threading.current_thread().name) == "model"


def test_work_that_is_left_behind_ends_at_its_next_sign():
    watched, resumed, ended = Watched(0.2), threading.Event(), threading.Event()

    def work():
        try:
            resumed.wait(HANG_S)
            while True:
                watched.beat()
        finally:
            ended.set()

    with pytest.raises(StuckError):
        watched.call(work)
    assert not ended.is_set()
    resumed.set()
    assert ended.wait(HANG_S)


def test_a_call_that_shows_signs_of_work_takes_as_long_as_it_takes():
    watched, beats = Watched(5.0), threading.Event()

    def work():
        for _ in range(12):
            beats.wait(0.5)
            watched.beat()
        return "done"

    assert watched.call(work) == "done"
