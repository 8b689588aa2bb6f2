"""What people see of a shard: letter for letter, and within what an event may take."""

import dataclasses
import html
import re

import dagster as dg
import numpy as np
import pytest
from markdown_it import MarkdownIt

from caption_assets.defs.metadata import as_markdown, place_metadata, report_metadata, samples_table
from caption_assets.media.previews import encode_webp
from caption_assets.settings import PreviewSettings
from caption_assets.steps.report import Sample, ShardReport
from caption_assets.store.store import Store

HOSTILE = [
    "![x](javascript:alert(1)) [a](http://b) <img src=x onerror=y> `code` **bold** | a | ~~s~~",
    "# heading",
    "1. one",
    "- [ ] task",
    "&lt; &amp;",
    "a\\*b_c_",
    "https://example.org www.example.org me@example.org",
    "<!-- comment",
    "    indented",
    "line\n\n> quote\n\n***",
    "data:image/svg+xml;base64,AAAA",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_from_elsewhere_is_no_markdown(text):
    shown = MarkdownIt("commonmark", {"html": True}).enable("table").render(f"- {as_markdown(text)}")
    assert shown == f"<ul>\n<li>{html.escape(' '.join(text.split())).replace('&#x27;', chr(39))}</li>\n</ul>\n"
    assert "://" not in as_markdown(text)  # what makes an address a link by itself


def rendered(markdown):
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown)


@pytest.mark.parametrize("text", [*HOSTILE, "a || b | c", "back\\slash |", "日本語の説明。", "🎬 | 🎞"])
def test_a_sample_is_shown_letter_for_letter_in_its_cell(text):
    table = samples_table((Sample("a/b.mp4", "0_9", caption=text, findings=("cut_off",)),))
    head = re.findall(r"<th>(.*?)</th>", rendered(table))
    cells = re.findall(r"<td>(.*?)</td>", rendered(table))
    assert head == ["clip", "frames", "caption", "findings"]
    assert [html.unescape(cell) for cell in cells] == ["a/b.mp4", "0_9", " ".join(text.split()), "cut_off"]


def test_an_event_has_at_most_what_the_log_can_take():
    noise = np.random.default_rng(0).integers(0, 255, (12, 240, 427, 3), np.uint8)
    picture = encode_webp(noise, 1.0, PreviewSettings()).data
    long = "字|" * 5000
    samples = [
        Sample(long, "0_255", long, long, (-0.1, -1.0), (long, long), picture=picture if at < 4 else None)
        for at in range(8)
    ]
    report = ShardReport(
        asset="window_captions",
        shard="a",
        clips=8,
        ok=8,
        failed=20,
        skipped=0,
        reused=0,
        seconds=1.0,
        location="/out/tables/window_captions/demo/a.parquet",
        data_version="0" * 32,
        input_versions={},
        failures={"decode": 20},
        failed_items=(long,) * 20,
        figures={f"figure_{k}": 1.234 for k in range(30)},
    )

    def size(**more):
        shown = dg.AssetMaterialization("a", metadata=report_metadata(dataclasses.replace(report, **more)))
        return len(dg.serialize_value(shown))

    small = [dataclasses.replace(sample, picture=None) for sample in samples]
    assert 10_000 < size(samples=tuple(small)) < 20_000
    assert size(samples=tuple(small)) < size(samples=tuple(samples)) < 60_000


def test_the_page_to_review_is_named_once_it_is_there(tmp_path):
    store = Store(tmp_path)
    assert set(place_metadata(store, "s3://bucket/clips", "a b", None)) == {"dataset_root", "documents"}
    store.write_bytes("review/a b.html", b"<html>")
    places = place_metadata(store, "s3://bucket/clips", "a b", None)
    assert places["review_page"] == dg.MetadataValue.path(str(tmp_path / "review" / "a b.html"))
    served = place_metadata(store, "s3://bucket/clips", "a b", "http://127.0.0.1:3001/")
    assert served["review_page"] == dg.MetadataValue.url("http://127.0.0.1:3001/review/a%20b.html")
    assert places["dataset_root"] == dg.MetadataValue.url("s3://bucket/clips")
