"""Several engines as one: work goes to whichever has room, and nothing is lost or done twice when one ends."""

import os
from collections import Counter
from functools import partial

import numpy as np
import pytest

from caption_assets.errors import ModelError
from caption_assets.models.engines.base import EngineOptions
from caption_assets.models.requests import Request
from caption_assets.records import FramePicks, SampledFrames
from caption_assets.workers.engines import process
from caption_assets.workers.engines.hands import Hands
from caption_assets.workers.engines.pool import EnginePool
from caption_assets.workers.local import Workers
from caption_assets_tests.processes import at_work
from caption_assets_tests.workers import tasks
from caption_assets_tests.workers.engines.quick import QuickEngine


@pytest.fixture
def pool():
    """Makes pools of two quick engines, started and ready; nothing of them is left when the test ends."""
    made = []

    def make(stuck_s=600.0, **engine):
        made.append(EnginePool(partial(QuickEngine, **engine), 2, EngineOptions("cpu", stuck_s=stuck_s)))
        made[-1].start()
        made[-1].ready()
        return made[-1]

    yield make
    for each in made:
        processes = [member.process.process for member in each._members]
        each.close()
        assert all(process.poll() is not None and not at_work(process.pid) for process in processes)


def request(name, word="hi", frames=None):
    return Request(name, ({"role": "user", "content": word},), frames)


def answers(pool, words):
    """The result of every request, of which there is one each; requests are numbered."""
    results = list(pool.generate(request(f"r{k}", word) for k, word in enumerate(words)))
    assert Counter(result.request_id for result in results) == Counter(f"r{k}" for k in range(len(words)))
    return {result.request_id: result for result in results}


def by(result):
    return result.text.split()[-1]


@pytest.mark.parametrize("in_batches", [False, True])
def test_all_engines_work_and_each_request_is_answered_once(pool, in_batches):
    engines = pool(seconds=0.02, in_batches=in_batches)
    for _ in range(2):  # a session goes through it again and again
        done = answers(engines, ["hi"] * 40)
        assert Counter(map(by, done.values())).most_common()[-1][1] >= 10
        assert len(set(map(by, done.values()))) == 2


@pytest.mark.parametrize("word", ["die", "crash", "stop"])
def test_an_engine_that_ends_once_loses_nothing_and_its_requests_go_to_all(pool, tmp_path, monkeypatch, caplog, word):
    monkeypatch.setattr(process, "_LEAST_SILENCE", 1.0)
    engines = pool(stuck_s=5.0, seconds=0.02, once=str(tmp_path / "ended"))
    done = answers(engines, ["hi"] * 5 + [word] + ["hi"] * 30)
    assert all(result.outcome.ok for result in done.values())
    assert "It is started again" in caplog.text
    assert engines.restarts == 1
    caplog.clear()
    assert len({by(result) for result in answers(engines, ["hi"] * 200).values()}) == 2
    assert caplog.text == ""


def test_a_request_that_engines_die_on_is_set_aside_and_all_others_are_answered(pool):
    done = answers(pool(seconds=0.02), ["hi"] * 5 + ["die"] + ["hi"] * 30)
    assert [name for name, result in done.items() if not result.outcome.ok] == ["r5"]
    assert done["r5"].outcome.kind == "engine_died"
    assert "died on it three times, so it was set aside (it ended (SIGKILL))" in done["r5"].outcome.message


def test_an_engine_that_cannot_start_is_left_out_and_without_any_the_first_reason_is_told(pool, tmp_path, caplog):
    engines = pool(broken=str(tmp_path / "taken"))
    assert len({by(result) for result in answers(engines, ["hi"] * 20).values()}) == 1
    assert "a GPU: other programs use it. The run goes on with 1 of 2 engines." in caplog.text
    with pytest.raises(ModelError, match="a GPU: other programs use it"):
        pool(broken="always")


def test_an_error_of_the_requests_is_the_callers(pool):
    engines = pool()

    def requests():
        yield request("r0")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(engines.generate(requests()))
    assert len(answers(engines, ["hi"] * 3)) == 3


def test_pixels_of_a_worker_reach_an_engine_without_a_copy(pool, workers: Workers):
    engines = pool()
    descriptors = len(os.listdir("/proc/self/fd"))
    sent: dict[str, int] = {}

    def requests():
        for item, frames in workers.map_unordered(tasks.frames, range(0, 200, 10)):
            name = f"{item}/{len(sent)}"
            sent[name] = int(frames.sum())
            picks = FramePicks(tuple(range(4)), (0.0, 0.5, 1.0, 1.5))
            yield request(name, "sum", SampledFrames(np.asarray(frames), picks))

    done = {result.request_id: result for result in engines.generate(requests())}
    assert {name: int(result.text.split()[1]) for name, result in done.items()} == sent
    assert len(sent) == 60
    assert all(not member.process._channel._shared for member in engines._members)  # no memory of our own
    del done
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 4


def take(hands, engine, among, more_to_come=False):
    taken = []
    while got := hands.take(engine, among, more_to_come):
        taken += [one.request_id for one in got]
    return taken


def test_requests_are_shared_by_what_is_in_sight_and_bytes_bound_what_an_engine_has():
    hands = Hands(10, 4)
    for k in range(40):
        hands.add(request(f"r{k}"))
    hands.join(0, in_batches=False)
    hands.join(1, in_batches=False)
    first = take(hands, 0, among=2)
    assert first == [f"r{k}" for k in range(20)]  # the other one, which is about to be ready, has its half
    assert len(take(hands, 1, among=2)) == 20
    assert [one.request_id for one in hands.leave(0)] == first
    large = Hands(10, 4)
    for k in range(4):
        assert large.has_room(1, Request(f"r{k}", (), num_bytes=6)) is (k == 0)
        large.add(Request(f"r{k}", (), num_bytes=6))
    large.join(0, in_batches=False)
    assert take(large, 0, among=1) == ["r0"]
    assert large.done(0, "r0")
    assert not large.done(0, "r0")
    assert take(large, 0, among=1) == ["r1"]


def test_an_engine_in_batches_has_a_whole_one_where_more_is_to_come():
    hands = Hands(10, 4)
    hands.join(0, in_batches=True)
    for k in range(3):
        hands.add(request(f"r{k}"))
    assert take(hands, 0, among=1, more_to_come=True) == []
    assert take(hands, 0, among=2) == ["r0", "r1"]
    hands.add(request("r3"))
    assert take(hands, 0, among=2) == []  # its round is not over
    for name in ("r0", "r1"):
        hands.done(0, name)
    hands.end_round(0)
    assert take(hands, 0, among=1) == ["r2", "r3"]
