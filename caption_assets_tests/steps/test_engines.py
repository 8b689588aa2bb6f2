"""Captions by two engines in processes of their own, against those of one: the embedded model on the CPU."""

import logging
import os
import signal
from collections import Counter, defaultdict
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from caption_assets.dataset import open_dataset
from caption_assets.demo.clips import render_dataset
from caption_assets.demo.world import sample_scene
from caption_assets.settings import CaptionModelSettings, CaptionSettings, PreviewSettings, WindowSettings
from caption_assets.steps import StepContext, caption_shards, model_session, window_shard
from caption_assets.store.store import Store
from caption_assets.store.tables import WINDOW_CAPTIONS
from caption_assets.workers.engines.pool import EnginePool

SHARDS = {"small": 2, "large": 10}
_TIMES = {"seconds": 0.0, "decode_s": None, "render_s": None, "wait_s": None, "created_at": None}


@pytest.fixture(scope="module")
def planned(tmp_path_factory, workers):
    """Makes outputs in which the windows of a small and a large shard are planned."""
    rng, root = np.random.default_rng(5), tmp_path_factory.mktemp("clips")
    scenes = {
        shard: [sample_scene(rng, width=192, height=160, frame_rate=Fraction(24)) for _ in range(count)]
        for shard, count in SHARDS.items()
    }
    render_dataset(root, scenes)

    def plan():
        store = Store(str(tmp_path_factory.mktemp("out")))
        for shard in SHARDS:
            window_shard(StepContext(store, workers), open_dataset(str(root)), shard, WindowSettings())
        return store

    return plan


def caption(store, workers, shards, session, previews=None):
    asked = CaptionSettings(batch_size=1)  # sums in a batch differ in the last bit with what else is in it
    return list(caption_shards(StepContext(store, workers), shards, session, asked, previews))


def texts(store):
    """All rows as they are stored, but for how long they took."""
    rows = [row for shard in SHARDS for row in store.read_rows(WINDOW_CAPTIONS, shard, "demo")]
    return [replace(row, **{name: value for name, value in _TIMES.items() if hasattr(row, name)}) for row in rows]


def test_two_engines_write_what_one_does_share_the_last_shard_and_lose_nothing_where_one_is_killed(
    planned, workers, monkeypatch, caplog
):
    alone, store, killed = planned(), planned(), planned()
    with model_session(CaptionModelSettings(device="cpu"), 1) as session:
        caption(alone, workers, list(SHARDS), session)
    answered = defaultdict(list)
    told = EnginePool.told

    def noted(pool, member, kind, value):
        if kind == "result":
            answered[value.request_id].append(member.number)
        told(pool, member, kind, value)

    monkeypatch.setattr(EnginePool, "told", noted)
    with model_session(CaptionModelSettings(device="cpu", gpus="2"), 1) as session:
        ended = caption(store, workers, list(SHARDS), session, PreviewSettings())
        assert [one.outcome.failed for one in ended] == [0] * 4
        assert texts(store) == texts(alone)
        assert session.info.engines == 2
        of_the_last = Counter(number for name, (number,) in answered.items() if name.startswith("large/"))
        assert min(of_the_last[0], of_the_last[1]) >= 2

        answered.clear()
        outcomes = caption_shards(StepContext(killed, workers), ["large"], session, CaptionSettings(batch_size=1))

        def kill_at_the_second(pool, member, kind, value):
            noted(pool, member, kind, value)
            if kind == "result" and len(answered) == 2:
                os.kill(pool._members[0].process.process.pid, signal.SIGKILL)

        monkeypatch.setattr(EnginePool, "told", kill_at_the_second)
        with caplog.at_level(logging.WARNING):
            (end,) = outcomes
        assert (end.outcome.ok, end.outcome.failed) == (SHARDS["large"], 0)
        assert "an engine's process: it ended (SIGKILL)" in caplog.text
        caption(killed, workers, ["small"], session)
    assert texts(killed) == texts(alone)
    assert all(len(numbers) == 1 for numbers in answered.values())
