"""Two keys side by side: the arithmetic, and a damaged copy of the demo's model that loses against the model itself."""

import re
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from playwright.sync_api import Page, expect

from caption_assets.cli.app import cli
from caption_assets.dataset import open_dataset
from caption_assets.demo import checkpoint
from caption_assets.demo.clips import render_dataset
from caption_assets.demo.scene import score
from caption_assets.demo.world import Scene, sample_scene
from caption_assets.errors import ConfigError
from caption_assets.review.comparison import Study, result, sign_test, study
from caption_assets.review.render import read_view
from caption_assets.settings import CaptionModelSettings, CaptionSettings, PreviewSettings, WindowSettings
from caption_assets.steps import ShardReport, StepContext, caption_shards, model_session, window_shard
from caption_assets.store.rows import ComparisonRow
from caption_assets.store.store import Store
from caption_assets.store.tables import CAPTION_COMPARISONS
from caption_assets.workers.local import Workers
from caption_assets_tests.review.serving import Serving
from caption_assets_tests.review.shards import FOUND, write_shard

WINDOWS = 12
NOISE = 1.5  # of the spread of the weights that see


@pytest.fixture(scope="module")
def captioned(tmp_path_factory: pytest.TempPathFactory, workers: Workers) -> tuple[Path, dict[str, Scene]]:
    """An output root with captions by the demo's model and by a copy of it that noise has damaged, and what the clips
    show, by their paths."""
    import torch
    from safetensors.torch import load_file, save_file

    root, draw = tmp_path_factory.mktemp("compared"), torch.Generator().manual_seed(5)
    rng = np.random.default_rng(5)
    scenes = [sample_scene(rng, width=192, height=160, frame_rate=Fraction(24)) for _ in range(WINDOWS)]
    render_dataset(root / "clips", {"s": scenes})
    model = shutil.copytree(checkpoint("demo"), root / "model")
    weights = load_file(model / "model.safetensors")
    for name, value in weights.items():
        if "visual" in name:
            weights[name] = value + NOISE * value.std() * torch.randn(value.shape, generator=draw).to(value.dtype)
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    given, dataset = StepContext(Store(root / "out"), workers), open_dataset(str(root / "clips"))
    window_shard(given, dataset, "s", WindowSettings())
    damaged = {"model_path": str(model), "caption_key": "damaged"}
    for more in ({}, damaged):
        settings = CaptionModelSettings(model_variant="demo", device="cpu", **more)
        with model_session(settings, 8) as session:
            previews = PreviewSettings() if not more else None
            ended = list(caption_shards(given, ["s"], session, CaptionSettings(), previews))
        assert all(isinstance(one.outcome, ShardReport) for one in ended)
    return root / "out", {f"s/clip-{at:02d}.mp4": scene for at, scene in enumerate(scenes)}


def judge(page: Page, scenes: dict[str, Scene]) -> None:
    """Presses the key of the text that says more of what the clip shows."""
    scene = scenes[page.locator(".where").inner_text().rpartition(" ")[0].strip()]
    left, right = (sum(score(text, scene).values()) for text in page.locator(".side-text").all_inner_texts())
    page.keyboard.press("ArrowLeft" if left > right else "ArrowRight" if right > left else "s")


def begin(page: Page, url: str) -> tuple[int, int]:
    """Says who judges; returns how many windows are judged, and how many there are."""
    page.goto(url)
    page.get_by_label("Your name").fill("Ann")
    page.keyboard.press("Enter")
    judged, asked = re.findall(r"\d+", page.get_by_text("windows judged").inner_text())
    return int(judged), int(asked)


def test_the_model_wins_over_a_damaged_copy_of_it_and_nobody_was_told_which_was_which(
    captioned: tuple[Path, dict[str, Scene]], page: Page
) -> None:
    out, scenes = captioned
    told: list[str] = []
    page.on("response", lambda answer: told.append(answer.text()) if "/api/" in answer.url else None)
    with Serving(out, "--compare", "demo", "damaged") as serving:
        judged, asked = begin(page, serving.url)
        assert judged == 0
        assert asked >= WINDOWS / 2
        for _ in range(3):
            judge(page, scenes)
        expect(page.get_by_text("all saved")).to_be_visible()
        serving.kill()
    with Serving(out, "--compare", "damaged", "demo") as serving, page.context.browser.new_context() as context:
        later = context.new_page()
        assert begin(later, serving.url) == (3, asked)
        for _ in range(asked - 3):
            judge(later, scenes)
        expect(later.get_by_text("That was the last one.")).to_be_visible()
        later.get_by_role("button", name="Result").click()
        expect(later.get_by_role("dialog", name="Result")).to_contain_text("demo wins (p = ")
    assert told
    assert not [answer for answer in told if "damaged" in answer or "demo" in answer]
    rows = Store(out).read_rows(CAPTION_COMPARISONS, "s")
    assert {row.left for row in rows} == {"first", "second"}
    command = ["review", "--output-path", str(out), "--compare", "demo", "damaged", "--result"]
    printed = CliRunner().invoke(cli, command).output
    assert f"{asked} of {asked} windows judged by Ann" in printed
    assert "demo wins (p = " in printed
    assert "output tokens" in printed


# Arithmetic


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Study:
    store = Store(tmp_path_factory.mktemp("pairs") / "out")
    write_shard(store, "street", 40)
    return study([read_view(store, "street")], ("qwen3", "nemotron"))


def answers(of: Study, verdicts: str, reviewer: str = "ann", at: str = "1") -> list[ComparisonRow]:
    """Answers about the first pairs: f(irst), s(econd), t(ie), b(oth bad), w(ithdrawn)."""
    words = {"f": "first", "s": "second", "t": "tie", "b": "both_bad", "w": "withdrawn"}
    return [
        ComparisonRow(
            clip_id=pair.window.clip,
            start_frame=pair.frames[0],
            end_frame=pair.frames[1],
            first_key=of.first,
            second_key=of.second,
            first_hash=pair.first.hash,
            second_hash=pair.second.hash,
            left=pair.left,
            verdict=words[verdict],  # type: ignore[arg-type]
            reviewer=reviewer,
            at=at,
        )
        for pair, verdict in zip(of.pairs, verdicts, strict=False)
    ]


@pytest.mark.parametrize(
    ("one", "other", "p"),
    [(0, 0, 1.0), (5, 5, 1.0), (9, 1, 22 / 1024), (1, 9, 22 / 1024), (10, 0, 2 / 1024), (6, 4, 0.75390625)],
)
def test_the_sign_test_is_exact(one: int, other: int, p: float) -> None:
    assert sign_test(one, other) == pytest.approx(p, rel=1e-12)


def test_order_and_sides_are_drawn_and_stay_as_they_are(pairs: Study, tmp_path: Path) -> None:
    store = Store(tmp_path / "out")
    write_shard(store, "street", 40)
    view = read_view(store, "street")
    again, other = study([view], ("nemotron", "qwen3")), study([view], ("qwen3", "nemotron"), seed=1)
    assert [(pair.id, pair.left) for pair in again.pairs] == [(pair.id, pair.left) for pair in pairs.pairs]
    assert [pair.window for pair in other.pairs] != [pair.window for pair in pairs.pairs]
    assert 8 <= sum(pair.left == "first" for pair in pairs.pairs) <= 32
    assert [pair.window for pair in pairs.pairs] != list(view.windows)
    fewer = study([replace(view, windows=view.windows[1:])], ("qwen3", "nemotron"))
    assert [pair.id for pair in fewer.pairs] == [pair.id for pair in pairs.pairs if pair.window != view.windows[0]]


def test_a_side_means_the_text_that_stood_there(pairs: Study) -> None:
    for pair in pairs.pairs:
        for side in ("left", "right"):
            assert pair.text(side) is (pair.first if pair.preference(side) == "first" else pair.second)


def test_a_window_counts_once_and_the_last_answer_of_each_reviewer(pairs: Study) -> None:
    assert (pairs.first, pairs.second) == ("nemotron", "qwen3")
    rows = answers(pairs, "ssssffft", at="2") + answers(pairs, "ffffffffb") + answers(pairs, "fw", at="3")
    rows += answers(pairs, "sss", "bob") + answers(pairs, "ss", "cy")
    found = result(pairs, rows)
    # ann says fwssffftb, bob sss, cy ss: the first window goes to the second key, by two to one.
    assert (found["judged"], found["disputed"]) == (9, 1)
    assert found["preferred"] == {"nemotron": 3, "qwen3": 4}
    assert (found["tie"], found["both_bad"], found["ahead"]) == (1, 1, "qwen3")
    assert found["reviewers"] == ["ann", "bob", "cy"]


def test_answers_about_texts_that_have_changed_do_not_count(pairs: Study) -> None:
    rows = answers(pairs, "sss")
    rows[0] = replace(rows[0], first_hash="another")
    found = result(pairs, rows)
    assert (found["judged"], found["of_earlier_texts"]) == (2, 1)
    assert result(pairs, [replace(row, first_key="other") for row in rows])["judged"] == 0


def test_the_figures_are_of_all_texts_of_both(pairs: Study) -> None:
    figures = result(pairs, [])["figures"]
    assert figures["nemotron"]["findings_per_100"] == 100 * len(FOUND) / 40
    assert figures["qwen3"]["findings_per_100"] == 0
    assert figures["qwen3"]["output_tokens"] == 40 * 40
    assert figures["qwen3"]["words"] == 34
    assert figures["qwen3"]["mean_logprob"] == pytest.approx(-0.5612, abs=1e-3)


@pytest.mark.parametrize(
    ("keys", "wrong"), [(("qwen3", "nobody"), "no window has a text of this key"), (("qwen3", "qwen3"), "the same")]
)
def test_keys_that_cannot_be_compared_are_refused(tmp_path: Path, keys: tuple[str, str], wrong: str) -> None:
    store = Store(tmp_path / "out")
    write_shard(store, "street", 2)
    with pytest.raises(ConfigError, match=wrong):
        study([read_view(store, "street")], keys)
