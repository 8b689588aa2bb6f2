"""The first clips of each shard, to try what is chosen; what a run would do; and reading again what has not changed."""

from dataclasses import replace

import pytest

from caption_assets.dataset import clip_id, open_dataset
from caption_assets.settings import (
    CaptionModelSettings,
    CaptionSettings,
    CheckSettings,
    EnhanceSettings,
    TextModelSettings,
)
from caption_assets.steps import model_session
from caption_assets.steps.asked import Ask
from caption_assets.steps.checks import check_shard
from caption_assets.steps.forecast import Wanted, forecast
from caption_assets.steps.trial import Trial
from caption_assets.store import CLIP_WINDOWS, WINDOW_CAPTIONS, WINDOW_PREVIEWS, Store
from caption_assets_tests.steps.conftest import NOTHING, PREVIEWS, SETTINGS, UUID, House

NAMED = clip_id("a/named.mp4")


def trial(house, **values):
    return House(house.clips, house.store, replace(house.context, trial=Trial(**values)))


def foreseen(house, shard="a", **values):
    """Clips to plan, windows that are known, and what is missing of these."""
    with (
        model_session(CaptionModelSettings(device="cpu")) as captions,
        model_session(TextModelSettings(device="cpu")) as texts,
    ):
        caption = captions, {"demo": Ask.of(CaptionSettings(max_output_tokens=4))}
        enhance = texts, EnhanceSettings(max_output_tokens=4), "demo"
        wanted = Wanted(SETTINGS, PREVIEWS, caption, enhance, Trial(**values))
        found = forecast(house.store, open_dataset(str(house.clips)), shard, wanted)
    return found.to_plan, found.windows, list(found.missing.values())


@pytest.fixture
def house(house, tmp_path):
    """Nothing is made yet."""
    store = Store(tmp_path / "anew")
    return House(house.clips, store, replace(house.context, store=store))


def test_a_trial_works_on_the_first_clips_and_a_later_run_goes_on_from_there(house, tmp_path):
    assert foreseen(house) == (2, 0, [0, 0, 0])
    assert foreseen(house, limit=1) == (1, 0, [0, 0, 0])
    assert not (tmp_path / "anew").exists()
    assert trial(house, limit=1).make("a") == {"preview": 2, "caption": 2, "enhance": 2}
    assert {row.clip_id for row in house.store.read_rows(CLIP_WINDOWS, "a")} == {UUID}
    assert foreseen(house) == (1, 2, [0, 0, 0])
    assert foreseen(house, limit=1) == (0, 2, [0, 0, 0])
    assert house.make("a") == {"preview": 1, "caption": 1, "enhance": 1}


def test_what_there_is_of_clips_beyond_a_trial_stays(house):
    house.plan("a")
    assert foreseen(house) == (0, 3, [3, 3, 3])
    assert foreseen(house, limit=1) == (0, 2, [2, 2, 2])
    trial(house, limit=1).make("a")
    assert foreseen(house) == (0, 3, [1, 1, 1])
    made = [one for one in check_shard(house.store, "a", CheckSettings()) if one.table == WINDOW_PREVIEWS.name]
    assert all(one.passed for one in made)  # of the clips that it left, none was asked for
    house.make("a")
    (house.clips / "a" / "named.mp4").touch()  # it would have to be planned again
    tables = CLIP_WINDOWS, WINDOW_PREVIEWS
    before = [house.store.read_rows(table, "a") for table in tables], house.texts("a", NAMED), house.files()
    assert trial(house, limit=1).make("a")["caption"] == 1  # that of the other clip, kept
    after = [house.store.read_rows(table, "a") for table in tables], house.texts("a", NAMED), house.files()
    assert after == before
    assert house.make("a") == NOTHING


def test_clips_are_read_again_where_asked_for_and_nothing_is_made_of_the_same_bytes(house):
    house.make("a")
    rows = house.store.read_rows(WINDOW_CAPTIONS, "a", "demo")
    earlier = [replace(row, probed=None) for row in house.store.read_rows(CLIP_WINDOWS, "a")]
    house.store.commit_rows(CLIP_WINDOWS, "a", earlier)  # as an earlier version planned
    assert house.plan("a")["a"].reused == 3
    assert foreseen(house, verify=True) == (2, 3, [0, 0, 0])
    assert trial(house, verify=True).plan("a")["a"].reused == 0
    assert sum(row.probed is not None for row in house.store.read_rows(CLIP_WINDOWS, "a")) == 2
    assert house.make("a") == NOTHING
    assert house.store.read_rows(WINDOW_CAPTIONS, "a", "demo") == rows
