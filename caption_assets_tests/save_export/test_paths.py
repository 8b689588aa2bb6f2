"""Path rules: the original's helpers, our own paths, and what cannot be a path."""

import pytest

from caption_assets.errors import StoreError
from caption_assets.save_export import paths
from caption_assets.store import paths as tables


@pytest.mark.parametrize("root", ["/outputs", "/outputs/", "s3://bucket/out/"])
def test_helpers_give_what_the_originals_give(root: str) -> None:
    base = root.rstrip("/")
    assert paths.get_output_path_clips(root) == f"{base}/clips"
    assert paths.get_output_path_clips(root, filtered=True) == f"{base}/filtered_clips"
    assert paths.get_output_path_previews(root) == f"{base}/previews"
    assert paths.get_output_path_metas(root, "v0") == f"{base}/metas/v0"
    assert paths.get_output_path_ce1_embd(root) == f"{base}/ce1_embd"
    assert paths.get_output_path_ce1_embd_parquet(root) == f"{base}/ce1_embd_parquet"
    assert paths.get_output_path_processed_videos(root) == f"{base}/processed_videos"
    assert paths.get_output_path_processed_clip_chunks(root) == f"{base}/processed_clip_chunks"


def test_files_lie_where_readers_of_the_layout_look() -> None:
    assert paths.clip_document("c") == "metas/v0/c.json"
    assert paths.preview("c", 256, 511) == "previews/c/256_511.webp"
    assert paths.processed_video("sub/a.mp4") == "processed_videos/sub/a.mp4.json"
    assert paths.processed_clip_chunk("sub/a.mp4", 1) == "processed_clip_chunks/sub/a.mp4_1.json"
    assert paths.window_mp4("c", 0, 255) == "window_clips/c/0_255.mp4"
    assert tables.table("clip_windows", "s") == "tables/clip_windows/s.parquet"
    assert tables.table("window_captions", "s", "qwen2.5") == "tables/window_captions/qwen2.5/s.parquet"
    assert tables.table_parts("window_captions", "s", "qwen2.5") == "tables/window_captions/qwen2.5/s.parts"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\0b"])
def test_names_that_would_leave_their_folder_are_refused(name: str) -> None:
    for make in (paths.clip_document, tables.table_folder, lambda name: tables.table("clip_windows", name)):
        with pytest.raises(StoreError, match="cannot name a file"):
            make(name)


def test_names_too_long_for_a_file_are_cut_and_stay_distinct() -> None:
    names = ["sub/" + "é" * 120 + f"{n}.mp4" for n in range(12)] + ["x" * 250 + ".mp4", "x" * 251 + ".mp4"]
    made = [
        make(name) for name in names for make in (paths.processed_video, lambda n: paths.processed_clip_chunk(n, 0))
    ]
    assert len(set(made)) == len(made)
    assert all(len(part.encode()) <= 255 for path in made for part in path.split("/"))
    assert paths.processed_video("x" * 250) == f"processed_videos/{'x' * 250}.json"


@pytest.mark.parametrize(
    ("source", "root", "rel"),
    [
        ("/data/videos/sub/a.mp4", "/data/videos", "sub/a.mp4"),
        ("/data/videos/sub/a.mp4", "/data//videos/", "sub/a.mp4"),
        ("file:///data/videos/a.mp4", "/data/videos", "a.mp4"),
        ("s3://bucket/in/a.mp4", "s3://bucket/in/", "a.mp4"),
        ("./in/a.mp4", "in", "a.mp4"),
        ("/data/videos/x.mp4", "/data/vid", None),
        ("/data/a.mp4", "/data/a.mp4", None),
        ("/data/videos/../secret/a.mp4", "/data/videos", None),
        ("data/a.mp4", "/data", None),
        ("gs://bucket/in/a.mp4", "s3://bucket/in", None),
    ],
)
def test_a_source_is_named_below_its_root_by_whole_components(source: str, root: str, rel: str | None) -> None:
    assert paths.source_relative(source, root) == rel
