"""On an object store, documents are written without being read, and nothing that others have put there is lost."""

from collections.abc import Iterator

import pytest

from caption_assets.save_export import paths
from caption_assets.save_export.files import read_document, write_document
from caption_assets.save_export.render import RenderSummary, render_shard
from caption_assets.store.store import Store
from caption_assets.store.tables import CLIP_WINDOWS, ENHANCED_CAPTIONS, WINDOW_CAPTIONS
from caption_assets_tests.rows import caption, enhanced, window
from caption_assets_tests.s3 import S3Server

CLIPS = [f"clip-{number}" for number in range(6)]
ROWS = [window(clip, relative_path=f"{clip}.mp4", location=f"/data/{clip}.mp4") for clip in CLIPS]
TEXTS = [caption(row, f"Text of {row.clip_id}.") for row in ROWS]
MORE = [enhanced(text, f"More of {text.clip_id}.") for text in TEXTS]


@pytest.fixture(params=["heeds conditions", "ignores them"])
def server(s3: S3Server, request: pytest.FixtureRequest) -> Iterator[S3Server]:
    s3.ignores_conditions = request.param == "ignores them"
    return s3


@pytest.fixture
def store(server: S3Server) -> Store:
    store = Store(f"s3://{server.bucket}/out")
    store.commit_rows(CLIP_WINDOWS, "s", ROWS)
    store.commit_rows(WINDOW_CAPTIONS, "s", TEXTS, "qwen")
    return store


def asked(server: S3Server, method: str) -> int:
    return server.count(f"/{server.bucket}/out/metas/", [method])


def texts(store: Store, key: str) -> list[str | None]:
    documents = [read_document(store, paths.clip_document(clip)) or {} for clip in CLIPS]
    return [document["windows"][0].get(key) for document in documents]


def render_twice(store: Store, between: tuple[str, ...] = ()) -> RenderSummary:
    """With captions, then with enhanced ones; the documents of these clips are changed by another tool in between."""
    render_shard(store, "s")
    for clip in between:
        rel = paths.clip_document(clip)
        write_document(store, rel, {**(read_document(store, rel) or {}), "motion_score": 0.5})
    store.commit_rows(ENHANCED_CAPTIONS, "s", MORE, "qwen/qwen_lm")
    return render_shard(store, "s")


def test_documents_are_written_unread(store: Store, server: S3Server) -> None:
    assert render_twice(store) == RenderSummary(written=12, unchanged=6)
    reads = len(CLIPS) * 2 if server.ignores_conditions else 0
    assert (asked(server, "PUT"), asked(server, "GET")) == (len(CLIPS) * 2, reads)
    assert texts(store, "qwen_caption") == [f"Text of {clip}." for clip in CLIPS]
    assert texts(store, "qwen_lm_enhanced_caption") == [f"More of {clip}." for clip in CLIPS]


@pytest.mark.parametrize("changed", [CLIPS[:1], CLIPS[2:4], CLIPS], ids=["the first", "some", "all"])
def test_what_another_tool_has_put_in_between_stays(store: Store, server: S3Server, changed: list[str]) -> None:
    render_twice(store, tuple(changed))
    for again in (False, True):
        if again:
            store.commit_rows(ENHANCED_CAPTIONS, "s", [enhanced(text, "Other.") for text in TEXTS], "qwen/qwen_lm")
            render_shard(store, "s")
        for clip in CLIPS:
            document = read_document(store, paths.clip_document(clip)) or {}
            assert document.get("motion_score") == (0.5 if clip in changed else None)
            wanted = "Other." if again else f"More of {clip}."
            assert document["windows"][0]["qwen_lm_enhanced_caption"] == wanted


def test_documents_that_a_splitter_has_written_are_read_at_once(store: Store, server: S3Server) -> None:
    for clip in CLIPS:
        document = {"span_uuid": clip, "source_video": "/videos/long.mp4", "duration_span": [3.0, 13.0]}
        write_document(store, paths.clip_document(clip), document)
    server.asked.clear()
    render_shard(store, "s", source_root="/videos")
    refused = 0 if server.ignores_conditions else 1
    assert (asked(server, "GET"), asked(server, "PUT")) == (len(CLIPS), len(CLIPS) + refused)
    for clip in CLIPS:
        assert (read_document(store, paths.clip_document(clip)) or {})["duration_span"] == [3.0, 13.0]
    assert texts(store, "qwen_caption") == [f"Text of {clip}." for clip in CLIPS]


def test_captions_of_a_table_that_is_gone_stay(store: Store, server: S3Server) -> None:
    store.commit_rows(WINDOW_CAPTIONS, "s", [caption(row, "Mine.", "mine") for row in ROWS], "mine")
    render_shard(store, "s")
    store.delete("tables/window_captions/mine/s.parquet")
    store.commit_rows(WINDOW_CAPTIONS, "s", [caption(row, "New.") for row in ROWS], "qwen")
    render_shard(store, "s")
    assert texts(store, "mine_caption") == ["Mine."] * len(CLIPS)
    assert texts(store, "qwen_caption") == ["New."] * len(CLIPS)


def test_a_document_that_is_gone_is_written_again(store: Store, server: S3Server) -> None:
    render_shard(store, "s")
    for clip in CLIPS[1:3]:
        store.delete(paths.clip_document(clip))
    store.commit_rows(WINDOW_CAPTIONS, "s", [caption(row, "New.") for row in ROWS], "qwen")
    render_shard(store, "s")
    assert texts(store, "qwen_caption") == ["New."] * len(CLIPS)
