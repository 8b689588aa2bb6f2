"""The tree made from the same inputs as the golden one holds every golden file, key and value.

The golden clips were cut by a splitter, so its documents are there first, with its own fields only; the tables
bring the rest.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from caption_assets.save_export import paths
from caption_assets.save_export.files import parse_document, read_document, write_document
from caption_assets.save_export.render import render_shard
from caption_assets.store.rows import CaptionRow, EnhancedRow, WindowRow
from caption_assets.store.store import Store
from caption_assets.store.tables import CLIP_WINDOWS, ENHANCED_CAPTIONS, WINDOW_CAPTIONS, WINDOW_PREVIEWS
from caption_assets_tests.rows import BIKES, COSMOS, caption, enhanced, failed_clip, preview, video, window

GOLDEN = Path(__file__).parent / "golden"
COSMOS_VIDEO = video(width=854, height=480, frame_rate=24.0, duration_s=30.0, clip_frames=720, num_bytes=2678405)
COSMOS_TEXT = "Golden caption for cosmos_30s, window {} of 3."
BIKES_TEXT = 'Golden caption for bikes: a café terrace, 自転車, 50 % "quoted".\nSecond line.'
CUT, FILTERED, EMPTY = (
    "6eec9a17-4e7f-5f68-9502-5b3be81b4f20",
    "e30afb31-4f5b-560a-8170-ab61d92426f6",
    "a2c70eb7-818c-5c01-bb91-41ef8e1b35fa",
)

OUR_CLIP_KEYS = ("clip_location", "width", "height", "framerate", "num_frames", "video_codec", "num_bytes")
OUR_CLIP_KEYS += ("span_uuid", "windows", "valid")
OUR_CHUNK_KEYS = ("num_clips_with_caption", "num_clips_with_webp", "all_windows", "all_windows_enhanced_caption")


def golden(case: str) -> dict[str, dict[str, Any]]:
    root = GOLDEN / case
    return {path.relative_to(root).as_posix(): json.loads(path.read_text()) for path in root.rglob("*.json")}


def seed_splitter(store: Store, case: str) -> None:
    """Write what the splitter and the stages after it own; the filtered clip was never ours."""
    for rel, document in golden(case).items():
        ours = OUR_CHUNK_KEYS if rel.startswith("processed_clip_chunks/") else ()
        if rel.startswith("metas/") and FILTERED not in rel:
            ours = OUR_CLIP_KEYS
            if "windows" in document.get("errors", []):
                document["errors"].remove("windows")
        write_document(store, rel, {key: value for key, value in document.items() if key not in ours})


def uncut_windows(store: Store, own: bool) -> tuple[list[WindowRow], list[str]]:
    """Rows of the two whole videos, read in place or from the splitter's copies; and the hand-made captions."""

    def source(clip_id: str, name: str) -> dict[str, str]:
        copy = f"clips/{clip_id}.mp4"
        where = {"location": f"/data/videos/{name}", "relative_path": name}
        return where if own else {"location": store.url(copy), "relative_path": copy}

    cosmos = {**source(COSMOS, "cosmos_30s.mp4"), **COSMOS_VIDEO, "content_hash": "cosmos"}
    rows = [window(COSMOS, *frames, **cosmos) for frames in ((0, 255), (256, 511), (512, 719))]
    rows.append(window(BIKES, 0, 249, **source(BIKES, "bikes.mp4")))
    return rows, [*(COSMOS_TEXT.format(number) for number in (1, 2, 3)), BIKES_TEXT]


def commit(store: Store, rows: list[WindowRow], captions: list[CaptionRow], texts: list[EnhancedRow]) -> None:
    store.commit_rows(CLIP_WINDOWS, "clips", rows)
    store.commit_rows(WINDOW_PREVIEWS, "clips", [preview(row) for row in rows if row.start_frame is not None])
    for key in {row.key for row in captions}:
        store.commit_rows(WINDOW_CAPTIONS, "clips", [row for row in captions if row.key == key], key)
    if texts:
        store.commit_rows(ENHANCED_CAPTIONS, "clips", texts, f"{texts[0].caption_key}/qwen_lm")


def check(store: Store, case: str, *, root: str | None = None, except_for: tuple[str, ...] = ()) -> None:
    """Every golden document is there, with every golden key at an equal value; and no JSON beside them."""
    made = {path.relative_to(store.url()).as_posix(): path for path in Path(store.url()).rglob("*.json")}
    wanted = golden(case)
    assert sorted(made) == sorted(wanted)
    for rel, document in wanted.items():
        found = parse_document(made[rel].read_bytes().replace((root or store.url()).encode(), b"/outputs"))
        assert found is not None
        windows, found_windows = document.pop("windows", []), found.get("windows", [])
        for key in document.keys() - set(except_for):
            assert key in found, (rel, key)
            assert found[key] == document[key], (rel, key)
            assert type(found[key]) is type(document[key]), (rel, key)
        assert len(windows) == len(found_windows), rel
        for want, have in zip(windows, found_windows, strict=True):
            assert {key: have.get(key) for key in want} == want, rel
            assert [key for key in have if "caption" in key] == [key for key in want if "caption" in key], rel
        known = [key for key in found if key in document]
        assert known == [key for key in document if key not in except_for or key in known], rel


@pytest.mark.parametrize("source_root", ["/data/videos", None])
@pytest.mark.parametrize(("case", "key"), [("qwen_enhanced", "qwen"), ("nemotron_fp8", "nemotron-fp8")])
def test_clips_of_a_splitter_give_the_golden_tree(local: Store, case: str, key: str, source_root: str | None) -> None:
    seed_splitter(local, case)
    rows, texts = uncut_windows(local, own=False)
    captions = [caption(row, text, key) for row, text in zip(rows, texts, strict=True)]
    enhancements = [enhanced(row, f"Enhanced. {row.text}") for row in captions] if case == "qwen_enhanced" else []
    commit(local, rows, captions, enhancements)
    render_shard(local, "clips", caption_keys=[key], source_root=source_root)
    check(local, case)


@pytest.mark.parametrize(("case", "key"), [("qwen_enhanced", "qwen"), ("nemotron_fp8", "nemotron-fp8")])
def test_videos_read_in_place_give_the_golden_tree(local: Store, case: str, key: str) -> None:
    rows, texts = uncut_windows(local, own=True)
    captions = [caption(row, text, key) for row, text in zip(rows, texts, strict=True)]
    enhancements = [enhanced(row, f"Enhanced. {row.text}") for row in captions] if case == "qwen_enhanced" else []
    commit(local, rows, captions, enhancements)
    render_shard(local, "clips")
    check(local, case, except_for=("clip_location",))  # the clip is the source, and nothing copied it
    document = read_document(local, paths.clip_document(BIKES))
    assert document is not None
    assert document["clip_location"] == "/data/videos/bikes.mp4"


@pytest.mark.parametrize("source_root", ["/data/videos", None])
def test_partly_captioned_filtered_and_empty_clips_give_the_golden_tree(local: Store, source_root: str | None) -> None:
    case = "edge_cases"
    seed_splitter(local, case)
    probed = COSMOS_VIDEO | {"duration_s": 10.0, "clip_frames": 240, "num_bytes": 473940, "content_hash": "cut"}
    cut = {"location": local.url(f"clips/{CUT}.mp4"), "relative_path": f"{CUT}.mp4", "window_size": 96, **probed}
    rows = [window(CUT, *frames, remainder_threshold=48, **cut) for frames in ((0, 95), (96, 191), (192, 239))]
    empty = failed_clip(EMPTY, location=local.url(f"clips/{EMPTY}.mp4"), relative_path=f"{EMPTY}.mp4")
    captions = [
        caption(rows[0], "Second model caption.", "qwen3"),
        caption(rows[0], "First model caption.", "qwen2.5"),
        caption(rows[1], None, "qwen2.5", status="failed", error_kind="engine", error="no input"),
        caption(rows[2], "", "qwen2.5"),
    ]
    commit(local, [*rows, empty], captions, [enhanced(captions[1], "Enhanced caption.")])
    render_shard(local, "clips", caption_keys=["qwen2.5", "qwen3"], source_root=source_root)
    check(local, case)
    document = read_document(local, paths.clip_document(EMPTY))
    assert document is not None
    assert document["error_details"] == {"windows": "it holds no video"}


def test_previews_are_named_as_in_the_golden_listing() -> None:
    listing = (GOLDEN / "qwen_enhanced" / "listing.tsv").read_text().splitlines()
    named = {line.split("\t")[0] for line in listing if line.startswith("previews/")}
    assert named == {
        paths.preview(BIKES, 0, 249),
        paths.preview(COSMOS, 0, 255),
        paths.preview(COSMOS, 256, 511),
        paths.preview(COSMOS, 512, 719),
    }
