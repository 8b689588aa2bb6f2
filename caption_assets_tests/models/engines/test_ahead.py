"""What is read while an engine starts."""

import threading

import pytest

from caption_assets.models.engines.ahead import ReadAhead
from caption_assets.models.requests import Request


def test_so_many_bytes_are_read_ahead_and_everything_comes_once_in_order_with_its_error_last():
    read, third, threads = [], threading.Event(), set()

    def requests():
        for k in range(6):
            threads.add(threading.current_thread())
            read.append(k)
            if k == 2:
                third.set()
            yield Request(f"r{k}", (), num_bytes=4)
        raise ZeroDivisionError

    with ReadAhead(requests(), 10) as ahead:
        assert third.wait(60)
    assert read == [0, 1, 2]
    taken = [next(ahead).request_id for _ in range(6)]
    assert taken == [f"r{k}" for k in range(6)]
    with pytest.raises(ZeroDivisionError):
        next(ahead)
    assert threading.current_thread() in threads
    assert len(threads) == 2


def test_nothing_is_read_ahead_where_no_bytes_are_given():
    read = []
    with ReadAhead((read.append(k) or Request(f"r{k}", ()) for k in range(2)), 0) as ahead:
        assert read == []
    assert [request.request_id for request in ahead] == ["r0", "r1"]


def test_what_is_made_after_an_answer_is_not_waited_for_before():
    answered = threading.Event()

    def requests():
        yield Request("first", (), num_bytes=4)
        assert answered.wait(60)
        yield Request("second", (), num_bytes=4)

    with ReadAhead(requests(), 10) as ahead:
        pass
    taken = [next(ahead).request_id]
    answered.set()
    assert [*taken, *(request.request_id for request in ahead)] == ["first", "second"]
