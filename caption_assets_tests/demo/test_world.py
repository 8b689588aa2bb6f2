"""The demo world says what is so: scenes, their sentences and their frames agree."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from caption_assets.demo import checkpoint, draw, world
from caption_assets.demo.facts import Facts, Subject, compare, elaborate, read, write
from caption_assets.media.sampling import count_picks


def scenes(count: int, seed: int = 0, **fixed: object) -> list[world.Scene]:
    rng = np.random.default_rng(seed)
    return [world.sample_scene(rng, **fixed) for _ in range(count)]


def test_captions_and_their_elaborations_say_every_fact_and_no_other() -> None:
    for scene in scenes(400):
        facts = scene.facts()
        assert read(write(facts)) == facts
        longer = elaborate(facts)
        assert compare(read(longer), facts)["all"], longer
        assert len(longer) > len(write(facts))


def test_captions_are_plain_sentences() -> None:
    red = Subject("red", "circle", ("growing",))
    blue = Subject("blue", "star", ("circling clockwise",))
    orange = Subject("orange", "square", ("shrinking", "moving from top to bottom"))
    assert write(Facts("black", (red,))) == "A red circle is growing on a black background."
    together = "A red circle is growing and a blue star is circling clockwise on a pink background."
    assert write(Facts("pink", (blue, red))) == together
    in_turn = "First a blue star is circling clockwise, then a red circle is growing, on a gray background."
    assert write(Facts("gray", (blue, red), in_turn=True)) == in_turn
    twice = "An orange square is first shrinking, then moving from top to bottom, on a brown background."
    assert write(Facts("brown", (orange,))) == twice


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ("A red circle is growing on a black background.", set()),
        ("A blue circle is growing on a black background.", {"colour"}),
        ("A red star is growing on a black background.", {"shape"}),
        ("A red circle is shrinking on a black background.", {"motion"}),
        ("A red circle is growing on a pink background.", {"background"}),
        ("A red circle is first growing, then shrinking, on a black background.", {"motion", "order"}),
        ("A red circle and a red circle.", {"colour", "shape", "motion", "background", "order"}),
        ("", {"colour", "shape", "motion", "background", "order"}),
    ],
)
def test_comparing_names_the_attributes_that_are_wrong(said: str, wrong: set[str]) -> None:
    truth = Facts("black", (Subject("red", "circle", ("growing",)),))
    result = compare(read(said), truth)
    assert {name for name, good in result.items() if not good} - {"all"} == wrong
    assert result["all"] == (not wrong)


def test_the_order_of_events_counts_only_where_they_follow_each_other() -> None:
    a, b = Subject("red", "circle", ("growing",)), Subject("blue", "star", ("shrinking",))
    assert compare(Facts("gray", (b, a)), Facts("gray", (a, b)))["all"]
    in_turn = compare(Facts("gray", (b, a), True), Facts("gray", (a, b), True))
    assert not in_turn["order"]
    assert in_turn["motion"]
    assert not compare(Facts("gray", (a, b)), Facts("gray", (a, b), True))["order"]


def test_scenes_stay_within_the_world() -> None:
    for scene in scenes(300, seed=1):
        assert min(scene.width, scene.height) >= 120
        assert max(scene.width, scene.height) <= 1280
        assert 0.5 <= scene.width / scene.height <= 2
        assert 8 <= scene.frame_rate <= 60
        assert scene.num_frames <= 256
        for thing in scene.acts[0].objects:
            for time_s in np.linspace(0, scene.duration_s, 9):
                x, y, size = thing.state(float(time_s))
                unit = min(scene.width, scene.height)
                assert 1 / 6 - 1e-9 <= size <= 2 / 5 + 1e-9
                assert -0.2 < x < scene.width / unit + 0.2
                assert -0.2 < y < scene.height / unit + 0.2


def test_the_sampled_frames_tell_which_way_an_object_circles() -> None:
    """From half a revolution a frame on nobody can tell, and an arc of less than a third is no circle."""
    orbits = 0
    for scene in scenes(600, seed=2):
        count = count_picks(scene.duration_s, scene.num_frames, sampling_fps=2.0)
        times = np.linspace(0, scene.num_frames - 1, count).round() / float(scene.frame_rate)
        for thing in scene.acts[0].objects:
            for event, after in zip(thing.events, (*thing.events[1:], None), strict=True):
                if not event.turns:
                    continue
                shown = times[(times >= event.start_s) & (times < (after.start_s if after else np.inf))]
                places = np.array([event.state(float(t))[:2] for t in shown]) - (event.x1, event.y1)
                angles = np.unwrap(np.arctan2(places[:, 1], places[:, 0])) / (2 * np.pi)
                steps = np.diff(angles) * (1 if event.motion == "circling clockwise" else -1)
                assert steps.min() > -1e-9, "the short way round is the true one"
                assert steps.max() < 0.34
                assert steps.sum() > 0.5
                orbits += 1
    assert orbits > 100


def test_equal_seeds_give_equal_scenes_and_frames() -> None:
    a, b = (scenes(1, seed=3, width=160, height=120)[0] for _ in range(2))
    assert a == b
    whole = np.stack(list(draw.frames(a)))
    assert whole.shape == (a.num_frames, 120, 160, 3)
    assert whole.dtype == np.uint8
    picks = [0, 5, a.num_frames - 1]
    np.testing.assert_array_equal(draw.pick(b, picks), whole[picks])
    np.testing.assert_array_equal(draw.frame(b, 5), whole[5])


def test_every_window_of_a_long_clip_has_its_own_caption() -> None:
    (scene,) = scenes(1, seed=8, windows=3, frame_rate=Fraction(30), kind="one")
    assert [(act.start_frame, act.end_frame) for act in scene.acts][:2] == [(0, 255), (256, 511)]
    assert scene.num_frames == scene.acts[-1].end_frame + 1
    starts = [act.start_frame / 30 for act in scene.acts]
    said = [scene.caption(start, start + 256 / 30) for start in starts]
    assert said == [write(act.facts()) for act in scene.acts]
    assert len(set(said)) == 3


def test_frames_show_the_background_and_the_object_where_the_scene_says() -> None:
    for scene in scenes(20, seed=5, kind="one", frame_rate=Fraction(8), width=320, height=240):
        act, quiet = scene.acts[0], replace(scene, noise=0.0)
        image = draw.frame(quiet, 3)
        x, y, _ = act.objects[0].state(3 / 8)
        row, column = min(239, max(0, int(y * 240))), min(319, max(0, int(x * 240)))
        assert tuple(image[row, column]) == act.objects[0].rgb
        shares = (image == act.background_rgb).all(-1).mean()
        assert 0.5 < shares < 1
        assert np.abs(draw.frame(scene, 3).astype(int) - image).max() < 40


def test_there_are_two_checkpoints_and_no_third() -> None:
    for name, limit in (("demo", 24e6), ("demo_lm", 12e6)):
        assert (checkpoint(name) / "model.safetensors").stat().st_size <= limit
    with pytest.raises(ValueError, match="choose one of demo, demo_lm"):
        checkpoint("other")
