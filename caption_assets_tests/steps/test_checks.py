"""Checks: a good shard passes all of them, and each finds what it looks for."""

from dataclasses import replace

import pytest
from pydantic import ValidationError

from caption_assets.settings import CheckSettings
from caption_assets.steps.checks import check_shard
from caption_assets.store.store import Store
from caption_assets.store.tables import (
    CAPTION_FINDINGS,
    CLIP_WINDOWS,
    ENHANCED_CAPTIONS,
    ENHANCED_FINDINGS,
    WINDOW_CAPTIONS,
    WINDOW_PREVIEWS,
)
from caption_assets_tests.rows import caption, enhanced, failed_caption, failed_clip, finding, preview, window

KEYS = {WINDOW_CAPTIONS: "qwen", CAPTION_FINDINGS: "qwen"}
KEYS |= {ENHANCED_CAPTIONS: "qwen/qwen_lm", ENHANCED_FINDINGS: "qwen/qwen_lm"}


def good_shard(windows: int = 20):
    """The rows of a shard of as many clips, by table."""
    cut = [window(f"clip-{k:02}", relative_path=f"{k:02}.mp4") for k in range(windows)]
    texts = [caption(row, f"A bike, {k}.", mean_logprob=-0.1) for k, row in enumerate(cut)]
    longer = [enhanced(text, f"A fine bike, {k}.") for k, text in enumerate(texts)]
    return {
        CLIP_WINDOWS: cut,
        WINDOW_PREVIEWS: [preview(row, num_bytes=3) for row in cut],
        WINDOW_CAPTIONS: texts,
        CAPTION_FINDINGS: list(map(finding, texts)),
        ENHANCED_CAPTIONS: longer,
        ENHANCED_FINDINGS: list(map(finding, longer)),
    }


def checked(tmp_path, rows, **settings):
    store = Store(str(tmp_path))
    for row in rows[WINDOW_PREVIEWS]:
        if row.path:
            store.write_bytes(row.path, b"123")
    for table, of_table in rows.items():
        store.commit_rows(table, "a", of_table, KEYS.get(table))
    return check_shard(store, "a", CheckSettings(**settings))


def test_a_good_shard_passes_all_checks_and_one_that_is_not_there_has_none(tmp_path):
    results = checked(tmp_path, good_shard())
    assert len(results) == 14
    assert [c.check for c in results if not c.passed] == []
    assert {c.check: c.judgement.figures["of"] for c in results} == {c.check: 20 for c in results}
    assert check_shard(Store(str(tmp_path)), "b", CheckSettings()) == []


def planted(what):
    """A shard with a defect, and the clip that has it."""
    rows = good_shard()
    cut, texts, longer = rows[CLIP_WINDOWS], rows[WINDOW_CAPTIONS], rows[ENHANCED_CAPTIONS]
    if what == "clips_without_windows":
        for k in range(2):
            rows[CLIP_WINDOWS].append(failed_clip(f"bad-{k}", relative_path=f"bad-{k}.mp4", error_kind="not_video"))
    elif what == "frames_decoded":
        breaks_off = replace(cut[3], start_frame=None, end_frame=None, status="failed", error_kind="damaged")
        rows[CLIP_WINDOWS].append(replace(breaks_off, error="it breaks off"))
    elif what == "previews_made":
        rows[WINDOW_PREVIEWS][3] = replace(rows[WINDOW_PREVIEWS][3], status="failed", path=None, error="no ffmpeg")
    elif what == "preview_frames":
        rows[WINDOW_PREVIEWS][3] = replace(rows[WINDOW_PREVIEWS][3], num_frames=1)
    elif what == "preview_files":
        rows[WINDOW_PREVIEWS][3] = replace(rows[WINDOW_PREVIEWS][3], num_bytes=4)
    elif what == "texts_made":
        texts[3] = failed_caption(cut[3])
        del longer[3]
    elif what == "findings":
        rows[CAPTION_FINDINGS][3] = finding(texts[3], "error", refusal="it begins like a refusal")
    elif what == "low_confidence":
        rows[CAPTION_FINDINGS][:3] = [finding(text, low_confidence="its score is low") for text in texts[:3]]
    elif what == "near_duplicates":
        rows[CAPTION_FINDINGS][:3] = [finding(text, near_duplicate="it is like that") for text in texts[:3]]
    elif what == "facts_kept":
        rows[ENHANCED_FINDINGS][:2] = [finding(text, facts_lost="its caption's red is lost") for text in longer[:2]]
    return rows


WORST = {
    "clips_without_windows": "bad-0.mp4: it holds no video",
    "frames_decoded": "03.mp4: it breaks off",
    "previews_made": "03.mp4 0_249: no ffmpeg",
    "preview_frames": "03.mp4 0_249: 1 frames",
    "preview_files": "03.mp4 0_249: its file has 3 bytes, and was written with 4",
    "texts_made": "03.mp4 0_249: it ran out of memory",
    "findings": "03.mp4 0_249: refusal: it begins like a refusal: 'A bike, 3.'",
    "low_confidence": "00.mp4 0_249: low_confidence: its score is low: 'A bike, 0.'",
    "near_duplicates": "00.mp4 0_249: near_duplicate: it is like that: 'A bike, 0.'",
    "facts_kept": "00.mp4 0_249: facts_lost: its caption's red is lost: 'A fine bike, 0.'",
}


@pytest.mark.parametrize("name", WORST)
def test_each_check_finds_what_it_looks_for_alone_and_names_the_worst(tmp_path, name):
    rows = planted(name)
    (failed,) = (c for c in checked(tmp_path, rows) if not c.passed)
    assert (failed.check, failed.judgement.worst[0]) == (name, WORST[name])
    assert failed.judgement.figures["bad"] == len(failed.judgement.worst)
    assert "may" in failed.judgement.said
    off = checked(tmp_path, rows, severities={name: "off"})
    assert all(c.passed for c in off)
    assert name not in {c.check for c in off}


def test_what_is_known_of_another_text_is_no_finding_and_a_limit_is_the_users_choice(tmp_path):
    rows = planted("findings")
    rows[WINDOW_CAPTIONS][3] = replace(rows[WINDOW_CAPTIONS][3], text="Another one.")
    results = {(c.table, c.check): c for c in checked(tmp_path, rows)}
    judgement = results["window_captions", "findings"].judgement
    assert (judgement.passed, judgement.figures["of"], judgement.figures["not_judged"]) == (True, 19, 1)
    assert all(c.passed for c in checked(tmp_path, planted("findings"), most_flagged=0.05))
    with pytest.raises(ValidationError, match="there is no check 'fidnings'"):
        CheckSettings(severities={"fidnings": "off"})


def test_a_rule_that_is_an_error_by_choice_counts_among_the_errors_too(tmp_path):
    rows = good_shard()
    rows[CAPTION_FINDINGS][3] = finding(rows[WINDOW_CAPTIONS][3], "error", low_confidence="its score is low")
    (failed,) = (c for c in checked(tmp_path, rows) if not c.passed)
    assert (failed.check, failed.judgement.figures["texts_flagged"]) == ("findings", 1)
