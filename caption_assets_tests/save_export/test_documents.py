"""The pure functions: who owns which key of a document, and which captions count."""

from dataclasses import replace
from typing import Any

import pytest

from caption_assets.records import text_hash
from caption_assets.save_export.chunks import chunk_document, cut_video_document, own_video_document, summarize
from caption_assets.save_export.documents import ClipRows, Document, clip_document
from caption_assets.save_export.files import dump_document, parse_document
from caption_assets.store.rows import (
    AnyRow,
    CaptionRow,
    EnhancedFindingRow,
    EnhancedRow,
    FindingRow,
    PreviewRow,
    VerdictRow,
    WindowRow,
)
from caption_assets_tests.rows import (
    BIKES,
    caption,
    enhanced,
    failed_caption,
    failed_clip,
    finding,
    preview,
    verdict,
    window,
)

CUT = {
    "source_video": "/data/long.mp4",
    "duration_span": [20.0, 30.0],
    "width_source": 1920,
    "height_source": 1080,
    "framerate_source": 50.0,
}


def rows_of(*rows: AnyRow) -> ClipRows:
    """Rows of one clip, with a table for every key that they name, in their order."""
    captions: dict[str, dict[Any, Any]] = {}
    texts: dict[tuple[str, str], dict[Any, Any]] = {}
    findings: dict[str, dict[Any, Any]] = {}
    text_findings: dict[tuple[str, str], dict[Any, Any]] = {}
    for row in rows:
        if isinstance(row, EnhancedFindingRow):
            text_findings.setdefault((row.key, row.caption_key), {})[row.start_frame, row.end_frame] = row
        elif isinstance(row, FindingRow):
            findings.setdefault(row.key, {})[row.start_frame, row.end_frame] = row
        if isinstance(row, CaptionRow):
            captions.setdefault(row.key, {})[row.start_frame, row.end_frame] = row
        elif isinstance(row, EnhancedRow):
            texts.setdefault((row.key, row.caption_key), {})[row.start_frame, row.end_frame] = row
    previews = {(row.start_frame, row.end_frame): row for row in rows if isinstance(row, PreviewRow)}
    windows = tuple(row for row in rows if isinstance(row, WindowRow))
    return ClipRows(windows, previews, captions, texts, findings, text_findings)


def first_real_caption(item: Document) -> str | None:
    """The rule of NeMo Curator's caption evaluation."""
    for key, value in item.items():
        if "caption" in key and isinstance(value, str) and value.strip():
            return value
    return None


def test_findings_are_told_of_the_texts_that_a_window_has_and_no_reader_takes_them_for_one() -> None:
    row = window()
    text = caption(row, "{}")
    longer = enhanced(text)
    judged = [
        finding(text, "error", empty="it has no word", markup="it is JSON"),
        finding(longer, facts_lost="2 is lost"),
    ]
    (made,) = clip_document(rows_of(row, text, longer, *judged), None)["windows"]
    assert made["findings"] == {
        "qwen_caption": [
            {"rule": "empty", "severity": "error", "message": "it has no word"},
            {"rule": "markup", "severity": "error", "message": "it is JSON"},
        ],
        "qwen_lm_enhanced_caption": [{"rule": "facts_lost", "severity": "warning", "message": "2 is lost"}],
    }
    assert first_real_caption({**made, "qwen_caption": None, "qwen_lm_enhanced_caption": None}) is None
    # Of another text, of none, or nothing at all: no findings.
    other = caption(row, "A bike.")
    for rows in ([row, other, *judged], [row, failed_caption(row), *judged], [row, other, finding(other)]):
        (made,) = clip_document(rows_of(*rows), {"windows": [{**made}]})["windows"]
        assert "findings" not in made


def test_a_window_tells_its_captions_first_and_its_circumstances_after() -> None:
    row = window()
    text = caption(row, prompt_tokens=900, output_tokens=4, prompt_hash="p", precision="bf16", engine="vllm")
    text = replace(text, mean_logprob=-0.123456, min_logprob=-1.0, low_logprob=0.0)
    document = clip_document(rows_of(row, preview(row), text, enhanced(text)), None)
    assert document["windows"] == [
        {
            "start_frame": 0,
            "end_frame": 249,
            "qwen_caption": "A bike.",
            "qwen_lm_enhanced_caption": "A fine bike.",
            "status": "ok",
            "start_s": 0.0,
            "end_s": 10.0,
            "sampling": {"frame_ids": [0, 249], "requested_fps": 2.0, "true_fps": 0.100402},
            "preview": {
                "status": "ok",
                "path": f"previews/{BIKES}/0_249.webp",
                "num_frames": 10,
                "width": 565,
                "height": 240,
                "frame_ms": 1000,
                "num_bytes": 68210,
            },
            "provenance": {
                "qwen_caption": {
                    "model_id": "some/model",
                    "model_revision": "",
                    "precision": "bf16",
                    "engine": "vllm",
                    "engine_version": "",
                    "prompt_hash": "p",
                    "prompt_tokens": 900,
                    "output_tokens": 4,
                    "finish_reason": "stop",
                    "mean_logprob": -0.1235,
                    "min_logprob": -1.0,
                    "low_logprob": 0.0,
                },
                "qwen_lm_enhanced_caption": {
                    "model_id": "",
                    "model_revision": "",
                    "precision": "",
                    "engine": "",
                    "engine_version": "",
                    "prompt_hash": "",
                    "prompt_tokens": None,
                    "output_tokens": None,
                    "finish_reason": None,
                    "mean_logprob": None,
                    "min_logprob": None,
                    "low_logprob": None,
                    "caption_key": "qwen",
                },
            },
        }
    ]
    assert document["windowing"] == {"window_size": 256, "remainder_threshold": 128, "counted_frames": 250}
    assert list(document["windows"][0])[:4] == [
        "start_frame",
        "end_frame",
        "qwen_caption",
        "qwen_lm_enhanced_caption",
    ]


@pytest.mark.parametrize("text", ["", " \n", "café 自転車 \"quoted\" 'single' \\ \t\r\n\0 \u2028 👍 </script>"])
def test_any_text_survives_the_way_through_the_document(text: str) -> None:
    document = parse_document(dump_document(clip_document(rows_of(window(), caption(window(), text)), None)))
    assert document is not None
    assert document["windows"][0]["qwen_caption"] == text


def test_an_answer_that_json_cannot_hold_costs_no_document() -> None:
    row = window()
    texts = {"a": '{"x":Infinity}', "b": '{"x":' + "[" * 200_000, "c": "words", "d": "{}"}
    captions = [caption(row, text, key, is_json=True) for key, text in texts.items()]
    document = parse_document(dump_document(clip_document(rows_of(row, *captions), None)))
    assert document is not None
    answers = {key: value for key, value in document["windows"][0].items() if key.endswith("_structured")}
    assert answers == {"a_structured": {"x": None}, "d_structured": {}}


def test_a_reader_that_takes_the_first_caption_gets_a_real_one() -> None:
    row = window()
    good, bad = caption(row, "Real.", "qwen3"), failed_caption(row, "qwen")
    foreign = {"windows": [{"start_frame": 0, "end_frame": 249, "caption_note": "not one", "status": "x"}]}
    document = clip_document(rows_of(row, bad, good, enhanced(good)), foreign)
    assert first_real_caption(document["windows"][0]) == "Real."
    nothing = clip_document(rows_of(row, bad, preview(row, status="failed", error_kind="preview", error="no")), None)
    assert first_real_caption(nothing["windows"][0]) is None
    assert first_real_caption(document) is None


def test_what_other_tools_put_there_survives() -> None:
    row = window()
    existing = {
        **CUT,
        "motion_score": {"global_mean": 0.5},
        "aesthetic_score": 0.7,
        "errors": ["buffer"],
        "error_details": {"buffer": "theirs"},
        "dedup_group": {"id": 7},
        "windows": [
            {
                "start_frame": 0,
                "end_frame": 249,
                "human_caption": "By hand.",
                "other_enhanced_caption": "Theirs.",
                "qwen_caption": "Old.",
                "gone_caption": None,
                "quality": 5,
                "provenance": {"human_caption": {"by": "me"}, "qwen_caption": {"model_id": "old"}},
            },
            {"start_frame": 250, "end_frame": 499, "human_caption": "Of a window that is no more."},
            "nonsense",
        ],
    }
    document = clip_document(rows_of(row, caption(row)), existing)
    assert document["motion_score"] == {"global_mean": 0.5}
    assert document["aesthetic_score"] == 0.7
    assert document["errors"] == ["buffer"]
    assert document["error_details"] == {"buffer": "theirs"}
    assert document["dedup_group"] == {"id": 7}
    (made,) = document["windows"]
    assert list(made)[:6] == [
        "start_frame",
        "end_frame",
        "qwen_caption",
        "human_caption",
        "gone_caption",
        "other_enhanced_caption",
    ]
    assert (made["qwen_caption"], made["human_caption"], made["quality"]) == ("A bike.", "By hand.", 5)
    assert made["provenance"]["human_caption"] == {"by": "me"}
    assert made["provenance"]["qwen_caption"]["model_id"] == "some/model"
    assert clip_document(rows_of(row, caption(row)), document) == document


def test_what_other_tools_say_of_missing_captions_follows_the_captions() -> None:
    first, second = window(end=99), window(start=100)
    theirs = {"errors": ["window-0", "window-1", "window-2", "buffer"], "has_caption": False}
    theirs["windows"] = [{"start_frame": start, "end_frame": end} for start, end in ((0, 99), (100, 249), (250, 499))]
    rows = ClipRows((first, second), captions={"qwen": {(0, 99): caption(first)}})
    document = clip_document(rows, theirs)
    assert (document["errors"], document["has_caption"]) == (["window-1", "buffer"], True)
    assert clip_document(rows, document) == document
    without = clip_document(ClipRows((first, second), captions={"qwen": {}}), document)
    assert (without["errors"], without["has_caption"]) == (["window-1", "buffer"], False)


def test_a_key_with_a_table_loses_its_stale_caption_and_others_stay() -> None:
    row = window()
    first = clip_document(rows_of(row, caption(row, "Old."), caption(row, "Other.", "qwen3")), None)
    second = clip_document(rows_of(row, failed_caption(row)), first)
    made = second["windows"][0]
    assert "qwen_caption" not in made
    assert made["qwen3_caption"] == "Other."
    assert made["status"] == "failed"
    assert made["error"] == {"kind": "engine", "message": "it ran out of memory", "key": "qwen_caption"}
    assert made["provenance"]["qwen_caption"]["error"] == {"kind": "engine", "message": "it ran out of memory"}
    empty_table = ClipRows((row,), captions={"qwen": {}, "qwen3": {}})
    assert "qwen3_caption" not in clip_document(empty_table, second)["windows"][0]


def test_a_caption_of_other_content_is_left_out() -> None:
    old, new = window(), window(content_hash="another film")
    document = clip_document(rows_of(new, caption(old), preview(old)), None)
    (made,) = document["windows"]
    assert "qwen_caption" not in made
    assert "preview" not in made
    assert made["status"] == "skipped"
    assert "provenance" not in made


def test_an_enhanced_caption_goes_when_its_caption_changes() -> None:
    row = window()
    text = enhanced(caption(row, "Old."))
    first = clip_document(rows_of(row, caption(row, "Old."), text), None)
    assert first["windows"][0]["qwen_lm_enhanced_caption"] == "A fine bike."
    for changed in (caption(row, "New."), failed_caption(row)):
        made = clip_document(rows_of(row, changed, text), first)["windows"][0]
        assert "qwen_lm_enhanced_caption" not in made
        assert "qwen_lm_enhanced_caption" not in made.get("provenance", {})


def test_an_edited_text_stands_beside_the_models_for_as_long_as_that_is_the_one_that_was_edited() -> None:
    row = window()
    text, other = caption(row), caption(row, "A motorbike.")
    better = enhanced(text)
    said = (
        verdict(text, "edited", edited="A red bike.", at="1"),
        verdict(text, "wrong", "bob", at="2"),
        verdict(better, "edited", edited="A fine red bike.", at="3"),
    )

    def document(one: CaptionRow, verdicts: tuple[VerdictRow, ...], existing: Document | None = None) -> Document:
        rows = replace(rows_of(row, one, replace(better, caption_hash=text_hash(one.text or ""))), verdicts=verdicts)
        return clip_document(rows, existing)

    edited = document(text, said)
    item = edited["windows"][0]
    assert item["qwen_caption"] == "A bike."
    assert item["qwen_reviewed"] == "A red bike."
    assert item["qwen_lm_enhanced_reviewed"] == "A fine red bike."
    assert item["provenance"]["qwen_reviewed"] == {"of": "qwen_caption", "reviewer": "ann", "reviewed_at": "1"}
    assert first_real_caption(item) == "A bike."
    assert "qwen_reviewed" not in document(other, said, edited)["windows"][0]
    withdrawn = document(text, (*said, verdict(text, "withdrawn", at="4")), edited)["windows"][0]
    assert "qwen_reviewed" not in withdrawn
    assert "qwen_reviewed" not in withdrawn["provenance"]


def test_another_tools_caption_can_be_enhanced() -> None:
    row = window()
    by_hand = {"windows": [{"start_frame": 0, "end_frame": 249, "human_caption": "By hand."}]}
    text = enhanced(caption(row, "By hand.", "human"))
    assert clip_document(rows_of(row, text), by_hand)["windows"][0]["qwen_lm_enhanced_caption"] == "A fine bike."
    broken = {"windows": [{"start_frame": 0, "end_frame": 249, "human_caption": "\ud800"}]}
    assert "qwen_lm_enhanced_caption" not in clip_document(rows_of(row, text), broken)["windows"][0]


def test_a_failed_enhancement_leaves_the_caption_and_says_why() -> None:
    row = window()
    text = enhanced(caption(row), None, status="failed", error_kind="engine", error="no answer")
    made = clip_document(rows_of(row, caption(row), text), None)["windows"][0]
    assert made["status"] == "ok"
    assert "qwen_lm_enhanced_caption" not in made
    assert made["provenance"]["qwen_lm_enhanced_caption"]["error"] == {"kind": "engine", "message": "no answer"}


@pytest.mark.parametrize(
    ("captions", "status"),
    [
        ([], "skipped"),
        ([caption(window())], "ok"),
        ([caption(window(), None, status="skipped", error_kind="config", error="no")], "skipped"),
        ([caption(window(), key="qwen3"), failed_caption(window())], "failed"),
        ([caption(window(), None, status="skipped", error_kind="config"), caption(window(), key="qwen3")], "ok"),
    ],
)
def test_the_status_says_how_captioning_ended(captions: list[CaptionRow], status: str) -> None:
    made = clip_document(rows_of(window(), *captions), None)["windows"][0]
    assert made["status"] == status
    assert ("error" in made) == any(row.status == status != "ok" for row in captions)


def test_a_clip_without_windows_is_invalid_and_says_why_until_it_has_some() -> None:
    broken = clip_document(rows_of(failed_clip()), {**CUT, "errors": ["transcode", "windows"], "width": 640})
    assert broken["windows"] == []
    assert broken["valid"] is False
    assert broken["errors"] == ["transcode", "windows"]
    assert broken["error_details"] == {"windows": "it holds no video"}
    assert "width" not in broken
    repaired = clip_document(rows_of(window()), broken)
    assert repaired["valid"] is True
    assert repaired["errors"] == ["transcode"]
    assert "error_details" not in repaired


def test_a_splitters_words_about_the_source_are_kept_and_only_those() -> None:
    assert {key: clip_document(rows_of(window()), CUT)[key] for key in CUT} == CUT
    partly = clip_document(rows_of(window()), {"source_video": "/data/long.mp4"})
    assert (partly["duration_span"], partly["width_source"]) == ([0.0, 10.0], None)
    for existing in (None, {}, {"source_video": "/data/videos/bikes.mp4", "duration_span": [1.0, 2.0]}):
        own = clip_document(rows_of(window()), existing)
        assert own["source_video"] == own["clip_location"] == "/data/videos/bikes.mp4"
        assert own["duration_span"] == [0.0, 10.0]
        assert (own["width_source"], own["height_source"], own["framerate_source"]) == (640, 272, 25.0)


def test_a_dataset_that_was_moved_is_not_taken_for_a_splitters() -> None:
    before = clip_document(rows_of(window(location="/old/bikes.mp4")), None)
    after = clip_document(rows_of(window(location="/new/bikes.mp4")), before)
    assert after["source_video"] == after["clip_location"] == "/new/bikes.mp4"


@pytest.mark.parametrize("existing", [{"windows": None, "errors": "one"}, {"windows": {}, "errors": {"one": "text"}}])
def test_odd_documents_are_read_for_what_they_are_worth(existing: Document) -> None:
    document = clip_document(rows_of(window()), existing)
    assert document["errors"] == ["one"]
    assert len(document["windows"]) == 1


# Videos and chunks


def test_an_unreadable_video_has_all_keys() -> None:
    document = own_video_document(failed_clip())
    assert document["video"] == "/data/videos/bikes.mp4"
    assert document["num_frames"] is None
    chunk = chunk_document(None, "v", 0, {"a": summarize(clip_document(rows_of(failed_clip()), None))}, ("a",))
    assert chunk["num_clips_passed"] == 1
    assert chunk["num_clips_transcoded"] == chunk["num_windows"] == 0
    assert chunk["total_clip_duration"] == chunk["max_clip_duration"] == 0.0
    assert chunk["all_windows"] == {"a": {}}


def test_a_chunk_counts_windows_and_keeps_the_splitters_figures() -> None:
    rows = [window(end=95, start=0), window(start=96, end=191), window(start=192, end=249)]
    ours = clip_document(rows_of(*rows, caption(rows[0]), failed_caption(rows[1]), preview(rows[0])), CUT)
    theirs = {"num_bytes": 5, "windows": [{"start_frame": 0, "end_frame": 9, "x_caption": "X", "y_caption": "Y"}]}
    existing = {
        "video": "/data/long.mp4",
        "clip_chunk_index": 3,
        "num_clips_filtered_by_motion": 1,
        "num_clips_passed": 3,
        "num_clips_transcoded": 4,
        "num_clips_with_embeddings": 2,
        "total_clip_duration": 40.0,
        "clips": ["ours", "theirs", "unknown"],
        "filtered_clips": ["filtered"],
        "all_windows": {"unknown": {"0_9": "Kept."}, "ours": {"0_9": "Stale."}},
        "note": "theirs",
    }
    summaries = {"ours": summarize(ours), "theirs": summarize(theirs), "filtered": summarize(ours)}
    assert chunk_document(existing, "ignored", 0, summaries, ()) == {
        **existing,
        "num_clips_filtered_by_aesthetic": 0,
        "num_clips_with_caption": 2,
        "num_clips_with_webp": 1,
        "max_clip_duration": 10.0,
        "all_windows": {"ours": {"0_95": "A bike."}, "theirs": {"0_9": "X"}, "unknown": {"0_9": "Kept."}},
        "all_windows_enhanced_caption": {"ours": {}, "theirs": {}, "unknown": {}},
        "num_windows": 4,
        "num_windows_with_caption": 2,
        "num_windows_failed": 1,
    }


def test_clips_that_no_chunk_lists_are_added_once() -> None:
    summary = summarize(clip_document(rows_of(window()), CUT))
    first = chunk_document(None, "v", 0, {"a": summary}, ("a",))
    second = chunk_document(first, "v", 0, {"a": summary, "b": summary}, ("b",))
    assert second["clips"] == ["a", "b"]
    assert (second["num_clips_passed"], second["num_clips_transcoded"]) == (2, 2)
    assert (second["total_clip_duration"], second["max_clip_duration"]) == (20.0, 10.0)
    assert chunk_document(second, "v", 0, {"a": summary, "b": summary}, ()) == second


def test_a_splitters_video_is_kept_and_its_gaps_are_filled() -> None:
    clip = clip_document(rows_of(window()), CUT)
    made = cut_video_document(None, clip, 2, 1)
    assert (made["video"], made["width"], made["framerate"]) == ("/data/long.mp4", 1920, 50.0)
    assert made["num_frames"] is None
    assert (made["num_total_clips"], made["num_clip_chunks"]) == (2, 1)
    theirs = {**made, "num_frames": 1500, "num_total_clips": 3, "note": 1}
    assert cut_video_document(theirs, clip, 2, 1) == theirs
    assert cut_video_document(made, clip, 5, 2)["num_total_clips"] == 5


def test_enhanced_captions_of_several_variants_stand_beside_each_other() -> None:
    row = window()
    captions = [caption(row, "A bike.", "qwen"), caption(row, "A cycle.", "nemotron-fp8")]
    by_qwen, by_nemotron = (enhanced(text, f"{text.text} So fine.") for text in captions)
    other = enhanced(captions[1], "Otherwise.", "other_lm")
    first = clip_document(rows_of(row, *captions, by_nemotron, by_qwen, other), None)
    (made,) = first["windows"]
    texts = {key: value for key, value in made.items() if "caption" in key}
    assert texts == {
        "qwen_caption": "A bike.",
        "nemotron-fp8_caption": "A cycle.",
        "qwen_lm_enhanced_caption": "A bike. So fine.",
        "other_lm_enhanced_caption": "Otherwise.",
        "nemotron-fp8+qwen_lm_enhanced_caption": "A cycle. So fine.",
    }
    assert list(texts) == [key for key in made["provenance"] if key in texts] == list(made["provenance"])
    assert made["provenance"]["nemotron-fp8+qwen_lm_enhanced_caption"]["caption_key"] == "nemotron-fp8"
    # Once the first one is gone, the other has the original's key, and nothing is left behind.
    (after,) = clip_document(rows_of(row, captions[1], by_nemotron, by_qwen), first)["windows"]
    assert after["qwen_lm_enhanced_caption"] == "A cycle. So fine."
    assert "nemotron-fp8+qwen_lm_enhanced_caption" not in after
