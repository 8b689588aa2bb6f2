"""Findings: kept beside captions, rendered into documents, and heeded by who enhances."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from caption_assets.dataset import open_dataset
from caption_assets.demo.clips import render_dataset
from caption_assets.demo.world import sample_scene
from caption_assets.errors import ShardError
from caption_assets.save_export.files import read_document
from caption_assets.save_export.paths import clip_document
from caption_assets.settings import (
    CaptionModelSettings,
    CaptionSettings,
    EnhanceSettings,
    QualitySettings,
    TextModelSettings,
    WindowSettings,
)
from caption_assets.steps import StepContext, caption_shards, enhance_shards, model_session, window_shard
from caption_assets.steps.enhance import STEP
from caption_assets.steps.report import shard_report
from caption_assets.store.rows import EnhancedRow
from caption_assets.store.store import Store
from caption_assets.store.tables import CAPTION_FINDINGS, ENHANCED_CAPTIONS, ENHANCED_FINDINGS, WINDOW_CAPTIONS

LOOP = "A red circle is moving and moving on and " * 5


@pytest.fixture(scope="module")
def captioned(workers, tmp_path_factory):
    """A store with the captions of a shard of three clips."""
    rng, root = np.random.default_rng(5), tmp_path_factory.mktemp("clips")
    render_dataset(root, {"a": [sample_scene(rng, width=192, height=160, frame_rate=Fraction(24)) for _ in range(3)]})
    store = Store(str(tmp_path_factory.mktemp("out")))
    window_shard(StepContext(store, workers), open_dataset(str(root)), "a", WindowSettings())
    assert caption(store, workers).ok == 3
    return store


def caption(store, workers, **quality):
    context = StepContext(store, workers, quality=QualitySettings(**quality))
    with model_session(CaptionModelSettings(device="cpu")) as session:
        (ended,) = caption_shards(context, ["a"], session, CaptionSettings())
    return ended.outcome


def enhance(store, workers, **settings):
    with model_session(TextModelSettings(device="cpu")) as session:
        (ended,) = enhance_shards(StepContext(store, workers), ["a"], "demo", session, EnhanceSettings(**settings))
    return ended.outcome


def window_of(store, clip_id):
    return read_document(store, clip_document(clip_id))["windows"][0]


def test_good_captions_have_rows_without_findings_that_are_not_written_again(captioned, workers):
    rows = captioned.read_rows(CAPTION_FINDINGS, "a", "demo")
    assert [(row.severity, row.rules) for row in rows] == [("", ())] * 3
    file = Path(captioned.url("tables/caption_findings/demo/a.parquet"))
    before = file.stat().st_mtime_ns
    report = caption(captioned, workers)
    assert file.stat().st_mtime_ns == before
    assert (report.figures["texts_with_findings"], report.figures["texts_flagged"]) == (0, 0)
    assert "findings" not in window_of(captioned, rows[0].clip_id)
    stricter = caption(captioned, workers, least_confidence=-1e-9)
    assert (stricter.reused, stricter.figures["texts_with_findings"]) == (3, 3)
    assert stricter.figures["findings"] == "low_confidence 3"
    assert file.stat().st_mtime_ns != before
    assert caption(captioned, workers).figures["texts_with_findings"] == 0


def test_a_caption_that_is_of_no_use_is_not_enhanced_and_the_row_says_why(captioned, workers):
    first, *others = captioned.read_rows(WINDOW_CAPTIONS, "a", "demo")
    captioned.commit_rows(WINDOW_CAPTIONS, "a", [replace(first, text=LOOP), *others], "demo")
    report = caption(captioned, workers)  # as if the model had written it
    assert (report.reused, report.figures["texts_flagged"], report.figures["findings"]) == (3, 1, "repetition 1")
    window = window_of(captioned, first.clip_id)
    assert window["demo_caption"] == LOOP
    (finding,) = window["findings"]["demo_caption"]
    assert (finding["rule"], finding["severity"]) == ("repetition", "error")
    assert "times in a row" in finding["message"]
    assert next(value for key, value in window.items() if "caption" in key and isinstance(value, str)) == LOOP

    report = enhance(captioned, workers)
    assert (report.ok, report.skipped, report.failures) == (2, 1, {"flagged": 1})
    (skipped,) = (row for row in captioned.read_rows(ENHANCED_CAPTIONS, "a", "demo/demo_lm") if row.status != "ok")
    assert (skipped.clip_id, skipped.text, skipped.error_kind) == (first.clip_id, None, "flagged")
    assert skipped.error.startswith("its caption has a finding: repetition: ")
    assert "demo_lm_enhanced_caption" not in window_of(captioned, first.clip_id)
    assert len(captioned.read_rows(ENHANCED_FINDINGS, "a", "demo/demo_lm")) == 2

    caption(captioned, workers, severities={"repetition": "warning"})
    made = enhance(captioned, workers)
    assert made.ok == 3
    text = window_of(captioned, first.clip_id)["demo_lm_enhanced_caption"]

    # What was made before its caption was flagged stays, and says so; what read the captions is out of date.
    flagged = caption(captioned, workers)
    kept = enhance(captioned, workers)
    assert (kept.ok, kept.reused, kept.skipped) == (3, 3, 0)
    assert kept.input_versions == {"window_captions": flagged.data_version} != made.input_versions
    assert kept.data_version != made.data_version
    notes = {row.clip_id: row.caption_finding for row in captioned.read_rows(ENHANCED_CAPTIONS, "a", "demo/demo_lm")}
    assert notes.pop(first.clip_id).startswith("repetition: ")
    assert set(notes.values()) == {""}
    assert window_of(captioned, first.clip_id)["demo_lm_enhanced_caption"] == text
    captioned.delete_table(ENHANCED_CAPTIONS, "a", "demo/demo_lm")
    assert enhance(captioned, workers).skipped == 1
    included = enhance(captioned, workers, include_flagged=True)
    assert (included.ok, included.reused) == (3, 2)

    captioned.commit_rows(WINDOW_CAPTIONS, "a", [first, *others], "demo")
    assert enhance(captioned, workers).ok == 3  # what is known of another text counts for nothing
    assert "findings" not in window_of(captioned, first.clip_id)


def test_what_an_enhanced_caption_has_lost_is_a_finding(captioned, workers):
    caption(captioned, workers)
    enhance(captioned, workers)
    rows = captioned.read_rows(ENHANCED_CAPTIONS, "a", "demo/demo_lm")
    lost = replace(rows[0], text="The video shows an object that does what it does, and nothing else can be seen.")
    captioned.commit_rows(ENHANCED_CAPTIONS, "a", [lost, *rows[1:]], "demo/demo_lm")
    report = enhance(captioned, workers)
    assert (report.reused, report.figures["findings"]) == (3, "facts_lost 1")
    findings = window_of(captioned, lost.clip_id)["findings"]["demo_lm_enhanced_caption"]
    assert [finding["rule"] for finding in findings] == ["facts_lost"]


def test_a_shard_whose_captions_are_all_flagged_has_not_failed():
    def left_out(kind):
        of = {"key": "t", "caption_key": "c", "caption_hash": "h", "clip_id": "x", "start_frame": 0, "end_frame": 9}
        return EnhancedRow(**of, status="skipped", error_kind=kind, error="Why.")

    def report(*rows):
        return shard_report(STEP, "a", rows, seconds=0.0, location="somewhere")

    assert (report(left_out("flagged")).ok, report(left_out("flagged")).skipped) == (0, 1)
    with pytest.raises(ShardError, match="not one of 1 items worked"):
        report(left_out("flagged"), left_out("no_caption"))
