"""How many workers prepare windows: more where the engines wait for them."""

from types import SimpleNamespace

from caption_assets.models.engines.base import EngineInfo
from caption_assets.steps import preparing
from caption_assets.steps.preparing import Preparers


def session(engines, ready_at=1.0):
    info = EngineInfo("vllm", "1", "GPU", "bf16", engines=engines)
    return SimpleNamespace(started=True, info=info, ready_at=ready_at)


def test_a_run_leaves_the_cores_of_other_gpus_to_others(monkeypatch):
    monkeypatch.setattr(preparing, "visible_gpus", lambda: (None,) * 4)
    preparers = Preparers(64, session(1))
    for _ in range(9):
        preparers.waited(9.0, 0.0)
    assert preparers.at_once() == 14


def test_engines_that_wait_get_more_workers_up_to_the_cores_that_they_do_not_need():
    preparers = Preparers(64, session(4))
    counts = [preparers.at_once()]
    for _ in range(6):
        preparers.waited(1.9, 0.05)
        preparers.waited(0.3, 0.0)
        counts.append(preparers.at_once())
    assert counts == [32, 40, 50, 56, 56, 56, 56]
    preparers.waited(1.0, 1.0)  # neither waits much longer than the other
    assert preparers.at_once() == 56
    for _ in range(100):
        preparers.waited(0.1, 2.0)
    assert preparers.at_once() == 32


def test_there_are_as_many_as_before_where_cores_are_few_or_nobody_waits_yet():
    few = Preparers(2, session(1))
    few.waited(9.0, 0.0)
    assert few.at_once() == 2
    starting = Preparers(16, session(1, ready_at=None))
    starting.waited(9.0, 0.0)
    assert starting.at_once() == 8
    starting._session.ready_at = 1.0
    starting.waited(9.0, 0.0)
    assert starting.at_once() == 10
