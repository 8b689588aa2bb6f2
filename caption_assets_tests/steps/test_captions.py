"""Captions of several shards in one stream: second pass, enhancement, bad windows, a dying engine, reruns."""

import json
import re
import shutil
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer

from caption_assets.dataset import open_dataset
from caption_assets.demo import checkpoint
from caption_assets.demo.clips import render_dataset
from caption_assets.demo.world import sample_scene
from caption_assets.errors import ConfigError, ShardError
from caption_assets.models.engines.base import EngineDeathError
from caption_assets.models.engines.transformers import TransformersEngine
from caption_assets.models.prompts import CAPTION_PROMPTS, ENHANCE_PROMPTS, STAGE2_PROMPT, with_caption
from caption_assets.records import FramePicks, text_hash
from caption_assets.save_export.files import read_document
from caption_assets.settings import (
    CaptionModelSettings,
    CaptionSettings,
    EnhanceSettings,
    PreviewSettings,
    TextModelSettings,
    WindowSettings,
)
from caption_assets.steps import (
    ShardReport,
    StepContext,
    caption_shards,
    enhance_shards,
    model_session,
    window_shard,
)
from caption_assets.steps.versions import data_version
from caption_assets.store.rows import CaptionRow, window_key, window_of
from caption_assets.store.store import Store
from caption_assets.store.tables import CLIP_WINDOWS, ENHANCED_CAPTIONS, WINDOW_CAPTIONS, rows_to_table
from caption_assets.workers.tasks import Prepared

SHARDS = ("a", "b", "c")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    rng = np.random.default_rng(31)
    root = tmp_path_factory.mktemp("clips")
    scenes = {
        shard: [sample_scene(rng, width=192, height=160, frame_rate=Fraction(24)) for _ in range(2)] for shard in SHARDS
    }
    render_dataset(root, scenes)
    return open_dataset(str(root))


@pytest.fixture
def store(dataset, tmp_path, workers):
    store = Store(str(tmp_path / "out"))
    for shard in SHARDS:
        window_shard(StepContext(store, workers), dataset, shard, WindowSettings())
    return store


@pytest.fixture
def asked(monkeypatch):
    """Every batch that the engine gets, as requests."""
    batches = []
    generate = TransformersEngine._generate
    monkeypatch.setattr(
        TransformersEngine, "_generate", lambda self, now, *more: batches.append(now) or generate(self, now, *more)
    )
    return batches


def caption(store, workers, shards=SHARDS, **settings):
    settings = {"max_output_tokens": 8, **settings}
    with model_session(CaptionModelSettings(device="cpu"), settings.get("batch_size", 8)) as session:
        given = StepContext(store, workers)
        return {e.shard: e.outcome for e in caption_shards(given, shards, session, CaptionSettings(**settings))}


def rows(store):
    return [row for shard in SHARDS for row in store.read_rows(WINDOW_CAPTIONS, shard, "demo")]


def test_shards_share_batches_and_each_ends_with_its_own_report(store, workers, asked):
    outcomes = caption(store, workers)
    assert outcomes.keys() == set(SHARDS)
    assert all(isinstance(o, ShardReport) and o.ok == 2 and o.failed == 0 for o in outcomes.values())
    (batch,) = asked
    windows = {shard: store.read_rows(CLIP_WINDOWS, shard) for shard in SHARDS}
    of = {f"{shard}/{row.clip_id}/{window_of(row)}": row for shard in SHARDS for row in windows[shard]}
    assert sorted(request.request_id for request in batch) == sorted(of)
    for request in batch:
        row = of[request.request_id]
        assert request.frames.picks == FramePicks(row.frame_ids, row.times_s)
        assert request.frames.frames.shape == (len(row.frame_ids), 196, 224, 3)
    assert all(row.text and row.decode_s > 0 and row.render_s is not None for row in rows(store))
    assert {(row.window_hash, row.content_hash) for row in rows(store)} == {
        (row.window_hash, row.content_hash) for row in of.values()
    }
    figures, made = outcomes["a"].figures, store.read_rows(WINDOW_CAPTIONS, "a", "demo")
    assert figures["mean_decode_s"] > 0
    assert figures["output_tokens"] == sum(row.output_tokens for row in made)
    assert outcomes["a"].input_versions == {"clip_windows": data_version(windows["a"])}
    assert all(o.figures["engine"].startswith("transformers ") for o in outcomes.values())
    assert [shard for shard in SHARDS if "engine_start_seconds" in outcomes[shard].figures] == ["a"]
    asked.clear()
    again = caption(store, workers)
    assert [o.reused for o in again.values()] == [2, 2, 2]
    assert asked == []


def test_the_confidence_of_captions_is_in_rows_and_report_and_rows_without_it_stay(store, workers, asked):
    report = caption(store, workers)["a"]
    found = [row for row in rows(store) if row.clip_id in {r.clip_id for r in store.read_rows(CLIP_WINDOWS, "a")}]
    for row in found:
        assert -20 < row.min_logprob <= row.low_logprob <= row.mean_logprob < 0
        assert row.min_logprob < row.mean_logprob
    means = [row.mean_logprob for row in found]
    assert report.figures["mean_logprob"] == round(sum(means) / 2, 4)
    assert report.figures["mean_logprob_lowest_tenth"] == round(min(means), 4)
    assert "texts_without_logprobs" not in report.figures

    without = {"mean_logprob": None, "min_logprob": None, "low_logprob": None}
    earlier = [replace(row, **without) for row in found]
    file = Path(store.url("tables/window_captions/demo/a.parquet"))
    pq.write_table(rows_to_table(earlier, CaptionRow).drop_columns(list(without)), file)
    asked.clear()
    again = caption(store, workers)["a"]
    assert (again.reused, asked) == (2, [])
    assert store.read_rows(WINDOW_CAPTIONS, "a", "demo") == earlier
    assert again.figures["texts_without_logprobs"] == 2
    assert "mean_logprob" not in again.figures


def test_a_second_pass_shows_the_video_again_with_the_first_caption(store, workers, asked):
    caption(store, workers)
    first = {row.clip_id: row for row in rows(store)}
    asked.clear()
    caption(store, workers, generate_stage2_caption=True, stage2_prompt_text="Look again.")
    requests = [request for batch in asked for request in batch]
    assert len(requests) == 12
    assert all(request.frames is not None for request in requests)
    texts = {}
    for request in requests:
        texts.setdefault(request.request_id.split("/")[1], []).append(request.messages[0]["content"][1]["text"])
    for row in rows(store):
        assert row.first_text == first[row.clip_id].text
        assert texts[row.clip_id][1] == f"Look again.\n\n{row.first_text}"
        assert row.output_tokens > first[row.clip_id].output_tokens
        assert row.fingerprint != first[row.clip_id].fingerprint


def test_the_prompts_are_those_of_the_variant_or_the_users_own(store, workers, asked):
    def prompts(**settings):
        asked.clear()
        outcomes = caption(store, workers, shards=("a",), max_output_tokens=3, **settings)
        requests = [request for batch in asked for request in batch]
        assert {request.max_tokens for request in requests} <= {3}
        assert outcomes["a"].figures["cut_off_texts"] == 2
        assert {row.prompt_hash for row in store.read_rows(WINDOW_CAPTIONS, "a", "demo")} == {
            text_hash(settings.get("prompt_text") or CAPTION_PROMPTS[settings.get("prompt_variant", "default")])
        }
        return [request.messages[0]["content"][1]["text"] for request in requests]

    assert prompts() == [CAPTION_PROMPTS["default"]] * 2
    assert prompts(prompt_variant="av") == [CAPTION_PROMPTS["av"]] * 2
    assert prompts(prompt_variant="av", prompt_text="What is it?") == ["What is it?"] * 2
    assert prompts(prompt_variant="av", prompt_text="What is it?") == []  # the same is not asked again
    first, _, second, _ = prompts(generate_stage2_caption=True)
    assert first == CAPTION_PROMPTS["default"]
    assert second.startswith(f"{STAGE2_PROMPT}\n\n")
    assert len(prompts(generate_stage2_caption=True, stage2_prompt_text="Shorter.")) == 4


def test_each_window_of_a_clip_has_its_own_first_caption_in_its_second_prompt(dataset, tmp_path, workers, monkeypatch):
    store, generate = Store(str(tmp_path / "out")), TransformersEngine._generate
    window_shard(StepContext(store, workers), dataset, "a", WindowSettings(window_size=24, remainder_threshold=8))
    asked = []

    def told_apart(self, requests, *more):
        asked.extend(requests)
        times = {"wait_s": 1.0, "prefill_s": 2.0, "generate_s": 3.0}
        passes = {r.request_id: 1 + ("Look again." in r.messages[0]["content"][1]["text"]) for r in requests}
        output, results = generate(self, requests, *more)
        return output, [
            replace(result, text=f"Text {passes[result.request_id]} of {result.request_id}.", **times)
            for result in results
        ]

    class Timed:
        """The workers, who take as long for each window."""

        processes, start_seconds = workers.processes, 0.0

        def run(self, *given, **bounds):
            for task, made in workers.run(*given, **bounds):
                yield task, replace(made, decode_s=0.5, render_s=0.25) if isinstance(made, Prepared) else made

    monkeypatch.setattr(TransformersEngine, "_generate", told_apart)
    second = {"generate_stage2_caption": True, "stage2_prompt_text": "Look again."}
    caption(store, Timed(), shards=("a",), max_output_tokens=4, **second)
    questions = {}
    for request in asked:
        questions.setdefault(request.request_id, []).append(request.messages[0]["content"][1]["text"])
    assert len(questions) == len(rows(store)) > 2 * len({row.clip_id for row in rows(store)})
    of = {f"a/{row.clip_id}/{window_of(row)}": row for row in store.read_rows(CLIP_WINDOWS, "a")}
    for request in asked:
        row = of[request.request_id]
        assert request.frames.picks == FramePicks(row.frame_ids, row.times_s)
    for name, (_, second) in questions.items():
        assert second == f"Look again.\n\nText 1 of {name}."
    for row in rows(store):
        for number, text in ((1, row.first_text), (2, row.text)):
            assert text.startswith(f"Text {number} of ")
            assert text.endswith(f"/{row.clip_id}/{row.start_frame}_{row.end_frame}.")
        # Of both passes, for which the window is decoded once.
        assert (row.decode_s, row.render_s, row.wait_s, row.prefill_s, row.generate_s) == (0.5, 0.25, 2.0, 4.0, 6.0)


@pytest.fixture
def short_context(tmp_path):
    """The demo model with a context of 640 tokens, and less small frames."""
    folder = shutil.copytree(checkpoint("demo"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = 640
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def test_a_window_that_is_too_long_is_shown_smaller_or_fails_before_it_is_decoded(store, workers, asked, short_context):
    def run(**settings):
        model = CaptionModelSettings(device="cpu", model_path=short_context, min_pixels=8 * 28**2)
        with model_session(model) as session:
            given = StepContext(store, workers)
            return {e.shard: e.outcome for e in caption_shards(given, SHARDS, session, CaptionSettings(**settings))}

    first, *others = store.read_rows(CLIP_WINDOWS, "a")
    store.commit_rows(
        CLIP_WINDOWS, "a", [replace(first, frame_ids=first.frame_ids[:2], times_s=first.times_s[:2]), *others]
    )
    run(prompt_text="What is it?", max_output_tokens=8)
    whole = {request.request_id: request.frames.frames.shape for batch in asked for request in batch}
    asked.clear()
    tokens = sorted(-(-shape[0] // 2) * shape[1] * shape[2] // 28**2 for shape in whole.values())
    text = Tokenizer.from_file(str(checkpoint("demo") / "tokenizer.json")).encode(
        "What is it?", add_special_tokens=False
    )
    prompt = 64 + len(text.ids)  # and what a template may add
    run(prompt_text="What is it?", max_output_tokens=640 - prompt - tokens[1] + 1)
    smaller = {request.request_id: request.frames.frames.shape for batch in asked for request in batch}
    assert smaller.keys() == whole.keys()
    assert all(row.status == "ok" for row in rows(store))
    assert sum(smaller[name] < whole[name] for name in whole) == 5  # all but the window of two frames
    asked.clear()
    outcomes = run(prompt_text="What is it?", max_output_tokens=640 - prompt - 23)  # 8 tokens a pair
    assert [request.request_id.split("/")[1] for batch in asked for request in batch] == [first.clip_id]
    assert (outcomes["a"].ok, outcomes["a"].failed) == (1, 1)
    failed = [row for row in rows(store) if row.status != "ok"]
    assert len(failed) == 5
    assert {(row.error_kind, row.decode_s) for row in failed} == {("context", None)}
    assert "lower max_output_tokens" in failed[0].error


def test_a_caption_that_leaves_no_room_for_its_rewriting_fails_alone(store, workers, asked):
    caption(store, workers, shards=("a",), max_output_tokens=60)
    first, second = store.read_rows(WINDOW_CAPTIONS, "a", "demo")
    store.commit_rows(WINDOW_CAPTIONS, "a", [replace(first, text="red circle, " * 4000), second], "demo")
    asked.clear()
    with model_session(TextModelSettings(device="cpu"), 16) as session:
        given, settings = StepContext(store, workers), EnhanceSettings(max_output_tokens=8)
        (ended,) = enhance_shards(given, ("a",), "demo", session, settings)
    assert (ended.outcome.ok, ended.outcome.failed) == (1, 1)
    assert [len(batch) for batch in asked] == [1]
    (bad,) = (row for row in store.read_rows(ENHANCED_CAPTIONS, "a", "demo/demo_lm") if row.status != "ok")
    assert (bad.clip_id, bad.error_kind) == (first.clip_id, "context")


def test_a_shard_without_windows_fails_alone(store, workers):
    outcomes = caption(store, workers, shards=("a", "nothing", "c"))
    assert "has no windows" in str(outcomes["nothing"])
    assert outcomes["a"].ok == outcomes["c"].ok == 2
    with model_session(CaptionModelSettings(device="cpu")) as session:
        given = StepContext(store, workers)
        ended = list(caption_shards(given, ("nothing",), session, CaptionSettings(), PreviewSettings()))
    assert {e.asset: str(e.outcome).partition(".")[0] for e in ended} == {
        asset: f"{asset} of shard 'nothing': it has no windows" for asset in ("window_captions", "window_previews")
    }


def test_an_empty_shard_is_a_finding_in_every_step_and_no_failure(store, workers, tmp_path):
    (tmp_path / "in" / "void").mkdir(parents=True)
    (tmp_path / "in" / "void" / "notes.txt").touch()
    given, began = StepContext(store, workers), time.perf_counter()
    report = window_shard(given, open_dataset(str(tmp_path / "in")), "void", WindowSettings())
    assert (report.rows, report.figures["finding"], report.figures["files_left_out"]) == (0, "it holds no clip", 1)
    with model_session(CaptionModelSettings(device="cpu")) as session:
        ended = list(caption_shards(given, ("void",), session, CaptionSettings(), PreviewSettings()))
        assert not session.started
    with model_session(TextModelSettings(device="cpu"), 16) as session:
        ended += enhance_shards(given, ("void",), "demo", session, EnhanceSettings())
    assert {e.asset: e.outcome.rows for e in ended} == {
        asset: 0 for asset in ("window_captions", "window_previews", "enhanced_captions")
    }
    took = time.perf_counter() - began
    assert all(0 <= each.seconds <= took for each in (report, *(e.outcome for e in ended)))


def test_a_shard_that_has_lost_its_clips_keeps_what_was_made_of_them(dataset, store, workers, tmp_path):
    (tmp_path / "in" / "a").mkdir(parents=True)
    before = store.read_rows(CLIP_WINDOWS, "a")
    report = window_shard(StepContext(store, workers), open_dataset(str(tmp_path / "in")), "a", WindowSettings())
    assert (report.ok, report.figures["finding"]) == (2, "it holds no clip; what was made of those that it had stays")
    assert store.read_rows(CLIP_WINDOWS, "a") == before


def test_captions_that_another_tool_has_put_into_documents_are_enhanced(store, workers):
    windows = store.read_rows(CLIP_WINDOWS, "a")
    for row, text in zip(windows, ("A red circle is moving from left to right.", ""), strict=True):
        frames = {"start_frame": row.start_frame, "end_frame": row.end_frame}
        window = {**frames, "cosmos-r1_caption": text, "score": 1.5}
        document = {"span_uuid": row.clip_id, "source_video": "/data/whole.mp4", "windows": [window], "mine": 7}
        store.write_bytes(f"metas/v0/{row.clip_id}.json", json.dumps(document).encode())
    with model_session(TextModelSettings(device="cpu"), 16) as session:
        given, settings = StepContext(store, workers), EnhanceSettings(max_output_tokens=8)
        (first,) = enhance_shards(given, ("a",), "cosmos-r1", session, settings)
        (second,) = enhance_shards(given, ("a",), "cosmos-r1", session, settings)
        (none,) = enhance_shards(given, ("b",), "cosmos-r1", session, settings)
    assert (first.outcome.ok, first.outcome.skipped, second.outcome.reused) == (1, 1, 1)
    assert "it has no captions of 'cosmos-r1'" in str(none.outcome)
    adopted = store.read_rows(WINDOW_CAPTIONS, "a", "cosmos-r1")
    assert sorted((row.status, row.text or "") for row in adopted) == [
        ("ok", "A red circle is moving from left to right."),
        ("skipped", ""),
    ]
    document = read_document(store, f"metas/v0/{windows[0].clip_id}.json")
    (window,) = document["windows"]
    assert window["cosmos-r1_caption"] == "A red circle is moving from left to right."
    assert window["demo_lm_enhanced_caption"]
    assert (document["mine"], document["source_video"], window["score"]) == (7, "/data/whole.mp4", 1.5)


@pytest.fixture
def too_wide(store):
    """A window of the first shard that no model takes, for its shape."""
    first, *others = store.read_rows(CLIP_WINDOWS, "a")
    store.commit_rows(CLIP_WINDOWS, "a", [replace(first, display_width=64_000), *others])
    return first


@pytest.mark.usefixtures("too_wide")
def test_a_window_that_no_model_takes_is_a_failed_row_beside_good_ones(store, workers):
    outcomes = caption(store, workers, generate_stage2_caption=True, max_output_tokens=4)
    assert (outcomes["a"].ok, outcomes["a"].failed) == (1, 1)
    assert "200 times" in outcomes["a"].failed_items[0]
    assert outcomes["b"].ok == outcomes["c"].ok == 2


def test_what_has_no_caption_is_not_enhanced_and_says_why(store, workers, asked, too_wide):
    caption(store, workers, max_output_tokens=60)
    asked.clear()
    with model_session(TextModelSettings(device="cpu"), 16) as session:
        given, settings = StepContext(store, workers), EnhanceSettings(max_output_tokens=8)
        outcomes = {e.shard: e.outcome for e in enhance_shards(given, SHARDS, "demo", session, settings)}
    captions = {f"/{row.clip_id}/{window_of(row)}": row.text for row in rows(store)}
    assert [len(batch) for batch in asked] == [5]
    for request in asked[0]:
        (message,) = request.messages
        assert message["content"] == with_caption(ENHANCE_PROMPTS["default"], captions[request.request_id[1:]])
        assert request.max_tokens == 8
    assert {shard: outcome.ok for shard, outcome in outcomes.items()} == {"a": 1, "b": 2, "c": 2}
    rewritten = {row.clip_id: row for row in store.read_rows(ENHANCED_CAPTIONS, "a", "demo/demo_lm")}
    left_out = rewritten.pop(too_wide.clip_id)
    assert (left_out.status, left_out.error_kind, left_out.text) == ("skipped", "no_caption", None)
    assert "200 times" in left_out.error
    (good,) = rewritten.values()
    assert good.status == "ok"
    (before,) = (row for row in store.read_rows(WINDOW_CAPTIONS, "a", "demo") if row.text)
    assert outcomes["a"].figures["times_longer"] == round(len(good.text) / len(before.text), 2)
    assert outcomes["a"].figures["captions_of"] == "demo"
    assert outcomes["a"].input_versions == {
        "window_captions": data_version(store.read_rows(WINDOW_CAPTIONS, "a", "demo"))
    }
    windows = {c: read_document(store, f"metas/v0/{c}.json")["windows"][0] for c in (too_wide.clip_id, good.clip_id)}
    assert "demo_lm_enhanced_caption" not in windows[too_wide.clip_id]
    assert windows[good.clip_id]["demo_lm_enhanced_caption"] == good.text


def test_an_engine_that_dies_of_one_window_loses_that_window_only(store, workers, monkeypatch):
    generate, deadly = TransformersEngine.generate, []

    def mortal(self, requests):
        requests = list(requests)
        ids = frozenset(request.request_id for request in requests)
        deadly[:] = deadly or [sorted(ids)[3]]
        if deadly[0] in ids:
            raise EngineDeathError("engine 'transformers'", "it crashed", in_flight=ids)
        yield from generate(self, requests)

    monkeypatch.setattr(TransformersEngine, "generate", mortal)
    outcomes = caption(store, workers)
    assert sum(o.ok for o in outcomes.values()) == 5
    (bad,) = (row for row in rows(store) if row.status != "ok")
    assert f"{bad.clip_id}/{bad.start_frame}_{bad.end_frame}" in deadly[0]
    assert bad.error_kind == "engine_died"


def test_captions_by_several_prompts_come_of_one_visit_as_they_do_alone(store, workers, asked, dataset, tmp_path):
    """Each under its own key, of one decoding; what a dataset lacks is asked alone, and takes nothing from the rest."""
    several = {
        "": CaptionSettings(generate_stage2_caption=True, max_output_tokens=30),
        "short": CaptionSettings(prompt_variant="short", max_output_tokens=20),
        "warm": CaptionSettings(prompt_text="What is it?", max_output_tokens=20, prompt_sampling={"temperature": 0.9}),
    }
    decoded = []

    class Watched:
        processes, start_seconds = workers.processes, 0.0

        def run(self, work, tasks, **bounds):
            for task, made in workers.run(work, tasks, **bounds):
                if isinstance(made, Prepared):
                    decoded.append(made.request_id)
                yield task, made

    def caption_all(into, settings, by=workers):
        asked.clear()
        decoded.clear()
        with model_session(CaptionModelSettings(device="cpu"), 8, several=len(settings) > 1) as session:
            return list(caption_shards(StepContext(into, by), ("a",), session, settings))

    def texts(of, key):
        return {
            row.clip_id: (row.text, row.first_text, row.prompt_hash) for row in of.read_rows(WINDOW_CAPTIONS, "a", key)
        }

    keys = {"": "demo", "short": "demo-short", "warm": "demo-warm"}
    only = {name: each for name, each in several.items() if name != "short"}
    with pytest.raises(ConfigError, match="no prompt to ask by"):
        caption_all(store, {})
    assert [ended.key for ended in caption_all(store, only, Watched())] == ["demo", "demo-warm"]
    assert len(decoded) == len(set(decoded)) == 2
    before = {key: store.read_rows(WINDOW_CAPTIONS, "a", key) for key in ("demo", "demo-warm")}
    ended = {each.key: each.outcome for each in caption_all(store, several, Watched())}
    assert {key: report.reused for key, report in ended.items()} == {"demo": 2, "demo-warm": 2, "demo-short": 0}
    assert [request.messages[0]["content"][1]["text"] for batch in asked for request in batch] == [
        CAPTION_PROMPTS["short"]
    ] * 2
    assert before == {key: store.read_rows(WINDOW_CAPTIONS, "a", key) for key in before}
    assert all(row.cached_tokens > 50 for row in before["demo-warm"])

    alone = Store(str(tmp_path / "alone"))
    window_shard(StepContext(alone, workers), dataset, "a", WindowSettings())
    for name, settings in several.items():
        caption_all(alone, {name: settings})
        assert texts(alone, keys[name]) == texts(store, keys[name])
        assert None not in {text for text, *_ in texts(store, keys[name]).values()}
    document = read_document(store, f"metas/v0/{before['demo'][0].clip_id}.json")
    assert {"demo_caption", "demo-short_caption", "demo-warm_caption"} <= document["windows"][0].keys()
    assert document["windows"][0]["provenance"]["demo-short_caption"]["prompt_hash"] == text_hash(
        CAPTION_PROMPTS["short"]
    )
    with (
        model_session(CaptionModelSettings(device="cpu", caption_key="demo-short")) as session,
        pytest.raises(ConfigError, match=r"holds captions of that key by prompt 'short'"),
    ):
        list(caption_shards(StepContext(store, workers), ("a",), session, CaptionSettings()))
    assert None not in {text for text, *_ in texts(store, "demo-short").values()}


def test_a_prompt_that_needs_much_room_takes_none_of_the_others(
    store, workers, asked, dataset, tmp_path, short_context
):
    """Each caption's frames are in the size that they have alone; the prompt that does not fit fails, and no other."""
    several = {
        "": CaptionSettings(prompt_text="What is it?", max_output_tokens=8),
        "most": CaptionSettings(prompt_text="Tell all of it.", max_output_tokens=640),
        "more": CaptionSettings(prompt_text="Tell more of it.", max_output_tokens=400),
        "again": CaptionSettings(prompt_text="What else is it?", max_output_tokens=8),
    }
    alone = Store(str(tmp_path / "alone"))
    window_shard(StepContext(alone, workers), dataset, "a", WindowSettings())
    model = CaptionModelSettings(device="cpu", model_path=short_context, min_pixels=8 * 28**2)
    with model_session(model, several=True) as session:
        ended = list(caption_shards(StepContext(store, workers), ("a",), session, several))
        assert [isinstance(each.outcome, ShardReport) for each in ended] == [True, False, True, True]
        for name, settings in several.items():
            list(caption_shards(StepContext(alone, workers), ("a",), session, {name: settings}))

    def texts(of, key):
        return [(r.text, r.prompt_tokens, r.error_kind) for r in of.read_rows(WINDOW_CAPTIONS, "a", key)]

    tokens = {}
    for key in ("demo", "demo-most", "demo-more", "demo-again"):
        assert texts(store, key) == texts(alone, key)
        tokens[key] = [count for _, count, _ in texts(store, key)]
    assert max(tokens["demo-more"]) < min(tokens["demo"]), tokens
    assert {kind for *_, kind in texts(store, "demo-most")} == {"context"}


def test_prompts_name_what_is_known_of_a_window_and_json_keeps_to_its_schema(store, workers, asked, tmp_path):
    """Another value captions anew; what stands for nothing is refused before anything is asked. A text that no bound
    lets end is a failed row; JSON is an object in the document."""
    file = tmp_path / "schema.json"
    moves = {"type": "object", "properties": {"moves": {"type": "boolean"}}, "required": ["moves"]}
    endless = {"type": "object", "properties": {"all": {"type": "string", "minLength": 300}}, "required": ["all"]}
    named = "{clip.relative_path} at {window.start_s} to {window.end_s} s, {not ours}, <|im_end|>"

    def prompts(**settings):
        asked.clear()
        outcome = caption(store, workers, shards=("a",), max_output_tokens=24, **settings)["a"]
        texts = [request.messages[0]["content"][1]["text"] for batch in asked for request in batch]
        return outcome, sorted(texts)

    windows = store.read_rows(CLIP_WINDOWS, "a")
    shown = sorted(f"{w.relative_path} at 0 to {round(w.end_s, 3):g} s, {{not ours}}, <|im_end|>" for w in windows)
    assert prompts(prompt_text=named)[1] == shown
    assert prompts(prompt_text=named)[1] == []
    made = store.read_rows(WINDOW_CAPTIONS, "a", "demo")
    assert {row.prompt_hash for row in made} == {text_hash(text) for text in shown}
    with pytest.raises(ConfigError, match=re.escape("{window.stat_s}")):
        prompts(prompt_text="At {window.stat_s}.")
    file.write_text(json.dumps({**moves, "properties": {"moves": False}}))
    with pytest.raises(ConfigError, match="no grammar can be made of it \\('properties' of the whole: Schema 'false'"):
        prompts(prompt_text="Does it move?", json_schema=str(file))
    unsaid, texts = prompts(prompt_text="About {columns.topic}.")
    assert isinstance(unsaid, ShardError)
    assert "{columns.topic}: the dataset says that of no clip of the shard" in str(unsaid)
    assert texts == []
    assert store.read_rows(WINDOW_CAPTIONS, "a", "demo") == made
    known, other = windows
    store.commit_rows(CLIP_WINDOWS, "a", [replace(known, columns='{"topic": "cars"}'), other])
    assert prompts(prompt_text="About {columns.topic}.")[1] == ["About cars."]
    (failed,) = (row for row in store.read_rows(WINDOW_CAPTIONS, "a", "demo") if row.status == "failed")
    assert (failed.clip_id, failed.error_kind) == (other.clip_id, "column")
    store.commit_rows(CLIP_WINDOWS, "a", windows)

    file.write_text(json.dumps(moves))
    outcome, texts = prompts(prompt_text="Does it move?", json_schema=str(file))
    assert (outcome.ok, texts) == (2, ["Does it move?"] * 2)
    for row in store.read_rows(WINDOW_CAPTIONS, "a", "demo"):
        window = read_document(store, f"metas/v0/{row.clip_id}.json")["windows"][0]
        assert row.is_json
        assert window["demo_structured"] == json.loads(window["demo_caption"])
        assert type(window["demo_structured"]["moves"]) is bool
    file.write_text(json.dumps(endless))
    outcome, texts = prompts(prompt_text="Does it move?", json_schema=str(file))
    assert texts == ["Does it move?"] * 4
    assert isinstance(outcome, ShardError)
    made = store.read_rows(WINDOW_CAPTIONS, "a", "demo")
    assert {(row.error_kind, row.error.partition(" after")[0]) for row in made} == {
        ("invalid_json", "its JSON was cut off")
    }
    assert "demo_structured" not in read_document(store, f"metas/v0/{row.clip_id}.json")["windows"][0]


def test_a_prompt_with_the_caption_before_asks_a_clips_windows_in_order(dataset, tmp_path, workers, asked):
    """Each key with its own; what is asked anew changes what follows only where another answer comes of it."""
    given = StepContext(Store(str(tmp_path / "out")), workers)
    window_shard(given, dataset, "a", WindowSettings(window_size=24, remainder_threshold=8))
    clips = {}
    for row in given.store.read_rows(CLIP_WINDOWS, "a"):
        clips.setdefault(row.clip_id, []).append(row)
    assert min(map(len, clips.values())) > 2
    settings = {
        "": CaptionSettings(prompt_text="<{previous_caption}> Now?", max_output_tokens=3),
        "brief": CaptionSettings(prompt_variant="short", max_output_tokens=2),
        "next": CaptionSettings(prompt_text="After {previous_caption}", max_output_tokens=3),
    }

    def run():
        asked.clear()
        with model_session(CaptionModelSettings(device="cpu"), 8, several=True) as session:
            ended = {each.key: each.outcome for each in caption_shards(given, ("a",), session, settings)}
        texts = [request.messages[0]["content"][1]["text"] for batch in asked for request in batch]
        made = {key: given.store.read_rows(WINDOW_CAPTIONS, "a", key) for key in ended}
        return ended, sorted(texts), made

    def expected(made):
        before = {key: dict(zip(map(window_key, made[key]), ["", *made[key]], strict=False)) for key in made}
        for row in (row for rows in clips.values() for row in rows):
            first = row is clips[row.clip_id][0]
            for key, text in (("demo", "<{}> Now?"), ("demo-next", "After {}")):
                yield text.format("" if first else before[key][window_key(row)].text or "")
            yield CAPTION_PROMPTS["short"]

    _, texts, made = run()
    assert texts == sorted(expected(made))
    assert {row.prompt_hash for row in made["demo"]} <= set(map(text_hash, texts))
    ended, texts, _ = run()
    assert texts == []
    assert {each.reused for each in ended.values()} == {len(made["demo"])}

    # The same answer comes again: what follows stays. Then it does not, and what follows is asked, and no other clip.
    at = made["demo"].index(next(row for row in made["demo"] if row.start_frame == 24))
    lost = replace(made["demo"][at], status="failed", error_kind="engine", error="lost", text=None)
    given.store.commit_rows(WINDOW_CAPTIONS, "a", [*made["demo"][:at], lost, *made["demo"][at + 1 :]], "demo")
    ended, texts, again = run()
    assert len(texts) == 1
    assert ended["demo"].reused == len(made["demo"]) - 1
    assert [row.text for row in again["demo"]] == [row.text for row in made["demo"]]
    windows = given.store.read_rows(CLIP_WINDOWS, "a")
    wide = [replace(row, display_width=64_000) if window_key(row) == window_key(lost) else row for row in windows]
    given.store.commit_rows(CLIP_WINDOWS, "a", wide)
    given.store.commit_rows(WINDOW_CAPTIONS, "a", [*made["demo"][:at], lost, *made["demo"][at + 1 :]], "demo")
    _, texts, broken = run()
    follow = [row for row in clips[lost.clip_id] if row.start_frame > 24]
    assert texts[-1] == "<> Now?"
    assert 1 <= len(texts) <= len(follow)
    assert broken["demo"][at].error_kind != "engine"
    assert [row.status for row in broken["demo"]].count("ok") == len(windows) - 1
