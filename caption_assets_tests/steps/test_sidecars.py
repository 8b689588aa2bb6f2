"""Files beside a clip say something about it, found by the listing alone, and read where a prompt names them."""

import pytest

from caption_assets.dataset import clip_id, open_dataset
from caption_assets.errors import ConfigError
from caption_assets.records import text_hash
from caption_assets.settings import CaptionModelSettings, CaptionSettings, EnhanceSettings, TextModelSettings
from caption_assets.steps import caption_shards, enhance_shards, model_session
from caption_assets.steps.sidecars import SidecarError, Sidecars
from caption_assets.store import ENHANCED_CAPTIONS, WINDOW_CAPTIONS
from caption_assets_tests.rows import window
from caption_assets_tests.steps.conftest import UUID

VTT = """WEBVTT

00:01.000 --> 00:02.500 align:start
Hello <b>there</b>

00:00:02.500 --> 00:00:04.000
<v Ann>More &amp; more
and more
"""
NAMES = ("sidecar.txt", "sidecar.json.title", "sidecar.json", "sidecar.vtt")


def clips(root):
    dataset = open_dataset(root)
    (shard,) = dataset.shards()
    return dataset.listing(shard)


def said(clip, start_s=0.0, end_s=1.0, names=NAMES):
    row = window(clip.clip_id, sidecars=clip.sidecars, start_s=start_s, end_s=end_s)
    return Sidecars([row], names).values(row)


@pytest.mark.parametrize("where", ["a", "."], ids=["folder", "flat"])
def test_files_beside_clips_are_theirs_and_read_when_asked_for(tmp_path, where):
    files = {"x.mp4": "", "x.txt": "A note.\n", "x.vtt": VTT, "y.mp4": "", "z.txt": "", "x.srt": ""}
    files["x.mp4.json"] = '{"title": "T", "tags": ["a"]}'
    (tmp_path / where).mkdir(exist_ok=True)
    for name, text in files.items():
        (tmp_path / where / name).write_text(text)
    listing = clips(str(tmp_path))
    first, second = listing.clips
    assert [location.rpartition("/")[2] for location in first.sidecars] == ["x.txt", "x.vtt", "x.mp4.json"]
    assert second.sidecars == ()
    assert sorted(name.rpartition("/")[2] for of in listing.left_out for name in of.names) == ["x.srt", "z.txt"]
    values = said(first, 0.0, 2.0)
    assert (values["sidecar.txt"], values["sidecar.vtt"]) == ("A note.", "Hello there")
    assert (values["sidecar.json"], values["sidecar.json.title"]) == (files["x.mp4.json"], "T")
    assert said(first, 2.5, 9.0)["sidecar.vtt"] == "More & more\nand more"
    assert said(first, 4.0, 9.0)["sidecar.vtt"] == ""
    (tmp_path / where / "x.vtt").write_bytes(VTT.replace("\n", "\r\n").encode())
    assert said(first, 2.5, 9.0)["sidecar.vtt"] == "More & more\nand more"
    (tmp_path / where / "x.txt").write_bytes(b"\xff")
    assert clips(str(tmp_path)).version == listing.version
    assert said(first, names=["sidecar.vtt"]) == {"sidecar.vtt": ""}
    with pytest.raises(SidecarError, match=r"x\.txt: it cannot be used"):
        said(first)
    (tmp_path / where / "x.mp4.json").write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(SidecarError, match=r"x\.mp4\.json: it cannot be used"):
        said(first, names=["sidecar.json"])


def test_sidecars_in_a_bucket_take_no_request_before_they_are_asked_for(s3):
    for name, text in {"a/x.mp4": "", "a/x.vtt": VTT, "a/y.mp4": "", "a/y.txt": "Y"}.items():
        s3.put(f"in/{name}", text.encode())
    s3.asked.clear()
    first, second = clips(f"s3://{s3.bucket}/in").clips
    assert s3.count(f"/{s3.bucket}/in/") == 0
    assert said(second) == {"sidecar.txt": "Y"}
    assert s3.count(f"/{s3.bucket}/in/a/y.txt") == 1
    assert said(first, 0.0, 2.0) == {"sidecar.vtt": "Hello there"}


def test_prompts_name_what_files_beside_a_clip_say_and_a_clip_without_them_fails_alone(house):
    asked = CaptionSettings(max_output_tokens=4, prompt_text="It is {sidecar.json.title}: {sidecar.txt} Describe it.")

    def caption():
        house.plan("a")
        with model_session(CaptionModelSettings(device="cpu")) as session:
            (ended,) = caption_shards(house.context, ["a"], session, asked)
        rows = house.store.read_rows(WINDOW_CAPTIONS, "a", "demo")
        return ended.outcome, {row.clip_id: row for row in rows}

    (house.clips / "a" / "named.json").write_text('{"title": "a race"}')
    (house.clips / "a" / "named.txt").write_text("Fast cars.\n")
    report, rows = caption()
    named, other = rows[clip_id("a/named.mp4")], rows[UUID]
    assert named.prompt_hash == text_hash("It is a race: Fast cars. Describe it.")
    assert (other.status, other.error_kind, other.text) == ("failed", "sidecar", None)
    assert "{sidecar.json.title}" in other.error
    assert report.failures == {"sidecar": 2}
    (house.clips / "a" / f"{UUID}.json").write_text('{"title": "a walk"}')
    (house.clips / "a" / f"{UUID}.txt").write_text("")
    report, rows = caption()
    assert (report.reused, report.failed, rows[UUID].prompt_hash) == (1, 0, text_hash("It is a walk:  Describe it."))
    (house.clips / "a" / "named.txt").write_text("Slow cars.")
    report, rows = caption()
    assert report.reused == 2
    (house.clips / "a" / "named.txt").rename(house.clips / "a" / "elsewhere")
    (house.clips / "a" / "named.txt").symlink_to("nowhere")
    (house.clips / "a" / f"{UUID}.json").unlink()
    report, kept = caption()
    assert (report.reused, report.failed, report.figures["kept_texts"], kept) == (3, 0, 3, rows)
    asked = asked.model_copy(update={"prompt_text": "Describe it, by {sidecar.txt}"})
    assert caption()[0].failures == {"sidecar": 1}


def test_prompts_of_enhanced_captions_name_the_same(house):
    asked = EnhanceSettings(
        max_output_tokens=4,
        include_flagged=True,
        prompt_text="Of {clip.relative_path}, after <{previous_caption}>: {sidecar.txt}",
    )

    def enhance():
        house.plan("a")
        with model_session(TextModelSettings(device="cpu")) as session:
            (ended,) = enhance_shards(house.context, ["a"], "demo", session, asked)
        rows = house.store.read_rows(ENHANCED_CAPTIONS, "a", "demo/demo_lm")
        return ended.outcome, {(row.clip_id, row.start_frame): row for row in rows}

    first, second = (row.text for row in house.store.read_rows(WINDOW_CAPTIONS, "a", "demo") if row.clip_id == UUID)
    assert first != second
    (house.clips / "a" / "named.txt").write_text("Fast cars.\r\nRed ones.")
    report, rows = enhance()
    assert report.failures == {"sidecar": 2}
    assert rows[clip_id("a/named.mp4"), 0].prompt_hash == text_hash("Of a/named.mp4, after <>: Fast cars.\nRed ones.")
    (house.clips / "a" / f"{UUID}.txt").write_text("A walk.")
    report, rows = enhance()
    assert (report.reused, report.failed) == (1, 0)
    hashes = [row.prompt_hash for (clip, _), row in rows.items() if clip == UUID]
    assert hashes == [text_hash(f"Of a/{UUID}.mp4, after <{text}>: A walk.") for text in ("", first)]
    (house.clips / "a" / f"{UUID}.txt").unlink()
    report, kept = enhance()
    assert (report.reused, report.figures["kept_texts"], kept) == (3, 2, rows)
    asked = asked.model_copy(update={"prompt_text": "By {sidecar.srt}"})
    with pytest.raises(ConfigError, match=r"\{sidecar\.srt\}"):
        enhance()
