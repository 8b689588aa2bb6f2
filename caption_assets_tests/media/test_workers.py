"""The pool: results stream, memory is bounded, and a worker takes nothing but its own item with it."""

import os
import time
from collections.abc import Iterator

import numpy as np
import pytest

from caption_assets.errors import CaptionAssetsError, ConfigError
from caption_assets.media import workers
from caption_assets.media.workers import WorkerPool, run
from caption_assets_tests.media import jobs


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(2, memory_limit_bytes=8 << 30) as pool:
        yield pool


def test_every_item_has_its_result(pool: WorkerPool) -> None:
    assert sorted(pool.run(jobs.double, range(20))) == [(k, 2 * k) for k in range(20)]


def test_results_of_a_generator_stream_in_order_and_are_writable(pool: WorkerPool) -> None:
    by_item: dict[int, list[int]] = {}
    for item, frames in pool.run(jobs.frames, [10, 20, 30]):
        assert frames.shape == (4, 200, 300, 3)
        frames += 1
        by_item.setdefault(item, []).append(int(frames.max()))
    assert by_item == {k: [k + 1, k + 2, k + 3] for k in (10, 20, 30)}


@pytest.mark.parametrize(
    ("item", "kind", "says"),
    [
        ("kill", "worker_died", "SIGKILL"),
        ("crash", "worker_died", "SIGSEGV"),
        ("hang", "timeout", "longer than 1 s"),
        ("clip", "decode", "it is broken"),
        ("bug", "unexpected", "KeyError"),
        ("memory", "limit", "memory"),
    ],
)
def test_a_failure_costs_its_item_only(pool: WorkerPool, item: str, kind: str, says: str) -> None:
    ends: dict[str, list] = {}
    for name, result in pool.run(jobs.misbehave, ["a", item, "b", "c"], time_limit_s=1.0):
        ends.setdefault(name, []).append(result)
    error = ends[item].pop()
    assert isinstance(error, CaptionAssetsError)
    assert error.kind == kind
    assert says in str(error)
    assert ends == {item: ["first"]} | {k: ["first", "second"] for k in "abc"}


def test_a_pool_of_its_own_ends_with_the_call() -> None:
    (_, worker), *_ = run(jobs.pid, range(3), workers=1)
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


def test_a_pool_keeps_its_processes() -> None:
    with WorkerPool(1) as pool:
        (_, first), *_ = pool.run(jobs.pid, range(3))
        assert {value for _, value in pool.run(jobs.pid, range(3))} == {first}
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


def test_items_are_read_as_they_are_needed_and_results_are_bounded(pool: WorkerPool) -> None:
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    results = pool.run(jobs.frames, endless(), in_flight=2)
    next(results)
    time.sleep(1.0)
    assert taken <= 4  # three results an item: two wait in the queue, one with the pump, one in each worker
    results.close()


def test_a_slow_consumer_does_not_use_up_the_time_limit(pool: WorkerPool) -> None:
    for _, result in pool.run(jobs.frames, [0, 1], time_limit_s=1.0, in_flight=1):
        assert isinstance(result, np.ndarray)
        time.sleep(0.5)


def test_ending_early_leaves_no_process() -> None:
    pool = WorkerPool(1)
    pool.start()
    (worker,) = pool._idle
    results = pool.run(jobs.misbehave, ["hang"])
    assert next(results) == ("hang", "first")
    results.close()
    assert worker.process.returncode is not None
    pool.close()


def test_workers_that_do_not_start_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_START", "raise SystemExit(3)")
    with WorkerPool(2) as pool:
        with pytest.raises(ConfigError, match="status 3"):
            pool.start()
        assert [error.kind for _, error in pool.run(jobs.double, [1, 2, 3])] == ["worker_died"] * 3


def test_errors_of_the_items_reach_the_consumer(pool: WorkerPool) -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise RuntimeError("no more clips")

    with pytest.raises(RuntimeError, match="no more clips"):
        list(pool.run(jobs.double, broken()))
