"""What runs cost, in the table of runs: shares of shards that come to the whole."""

import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from caption_assets.dataset import open_dataset
from caption_assets.models.engines.base import EngineOptions
from caption_assets.models.engines.session import EngineSession
from caption_assets.models.engines.transformers import TransformersEngine
from caption_assets.models.variants import caption_variant
from caption_assets.models.weights.checkpoints import checkpoint_of
from caption_assets.settings import CaptionSettings, WindowSettings
from caption_assets.steps import StepContext, caption_shards, window_shards
from caption_assets.store.costs import cost_a_text
from caption_assets.store.store import Store
from caption_assets.store.tables import RUN_COSTS, WINDOW_CAPTIONS
from caption_assets.workers.cpu import cpu_seconds

PRICE = 3600.0


class Leased(TransformersEngine):
    """Counts this machine's CPU as a GPU."""

    def start(self):
        since = time.monotonic()
        return replace(super().start(), gpus=1, held_since=since)


def test_what_shards_are_charged_with_and_what_is_left_come_to_what_the_run_has_used(clips_root, tmp_path, workers):
    store, variant, shards = Store(str(tmp_path / "out")), caption_variant("demo"), ["a", "b"]
    windows = WindowSettings(window_size=64, remainder_threshold=32)

    def run(name):
        context = StepContext(store, workers, run_id=name)
        ended = list(window_shards(context, open_dataset(str(clips_root)), shards, windows))
        checkpoint = checkpoint_of(variant)
        engine = Leased(variant, checkpoint, EngineOptions("cpu"))
        session = EngineSession(variant, checkpoint, engine, PRICE)
        try:
            ended += caption_shards(context, shards, session, CaptionSettings(max_output_tokens=4))
        finally:
            session.close()
        return {(one.asset, one.shard): one.outcome for one in ended}, session.usage

    reports, usage = run("first")
    rows = {row.shard: row for row in store.read_rows(RUN_COSTS, "first", "window_captions_demo")}
    assert rows.keys() == {"", "a", "b"}
    assert sum(row.gpu_held_s for row in rows.values()) == pytest.approx(usage.held_s, abs=0.01)
    assert sum(row.gpu_busy_s for row in rows.values()) == pytest.approx(usage.busy_s)
    assert min(row.gpu_held_s for row in (rows["a"], rows["b"])) > 0
    assert sum(row.engine_starts for row in rows.values()) == usage.starts == 1
    assert rows["a"].cost == pytest.approx(rows["a"].gpu_held_s)  # at a unit of money a second
    captions = store.read_rows(WINDOW_CAPTIONS, "a", "demo")
    tokens = sum(row.prompt_tokens for row in captions), sum(row.output_tokens for row in captions)
    assert (rows["a"].prompt_tokens, rows["a"].output_tokens) == tokens
    assert rows["a"].items == len(captions) == 3
    size = sum(path.stat().st_size for path in (clips_root / "a").iterdir())
    (planned,) = (row for row in store.read_rows(RUN_COSTS, "first", "clip_windows") if row.shard == "a")
    assert planned.bytes_read == rows["a"].bytes_read == size
    of_all = sum(row.cost for row in rows.values())
    assert cost_a_text(store, "demo") == pytest.approx(of_all / 4)
    assert cost_a_text(store, "demo/demo_lm") is None
    figures = reports["window_captions", "a"].figures
    assert figures["cost_per_1000_windows"] == pytest.approx(1000 / 3 * rows["a"].cost, rel=1e-3)
    assert (figures["tokens_in"], figures["tokens_out"]) == tokens
    assert figures["cpu_seconds"] > 0

    again, usage = run("second")
    assert usage.held_s == 0.0
    assert not {"cost", "tokens_in", "gpu_held_seconds"} & again["window_captions", "a"].figures.keys()
    assert [row.items for row in store.read_rows(RUN_COSTS, "second", "window_captions_demo")] == [0, 0, 0]


def test_cpu_seconds_are_those_of_processes_below_too_and_stay_when_they_have_ended():
    busy = "import time\nwhile time.process_time() < 0.4: pass\nprint(flush=True)\ninput()"
    before = cpu_seconds()
    nested = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {busy!r}])"
    with subprocess.Popen([sys.executable, "-c", nested], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        running = cpu_seconds() - before
        process.communicate(b"\n")
    assert running >= 0.35
    assert cpu_seconds() - before >= running - 2 / os.sysconf("SC_CLK_TCK")
