"""Files beside a clip say something about it, found by the listing alone."""

import pytest

from caption_assets.dataset import open_dataset
from caption_assets.errors import ClipError
from caption_assets.steps.sidecars import sidecar_texts

VTT = """WEBVTT

00:01.000 --> 00:02.500 align:start
Hello <b>there</b>

00:00:02.500 --> 00:00:04.000
<v Ann>More &amp; more
and more
"""


def clips(root):
    dataset = open_dataset(root)
    (shard,) = dataset.shards()
    return dataset.listing(shard)


@pytest.mark.parametrize("where", ["a", "."], ids=["folder", "flat"])
def test_files_beside_clips_are_theirs_and_read_when_asked_for(tmp_path, where):
    files = {"x.mp4": "", "x.txt": "A note.\n", "x.mp4.json": "{}", "x.vtt": VTT, "y.mp4": "", "z.txt": "", "x.srt": ""}
    (tmp_path / where).mkdir(exist_ok=True)
    for name, text in files.items():
        (tmp_path / where / name).write_text(text)
    listing = clips(str(tmp_path))
    first, second = listing.clips
    assert [sidecar.suffix for sidecar in first.sidecars] == [".txt", ".vtt", ".json"]
    assert second.sidecars == ()
    assert sorted(name.rpartition("/")[2] for of in listing.left_out for name in of.names) == ["x.srt", "z.txt"]
    assert sidecar_texts(first, 0.0, 2.0) == {"txt": "A note.", "json": "{}", "vtt": "Hello there"}
    assert sidecar_texts(first, 2.5, 9.0)["vtt"] == "More & more\nand more"
    assert sidecar_texts(first, 4.0, 9.0)["vtt"] == ""
    (tmp_path / where / "x.txt").write_bytes(b"\xff")
    assert clips(str(tmp_path)).version == listing.version
    with pytest.raises(ClipError, match=r"x\.txt: it cannot be used"):
        sidecar_texts(first, 0.0, 1.0)


def test_sidecars_in_a_bucket_take_no_request_before_they_are_asked_for(s3):
    for name, text in {"a/x.mp4": "", "a/x.vtt": VTT, "a/y.mp4": "", "a/y.txt": "Y"}.items():
        s3.put(f"in/{name}", text.encode())
    s3.asked.clear()
    first, second = clips(f"s3://{s3.bucket}/in").clips
    assert s3.count(f"/{s3.bucket}/in/") == 0
    assert sidecar_texts(second, 0.0, 1.0) == {"txt": "Y"}
    assert s3.count(f"/{s3.bucket}/in/a/y.txt") == 1
    assert sidecar_texts(first, 0.0, 2.0) == {"vtt": "Hello there"}
