import pytest

from caption_assets.errors import ClipError, ConfigError
from caption_assets.models.families import FrameLimits
from caption_assets.models.prompts import CAPTION_PROMPTS, ENHANCE_PROMPTS, caption_prompt, enhance_prompt
from caption_assets.models.requests import enhance_request, frame_size, video_metadata
from caption_assets.models.variants import CAPTION_VARIANTS, TEXT_VARIANTS, caption_variant, text_variant
from caption_assets.records import FramePicks

QWEN25 = FrameLimits(28, 100352, 602112)
QWEN25_CHECKPOINT = FrameLimits(28, 3136, 12845056)
QWEN3_CHECKPOINT = FrameLimits(32, 4096, 25165824, per_video=True)


@pytest.mark.parametrize(
    ("width", "height", "frames", "limits", "expected"),
    [
        (1280, 720, 16, QWEN25_CHECKPOINT, (1288, 728)),
        (320, 240, 8, QWEN25_CHECKPOINT, (308, 252)),
        (1280, 720, 16, QWEN25, (1008, 560)),
        (320, 240, 8, QWEN25, (392, 280)),
        (1280, 720, 16, QWEN3_CHECKPOINT, (1280, 704)),
        (320, 240, 8, QWEN3_CHECKPOINT, (320, 256)),
        (1280, 720, 16, FrameLimits(32, 4096, 16 * 768 * 1024, per_video=True), (1152, 640)),
        (10, 8, 4, FrameLimits(28, 784, 12845056), (28, 28)),
        (1280, 720, 16, FrameLimits(32, 512 * 512, 512 * 512, shape="square"), (512, 512)),
        (1280, 720, 16, FrameLimits(32, 512 * 512, 512 * 512, shape="filled"), (672, 384)),
        (320, 240, 8, FrameLimits(32, 512 * 512, 512 * 512, shape="filled"), (576, 448)),
    ],
)
def test_frames_get_the_size_that_the_models_own_resize_would_give(width, height, frames, limits, expected):
    assert frame_size(width, height, frames, limits) == expected


@pytest.mark.parametrize("limits", [QWEN25, QWEN25_CHECKPOINT])
def test_frame_sizes_agree_with_transformers(limits):
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    for width in range(60, 2000, 97):
        for height in range(60, 2000, 89):
            theirs = smart_resize(height, width, limits.factor, limits.min_pixels, limits.max_pixels)
            assert frame_size(width, height, 8, limits) == theirs[::-1]


@pytest.mark.parametrize("frames", [4, 16])
def test_frame_sizes_of_limited_videos_agree_with_transformers(frames):
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import smart_resize

    for limits in (QWEN3_CHECKPOINT, FrameLimits(32, 16 * 256 * 256, 16 * 512 * 512, per_video=True)):
        for width in range(60, 2000, 97):
            for height in range(60, 2000, 89):
                bounds = {"factor": 32, "min_pixels": limits.min_pixels, "max_pixels": limits.max_pixels}
                theirs = smart_resize(frames, height, width, **bounds)
                assert frame_size(width, height, frames, limits) == theirs[::-1]


@pytest.mark.parametrize("frames", [1, 3, 5, 15])
def test_an_odd_number_of_frames_stays_within_the_videos_limits_when_it_is_made_even(frames):
    limits = FrameLimits(32, 4096, 16 * 256 * 256, per_video=True)
    for width, height in ((1280, 720), (640, 480), (300, 900)):
        w, h = frame_size(width, height, frames, limits)
        assert (frames + 1) * w * h <= limits.max_pixels


def test_a_frame_that_no_model_takes_is_refused():
    with pytest.raises(ClipError, match="differ 200 times"):
        frame_size(4001, 20, 4, QWEN25)
    assert frame_size(4000, 20, 4, QWEN25)[1] == 28


def test_metadata_tells_true_times_and_the_true_mean_rate():
    picks = FramePicks((0, 12, 24, 36), (0.0, 0.5005, 1.001, 1.5015))
    metadata = video_metadata(picks)
    assert [i / metadata["fps"] for i in metadata["frames_indices"]] == pytest.approx(picks.times_s, abs=6e-4)
    declared = len(picks.frame_ids) / metadata["total_num_frames"] * metadata["fps"]
    assert declared == pytest.approx(picks.fps, rel=1e-3)
    assert metadata["total_num_frames"] > max(metadata["frames_indices"])


def test_metadata_of_variable_rate_picks_keeps_each_time():
    picks = FramePicks((3, 4, 9, 10), (0.1, 0.9, 1.0, 4.0))
    assert video_metadata(picks)["frames_indices"] == [100, 900, 1000, 4000]


@pytest.mark.parametrize("times", [(1.5,), (3.0, 3.5), (0.0,), (0.0, 0.0)])
def test_metadata_has_more_moments_than_its_last_frame_comes_at(times):
    metadata = video_metadata(FramePicks(tuple(range(len(times))), times))
    assert metadata["total_num_frames"] >= max(len(times), metadata["frames_indices"][-1] + 1)
    assert metadata["duration"] == metadata["total_num_frames"] / metadata["fps"]


def test_a_caption_to_enhance_follows_the_instruction():
    (message,) = enhance_request("a", "Rewrite.", " A cat. ", 7).messages
    assert message == {"role": "user", "content": "Rewrite.\n\nA cat."}


def test_prompts_come_by_variant_or_as_text():
    assert set(CAPTION_PROMPTS) == {"default", "av", "av-surveillance", "short", "camera", "dense", "structured"}
    assert set(ENHANCE_PROMPTS) == {"default", "av-surveillance"}
    assert caption_prompt("av") == CAPTION_PROMPTS["av"]
    assert caption_prompt("default", " Say it. ") == "Say it."
    with pytest.raises(ConfigError, match=r"it is unknown\. Choose one of default, av-surveillance"):
        enhance_prompt("av")
    with pytest.raises(ConfigError, match="blank"):
        caption_prompt("default", "  ")


def test_variants_are_those_of_the_layout():
    wanted = {"qwen", "qwen2.5", "qwen3", "nemotron", "nemotron-bf16", "nemotron-fp8", "nemotron-nvfp4"}
    assert wanted < set(CAPTION_VARIANTS)
    assert all(name == variant.name for name, variant in CAPTION_VARIANTS.items())
    assert {TEXT_VARIANTS[name].name for name in ("qwen", "qwen2.5", "qwen3", "qwen_lm")} == {"qwen_lm"}
    with pytest.raises(ConfigError, match="Choose one of demo, qwen") as error:
        caption_variant("gpt")
    assert "'gpt'" in str(error.value)
    with pytest.raises(ConfigError):
        text_variant("qwen9")
