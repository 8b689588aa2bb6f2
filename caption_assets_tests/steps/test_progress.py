"""What the log says of a step at work, and how long the rest takes by it."""

import random
import threading
from collections import Counter

import pytest

from caption_assets.dataset import open_dataset
from caption_assets.models.waits import waiting
from caption_assets.settings import CaptionModelSettings, CaptionSettings, PreviewSettings, WindowSettings
from caption_assets.steps import (
    ProgressLog,
    StepContext,
    caption_shards,
    captions,
    model_session,
    window_shard,
    windows,
)
from caption_assets.steps.progress import Pace, Paces, Progress
from caption_assets.steps.progress_log import duration
from caption_assets.store import Store
from caption_assets.store.tables import CLIP_WINDOWS


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def worked(pace, clock, shard, items, *, at_once=1, seconds=lambda: 0.25):
    """Makes items of a shard, so many at once, each in so many seconds."""
    for _ in range(0, items, at_once):
        clock.now += sum(seconds() for _ in range(at_once))
        pace.advance(shard, at_once)


@pytest.mark.parametrize("at_once", [1, 8])
def test_after_a_tenth_of_the_work_the_time_left_is_within_a_tenth(at_once):
    clock, dice = Clock(), random.Random(0)
    pace = Pace(4, clock)
    for shard in "ab":
        pace.start(shard, 400, reused=0)
    clock.now += 90  # an engine starts
    worked(pace, clock, "a", 160, at_once=at_once, seconds=lambda: dice.uniform(0.1, 0.4))
    assert not pace.is_known
    assert pace.total == 1600
    left = pace.seconds_left
    began = clock.now
    worked(pace, clock, "a", 1440, at_once=at_once, seconds=lambda: dice.uniform(0.1, 0.4))
    assert left == pytest.approx(clock.now - began, rel=0.1)


@pytest.mark.parametrize("seed", [0, 5])
def test_a_batch_counts_for_as_much_as_it_holds_and_the_first_one_for_no_slowness_of_its_own(seed):
    """As the transformers engine takes windows: four batches' worth at a time, the longest first."""
    clock, dice = Clock(), random.Random(seed)
    shards = {f"shard-{k}": [dice.randint(48, 192) for _ in range(45)] for k in range(10)}
    windows = [(shard, frames) for shard, sizes in shards.items() for frames in sizes]
    pace, said = Pace(10, clock), None
    for shard in list(shards)[:3]:
        pace.start(shard, 45, reused=0, work=sum(shards[shard]))
    clock.now += 90  # the engine starts
    pace.ready()
    clock.now += 5  # and warms up
    for at in range(0, len(windows), 32):
        taken = sorted(windows[at : at + 32], key=lambda window: window[1], reverse=True)
        for batch in (taken[k : k + 8] for k in range(0, len(taken), 8)):
            clock.now += sum(frames for _, frames in batch) / 360
            for shard, frames in batch:
                clock.now += 0.001
                pace.advance(shard, 1, work=frames)
            if said is None and pace.made >= 45:
                said, began = pace.seconds_left, clock.now
    assert said == pytest.approx(clock.now - began, rel=0.1)


def test_before_there_is_more_to_go_by_the_time_since_the_engines_start_counts():
    clock = Clock()
    pace = Pace(1, clock)
    pace.start("a", 80, reused=0)
    clock.now += 90
    pace.ready()
    assert pace.seconds_left is None
    clock.now += 4
    pace.advance("a", 8)
    assert pace.seconds_left == pytest.approx(36)


def test_items_a_second_are_items_whatever_their_size():
    clock = Clock()
    pace = Pace(2, clock)
    pace.start("a", 30, reused=10, work=2000)
    for _ in range(10):
        clock.now += 0.5
        pace.advance("a", 1, work=100)
    assert pace.per_second == pytest.approx(2.0)
    assert pace.seconds_left == pytest.approx(5 + 15)  # those of a shard that has not begun are as large


def test_what_is_made_ahead_of_something_else_takes_as_long_as_that():
    clock = Clock()
    paces = Paces(1, clock)
    for asset in ("window_previews", "window_captions"):
        paces.start(asset, "a", 100, reused=0)
    for _ in range(40):
        clock.now += 0.3
        paces.advance("window_previews", "a", 1)
    assert paces.seconds_left("window_previews") is None  # nobody knows yet
    paces.ready("window_captions")
    for _ in range(10):
        clock.now += 2.0
        paces.advance("window_captions", "a", 1)
    assert paces.seconds_left("window_previews") == paces.seconds_left("window_captions") == pytest.approx(180)
    paces.advance("window_previews", "a", 60)
    assert paces.seconds_left("window_previews") == 0.0
    paces.over("window_captions", "a")
    paces.start("window_captions", "a", 50, reused=0)  # with another model
    assert (paces["window_captions"].total, paces.seconds_left("window_captions")) == (50, None)


def test_what_was_there_before_makes_nothing_faster():
    clock = Clock()
    pace = Pace(2, clock)
    pace.start("a", 1000, reused=900)
    worked(pace, clock, "a", 100, seconds=lambda: 2.0)
    pace.over("a")
    pace.start("b", 1000, reused=0)
    assert pace.done == 1000
    assert pace.per_second == pytest.approx(0.5)
    assert pace.seconds_left == pytest.approx(2000)
    clock.now += 100
    assert pace.seconds_left == pytest.approx(1900)


def test_a_change_of_speed_is_noticed_and_a_shard_that_fails_is_not_waited_for():
    clock = Clock()
    pace = Pace(2, clock)
    pace.start("a", 5000, reused=0)
    pace.start("b", 5000, reused=0)
    worked(pace, clock, "a", 2000, seconds=lambda: 0.1)
    worked(pace, clock, "a", 2000, seconds=lambda: 1.0)
    assert pace.per_second == pytest.approx(1.0, rel=0.01)
    pace.over("b")
    assert pace.seconds_left == pytest.approx(1000, rel=0.01)


def test_times_are_said_as_people_say_them():
    said = {0.4: "0 s", 61: "61 s", 100: "2 min", 3000: "50 min", 5400: "1 h 30 min", 11_100: "3 h 5 min"}
    assert {seconds: duration(seconds) for seconds in said} == said


@pytest.fixture
def given(tmp_path, clips_root, workers):
    context = StepContext(Store(tmp_path / "out"), workers)
    for shard in ("a", "b"):
        window_shard(context, open_dataset(str(clips_root)), shard, WindowSettings(window_size=32))
    return context


def told(step, shards, said, **more):
    return ProgressLog(step, shards, said.append, **more)


class Work(Progress):
    def __init__(self):
        self.begun, self.ended = Counter(), Counter()

    def start(self, asset, shard, total, reused=0, work=None):
        self.begun[asset] += work

    def advance(self, asset, shard, items=1, work=None):
        self.ended[asset] += work


def test_a_step_says_when_it_starts_how_far_it_is_and_when_it_is_done(given):
    said, asked, work = [], CaptionSettings(max_output_tokens=4, batch_size=1), Work()
    with (
        told(captions.STEP, ["a", "b"], said, listener=work) as progress,
        model_session(CaptionModelSettings(device="cpu"), 1) as session,
    ):
        given = StepContext(given.store, given.workers, progress=progress)
        outcomes = caption_shards(given, ["a", "b"], session, asked, PreviewSettings(target_height=16))
        ends, between = [], []
        for ended in outcomes:
            ends.append(ended)
            progress.done(ended.outcome)
            between.append(progress.sentences())
    windows = [e.outcome.ok for e in ends if e.asset == "window_captions"]
    assert said[0] == "window_captions of 2 shards, 'a' to 'b', begins."
    assert f"window_captions of shard 'a' is done: {windows[0]} good, in " in said[2]
    assert said[-1].startswith(f"window_captions is done: 2 of 2 shards, {sum(windows)} windows now, in ")
    rows = [row for shard in "ab" for row in given.store.read_rows(CLIP_WINDOWS, shard) if row.status == "ok"]
    shown, whole = sum(len(row.frame_ids) for row in rows), sum(row.end_frame - row.start_frame + 1 for row in rows)
    assert work.begun == work.ended == {"window_captions": shown, "window_previews": whole}
    (of_captions, of_previews) = between[-1]
    assert of_captions.startswith(f"window_captions: {sum(windows)} of {sum(windows)} windows done, ")
    assert of_captions.endswith(" a second, about 0 s left.")
    assert of_previews.startswith(f"window_previews: {sum(windows)} of {sum(windows)} windows done, ")


def test_about_once_a_minute_and_also_while_it_waits(given):
    said, come = [], threading.Event()

    def say(text):
        said.append(text)
        if "waits" in text:
            come.set()

    with ProgressLog(windows.STEP, ["a"], say, every_s=0.01) as progress, waiting("the engine to start"):
        progress.start("clip_windows", "a", 7, 2)
        assert come.wait(60)
    assert any(text.startswith("clip_windows: 2 of 7 clips done, 2 of them before, in ") for text in said)
    assert "clip_windows waits for the engine to start, for 0 s now." in said


def test_a_wait_says_what_is_true_by_then_and_the_inner_one_counts():
    said, so_far = [], ["1 GiB"]
    progress = told(windows.STEP, ["a"], said)
    with waiting("the engine to start"), waiting(lambda: f"a download ({so_far[0]})"):
        assert "waits for a download (1 GiB)" in progress.sentences()[-1]
        so_far[0] = "2 GiB"
        assert "waits for a download (2 GiB)" in progress.sentences()[-1]
    assert len(progress.sentences()) == 1


def test_a_step_whose_shards_another_one_has_made_says_so():
    said = []
    with told(windows.STEP, [], said):
        pass
    assert said == ["clip_windows: nothing is left, another asset of the run has made it on its way."]
