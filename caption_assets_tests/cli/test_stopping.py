"""Stopping and killing the command, as processes of their own that get real signals."""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import dagster as dg
import pytest

from caption_assets.cli.stopping import stoppable
from caption_assets.store.store import Store
from caption_assets.store.tables import CLIP_WINDOWS, ENHANCED_CAPTIONS, WINDOW_CAPTIONS, WINDOW_PREVIEWS
from caption_assets_tests.commands import start_command
from caption_assets_tests.few_answers import FewAnswers
from caption_assets_tests.models.hub import COMMIT, PATIENT, Hub
from caption_assets_tests.processes import at_work

_HANG_SECONDS = 240
_STOPPED = "caption-assets: stopped; what is finished is kept"
_TINY = ("--device", "cpu", "--workers", "1", "--captioning-max-output-tokens", "4")
_TINY += ("--enhance-captions-max-output-tokens", "4")


def _environment(home: Path, **more: str) -> dict[str, str]:
    own = {"DAGSTER_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return {**os.environ, **own, **more}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DAGSTER_HOME as the project has it, with its databases made."""
    home = tmp_path_factory.mktemp("home")
    shutil.copy(Path(__file__).parents[2] / "dagster.yaml", home)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        with dg.DagsterInstance.from_config(str(home)) as instance:
            instance.get_dynamic_partitions("shards")
    return home


@pytest.fixture
def own_home(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    own = Path(shutil.copytree(home, tmp_path / "home"))
    monkeypatch.chdir(own)
    return own


@dataclass
class Command:
    """A command at work, what it prints, and what it has stored."""

    process: BaseProcess
    log: Path
    out: Store

    def wait_for(self, there: Callable[[], object]) -> None:
        until = time.monotonic() + _HANG_SECONDS
        while not there():
            assert self.process.exitcode is None, self.said()
            assert time.monotonic() < until, self.said()
            time.sleep(0.05)

    def said(self) -> str:
        return " ".join(self.log.read_text().split())

    def ended(self) -> int | None:
        self.process.join(_HANG_SECONDS)
        return self.process.exitcode

    def nothing_is_left(self) -> bool:
        """Whether all processes that it started have ended, now or soon."""
        until = time.monotonic() + _HANG_SECONDS
        while at_work(self.process.pid):
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        return True


@pytest.fixture
def command(own_home: Path, tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Starts `caption-assets run` in a process group of its own."""
    started = []

    def start(name: str, clips: Path, *arguments: str | Path, **environment: str) -> Command:
        log, out = tmp_path / f"{name}.log", tmp_path / name
        given = ("run", "--dataset", clips, "--output-path", out, *arguments)
        process = start_command(given, _environment(own_home, **environment), log, afresh="HF_HOME" in environment)
        started.append(process)
        return Command(process, log, Store(str(out)))

    yield start
    for process in started:
        if process.exitcode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.join()


@pytest.fixture
def stalled(checkpoints: dict[str, Path], tmp_path: Path) -> Iterator[tuple[Hub, tuple[str, ...], dict[str, str]]]:
    """A hub that never ends sending the weights, and what makes a command load its model."""
    with Hub(checkpoints["qwen2.5-vl"]) as hub:
        hub.hold = {"model.safetensors"}
        environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0", **PATIENT}
        yield hub, ("--model-id", f"tiny/model@{COMMIT}", "--generate-captions", *_TINY), environment


def _run_states(own_home: Path) -> list[str]:
    with dg.DagsterInstance.from_config(str(own_home)) as instance:
        return sorted(run.status.value for run in instance.get_runs())


def test_ctrl_c_among_previews_stops_everything_and_keeps_what_is_made(
    command, make_clip, tmp_path, checkpoints, own_home
):
    clips = tmp_path / "clips"
    for k in range(8):
        make_clip(clips / "a" / f"{k}.mp4", 128, (320, 240))
    models = ("--model-path", checkpoints["qwen2.5-vl"], "--text-model-path", checkpoints["text"], *_TINY)
    running = command("out", clips, *models)
    previews = Path(running.out.url()) / "previews"
    running.wait_for(lambda: any(previews.glob("*/*.webp")))
    os.killpg(running.process.pid, signal.SIGINT)
    assert running.ended() == 130, running.said()
    assert _STOPPED in running.said()
    assert "Traceback" not in running.said()
    assert running.nothing_is_left()
    made = running.out.read_rows(WINDOW_PREVIEWS, "a")
    assert 0 < len(made) < 8
    assert not running.out.read_rows(ENHANCED_CAPTIONS, "a", "demo/text")
    assert _run_states(own_home) == ["FAILURE", "SUCCESS"]
    again = command("out", clips, "--generate-previews", "--device", "cpu", "--workers", "1")
    assert again.ended() == 0, again.said()
    assert {row.seconds for row in made} <= {row.seconds for row in again.out.read_rows(WINDOW_PREVIEWS, "a")}


def test_a_command_that_downloads_its_model_stops_at_once(command, clips_root, stalled):
    hub, arguments, environment = stalled
    running = command("out", clips_root, *arguments, **environment)
    running.wait_for(hub.held.is_set)
    os.killpg(running.process.pid, signal.SIGINT)
    assert running.ended() == 130, running.said()
    assert _STOPPED in running.said()
    assert running.nothing_is_left()
    assert len(running.out.read_rows(CLIP_WINDOWS, "a")) == 2


def test_a_machine_that_is_taken_away_leaves_what_is_answered(command, tmp_path, make_clip):
    """What spot machines, Kubernetes and Slurm send; the answers are younger than what is saved by itself."""
    for name in "abcd":
        make_clip(tmp_path / "clips" / "shard" / f"{name}.mp4", 24)
    with FewAnswers() as server:
        server.answer(4)  # the trial before the run and that of its step, and two windows
        asked = ("--generate-captions", "--engine", "openai", "--captioning-batch-size", "1")
        running = command("out", tmp_path / "clips", *asked, OPENAI_BASE_URL=server.url)
        running.wait_for(lambda: server.asked == 5)
        os.kill(running.process.pid, signal.SIGTERM)
        assert running.ended() == 143, running.said()
    assert _STOPPED in running.said()
    assert running.nothing_is_left()
    rows = running.out.read_rows(WINDOW_CAPTIONS, "shard", "demo")
    assert [row.status for row in rows] in (["ok"], ["ok", "ok"])  # the second may not have been heard of yet


def test_a_run_waits_for_one_that_works_says_so_can_be_stopped_and_goes_on_when_the_other_is_killed(
    command, clips_root, stalled, checkpoints, own_home
):
    hub, arguments, environment = stalled
    first = command("first", clips_root, *arguments, **environment)
    first.wait_for(hub.held.is_set)
    second = command("second", clips_root, "--model-path", checkpoints["qwen2.5-vl"], "--generate-captions", *_TINY)
    second.wait_for(lambda: "window_captions_demo waits for a slot of pool 'gpu', held by run" in second.said())
    assert f"(process {first.process.pid} on" in second.said()
    third = command("third", clips_root, "--model-path", checkpoints["qwen2.5-vl"], "--generate-captions", *_TINY)
    third.wait_for(lambda: "window_captions_demo waits for a slot" in third.said())
    os.killpg(third.process.pid, signal.SIGTERM)
    assert third.ended() == 143, third.said()
    assert "Traceback" not in third.said()
    os.killpg(first.process.pid, signal.SIGKILL)
    assert second.ended() == 0, second.said()
    assert second.out.keys(WINDOW_CAPTIONS, "a")
    assert first.nothing_is_left()
    assert _run_states(own_home) == ["FAILURE", "FAILURE", "SUCCESS", "SUCCESS", "SUCCESS", "SUCCESS"]


def test_a_signal_that_came_where_python_discards_exceptions_comes_again():
    class Noisy:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    def interrupted() -> None:
        Noisy()
        time.sleep(_HANG_SECONDS)

    with stoppable() as stop:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert stop.status == 143
