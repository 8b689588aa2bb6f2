import json
import pickle
import re
import shutil
from dataclasses import FrozenInstanceError, fields, replace
from typing import get_args

import pytest

from caption_assets.errors import ConfigError, ModelError
from caption_assets.models.choice import ModelChoice
from caption_assets.models.engines.openai.inputs import Form
from caption_assets.models.families import FAMILIES, FrameLimits, family_of
from caption_assets.models.prompts import CAPTION_PROMPTS, ENHANCE_PROMPTS
from caption_assets.models.requests import frame_size
from caption_assets.models.variants import (
    CAPTION_VARIANTS,
    TEXT_VARIANTS,
    Precision,
    Sampling,
    own_variant,
    require_consent,
)
from caption_assets.models.weights.checkpoints import asked_limits, checkpoint_frame_limits, frame_limits
from caption_assets.settings import (
    AskedFamily,
    AskedPrecision,
    CaptionModelSettings,
    CaptionPrompt,
    CaptionVariant,
    ModelFamily,
    TextPrompt,
    TextVariant,
    VideoForm,
)

ROWS = {**{f"enhance {name}": row for name, row in TEXT_VARIANTS.items()}, **CAPTION_VARIANTS}


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (CaptionVariant, CAPTION_VARIANTS),
        (TextVariant, TEXT_VARIANTS),
        (ModelFamily, FAMILIES),
        (AskedFamily, ["auto", *FAMILIES]),
        # NVFP4 weights are a variant; they are not made of others.
        (AskedPrecision, ["auto", *(word for word in get_args(Precision) if word != "nvfp4"), "fp32"]),
        (CaptionPrompt, CAPTION_PROMPTS),
        (TextPrompt, ENHANCE_PROMPTS),
        (VideoForm, ["auto", *get_args(Form)]),
    ],
)
def test_the_settings_offer_what_the_tables_have(choice, words):
    assert get_args(choice) == tuple(words)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=str)
def test_a_family_is_one_object_in_every_process_and_has_a_row(family):
    assert pickle.loads(pickle.dumps(family)) is family
    assert any(row.family is family for row in ROWS.values())
    assert (family.frame_limits is None) == (not family.frame_limit_files) == family.is_text


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_row_is_pinned_and_agrees_with_itself(row):
    if row.is_embedded:
        assert row.revision == ""
    else:
        assert re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{7}|main", row.revision)
        assert row.licence
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", row.model_id)
    if row.family.in_transformers:  # vLLM takes a Nemotron video in at any length
        assert row.vllm.max_num_batched_tokens >= row.vllm.max_model_len
    assert row.min_gpu_gib > 0
    assert row.fp8_min_gpu_gib is None or row.fp8_min_gpu_gib < row.min_gpu_gib
    assert row.remote_code == row.family.name.startswith("nemotron") == (not row.family.in_transformers)
    with pytest.raises(FrozenInstanceError):
        row.revision = "main"


def test_the_largest_video_of_qwen3_fits_its_length():
    row = CAPTION_VARIANTS["qwen3"]
    assert row.frames == FrameLimits(32, 4096, 24 << 20, per_video=True, label_tokens=12)
    tokens = row.frames.max_pixels // row.frames.factor**2 // 2
    assert tokens == 12288
    assert tokens + 128 * 12 + 2048 < row.vllm.max_model_len  # with the times of 128 pairs, a prompt and an answer


def test_fp8_is_made_on_load_or_published():
    qwen = CAPTION_VARIANTS["qwen"]
    fp8 = qwen.in_precision("fp8")
    assert (fp8.precision, fp8.min_gpu_gib, fp8.min_capability) == ("fp8", qwen.fp8_min_gpu_gib, (8, 9))
    assert fp8.in_precision("fp8") == fp8
    assert qwen.quantization("fp8") == fp8.quantization("fp8") == "fp8"
    assert qwen.weights_precision("fp8") == "fp8"
    published = CAPTION_VARIANTS["nemotron-fp8"]
    assert published.in_precision("fp8") is published
    assert published.quantization("fp8") is None  # vLLM reads it from the checkpoint
    for asked in ("auto", "bf16", "fp32"):
        assert qwen.in_precision(asked) is qwen
        assert qwen.quantization(asked) is None


@pytest.mark.parametrize(
    ("name", "asked", "instead"),
    [
        ("nemotron", "fp8", "nemotron-fp8"),
        ("nemotron-fp8", "bf16", "nemotron or nemotron-bf16"),
        ("nemotron-3-nano-omni", "fp8", "nemotron-3-nano-omni-fp8"),
        ("qwen3.6-27b-fp8", "bf16", "qwen3.6-27b"),
        ("qwen3.5-2b", "fp8", "auto"),
        ("demo", "fp8", "auto"),
    ],
)
def test_a_precision_that_weights_do_not_have_is_refused_with_those_that_do(name, asked, instead):
    with pytest.raises(ConfigError, match=f"(auto, or choose )?{instead}\\.$"):
        CAPTION_VARIANTS[name].in_precision(asked)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=str)
def test_a_users_own_model_has_what_its_family_needs(family):
    own = own_variant(CAPTION_VARIANTS["demo"], family, "me/mine", "main")
    assert (own.name, own.model_id, own.revision, own.family) == ("demo", "me/mine", "main", family)
    assert own.min_gpu_gib == 0
    row = next(row for row in ROWS.values() if row.family is family and not row.is_embedded)
    assert (own.stop, own.remote_code, own.vllm, own.frames) == (row.stop, row.remote_code, row.vllm, row.frames)
    assert own.sampling == row.sampling


@pytest.mark.parametrize("chosen", ["demo", "qwen", "qwen3", "nemotron"])
def test_a_users_own_model_keeps_the_variants_limits_within_those_of_its_checkpoint(chosen, checkpoints, tmp_path):
    """16 frames of 1920x1080: 5,760 tokens, where the checkpoint by itself would take 21,528."""
    folder = shutil.copytree(checkpoints["qwen2.5-vl"], tmp_path / "model")
    published = {"patch_size": 14, "merge_size": 2, "min_pixels": 3136, "max_pixels": 12845056}
    (folder / "video_preprocessor_config.json").write_text(json.dumps(published))
    variant, _ = ModelChoice(CaptionModelSettings(model_variant=chosen, model_path=str(folder))).model()
    limits = frame_limits(variant, folder, variant.family)
    assert limits == CAPTION_VARIANTS["qwen"].frames == FrameLimits(28, 100352, 602112, max_video_tokens=24576)
    width, height = frame_size(1920, 1080, 16, limits)
    assert 8 * width * height // 28**2 == 5760
    # A checkpoint whose frames are all smaller keeps its own limits.
    assert frame_limits(variant, checkpoints["qwen2.5-vl"], variant.family).max_pixels == 112 * 112


def test_limits_of_frames_are_settings(checkpoints):
    def limits(family="qwen2.5-vl", **settings):
        variant, checkpoint = ModelChoice(CaptionModelSettings(model_path=str(checkpoints[family]), **settings)).model()
        return frame_limits(variant, checkpoint.folder, variant.family)

    own = limits()
    assert limits(max_pixels=200_000) == replace(own, max_pixels=200_000)
    assert limits(min_pixels=784, max_pixels=900) == replace(own, min_pixels=784, max_pixels=900)
    assert limits(max_pixels=1000) == replace(own, min_pixels=1000, max_pixels=1000)
    assert limits("qwen3-vl", max_pixels=50_000).max_pixels == 50_000
    for settings in ({"max_pixels": 700}, {"min_pixels": 20_000, "max_pixels": 10_000}, {"min_pixels": 20_000}):
        with pytest.raises(ConfigError, match="pixels"):
            limits(**settings)
    with pytest.raises(ConfigError, match="frames of family nemotron-v2-vl have a size of their own"):
        asked_limits(replace(CAPTION_VARIANTS["nemotron"], max_pixels=1), FrameLimits(32, 4, 4, shape="square"))


@pytest.mark.parametrize("missing", ["min_pixels", "max_pixels", "patch_size"])
def test_a_processor_that_does_not_state_all_of_its_limits_states_none(checkpoints, tmp_path, missing):
    folder = shutil.copytree(checkpoints["qwen2.5-vl"], tmp_path / "model")
    stated = {"patch_size": 16, "merge_size": 1, "min_pixels": 256, "max_pixels": 1024}
    file = folder / "video_preprocessor_config.json"
    file.write_text(json.dumps(stated))
    family = FAMILIES["qwen2.5-vl"]
    assert checkpoint_frame_limits(folder, family) == FrameLimits(16, 256, 1024, max_video_tokens=24576)
    file.write_text(json.dumps({name: value for name, value in stated.items() if name != missing}))
    assert checkpoint_frame_limits(folder, family).max_pixels == 112 * 112  # those of the next file
    for other in ("preprocessor_config.json", "processor_config.json"):
        (folder / other).unlink(missing_ok=True)
    with pytest.raises(ModelError, match="its processor states no frame size"):
        checkpoint_frame_limits(folder, family)


def nemotron(factor, area, shape="square", together=1, labels=26):
    return FrameLimits(factor, area, area, shape=shape, together=together, label_tokens=labels)


@pytest.mark.parametrize(
    ("config", "vision", "limits"),
    [
        ({}, {}, nemotron(32, 512 * 512)),
        ({"force_image_size": 448, "patch_size": 14, "downsample_ratio": 0.25}, {}, nemotron(56, 448 * 448)),
        ({"force_image_size": 448}, {"patch_size": 14, "video_target_img_size": 300}, nemotron(28, 308 * 308)),
        ({}, {"video_target_num_patches": 1000, "video_target_img_size": 300}, nemotron(32, 1000 * 16 * 16)),
        ({}, {"video_maintain_aspect_ratio": True}, nemotron(32, 512 * 512)),
        (
            {},
            {"video_maintain_aspect_ratio": True, "video_target_num_patches": 1024, "video_temporal_patch_size": 2},
            nemotron(32, 512 * 512, "filled", 2, 50),
        ),
        ({}, {"video_maintain_aspect_ratio": True, "video_target_img_size": 300}, nemotron(32, 304 * 304, "filled")),
    ],
)
@pytest.mark.parametrize("family", ["nemotron-v2-vl", "nemotron-3-omni"])
def test_a_nemotron_says_the_size_of_its_frames_as_vllm_reads_it(tmp_path, family, config, vision, limits):
    (tmp_path / "config.json").write_text(json.dumps({**config, "vision_config": vision}))
    assert checkpoint_frame_limits(tmp_path, FAMILIES[family]) == limits


def test_frames_that_go_as_images_keep_their_aspect_ratio():
    square = FrameLimits(32, 512 * 512, 512 * 512, shape="square")
    width, height = frame_size(1920, 1080, 8, square.as_images())
    assert (width, height) == (672, 384)
    assert frame_size(320, 240, 8, square.as_images()) == (320, 256)
    filled = replace(square, shape="filled")
    assert frame_size(1920, 1080, 8, filled.as_images()) == (width, height)
    assert CAPTION_VARIANTS["qwen"].frames.as_images() == CAPTION_VARIANTS["qwen"].frames


@pytest.mark.parametrize(
    ("config", "family"),
    [
        ({"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}, "text"),
        ({"model_type": "gpt_oss", "architectures": ["GptOssForCausalLM"]}, "text"),
        ({"model_type": "qwen3_vl", "architectures": ["Qwen3VLForConditionalGeneration"]}, "qwen3-vl"),
        ({"model_type": "qwen3_vl_moe", "architectures": ["Qwen3VLMoeForConditionalGeneration"]}, "qwen3-vl"),
        ({"model_type": "qwen3_5", "architectures": ["MarlinForConditionalGeneration"]}, "qwen3.5"),
        ({"model_type": "qwen3_5_moe", "architectures": ["Qwen3_5MoeForConditionalGeneration"]}, "qwen3.5"),
        ({"model_type": "molmo", "architectures": ["MolmoForCausalLM"]}, None),
        ({"model_type": "phi3_v", "architectures": ["Phi3VForCausalLM"]}, None),
        ({"model_type": "phi4_multimodal", "architectures": ["Phi4MultimodalForCausalLM"]}, None),
        ({"model_type": "fuyu", "architectures": ["FuyuForCausalLM"]}, None),
        ({"model_type": "llama", "architectures": ["LlavaLlamaForCausalLM"], "mm_vision_tower": "clip"}, None),
        ({"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "audio_config": {}}, None),
        ({"model_type": "qwen2", "architectures": ["Qwen2ForSequenceClassification"]}, None),
        ({"model_type": "qwen2", "architectures": "Qwen2ForCausalLM"}, None),
        ({"model_type": "qwen2", "architectures": [None]}, None),
        ({}, None),
    ],
)
def test_a_model_is_of_the_family_that_its_config_shows_and_no_other_kind_is_taken_for_text(config, family):
    assert family_of(config) is (None if family is None else FAMILIES[family])


def test_qwen3_is_sampled_as_its_makers_recommend():
    qwen3, text = CAPTION_VARIANTS["qwen3"].sampling, TEXT_VARIANTS["qwen3"].sampling
    assert qwen3 == Sampling(0.7, 0.8, 20, repetition_penalty=1.0, presence_penalty=1.5)
    assert text == Sampling(0.7, 0.8, 20)


def test_all_of_the_sampling_is_settings():
    chosen = {name: 1 for name in (field.name for field in fields(Sampling))}
    variant, _ = ModelChoice(CaptionModelSettings(**chosen)).model()
    assert variant.sampling == Sampling(**chosen)
    assert ModelChoice(CaptionModelSettings(top_k=3)).model()[0].sampling == Sampling(top_k=3)


def test_a_users_own_model_keeps_the_chosen_row_of_its_family():
    own = own_variant(CAPTION_VARIANTS["nemotron-nvfp4"], FAMILIES["nemotron-v2-vl"], "me/mine", "main")
    assert (own.name, own.precision) == ("nemotron-nvfp4", "nvfp4")
    fp8 = own_variant(CAPTION_VARIANTS["qwen"], FAMILIES["qwen2.5-vl"], "me/mine", "main").in_precision("fp8")
    assert (fp8.precision, fp8.quantization("fp8"), fp8.min_gpu_gib) == ("fp8", "fp8", 0)


def test_code_of_a_repository_runs_only_with_consent():
    with pytest.raises(ModelError, match=r"nvidia/NVIDIA-Nemotron.*Set trust_remote_code"):
        require_consent(CAPTION_VARIANTS["nemotron"], False)
    require_consent(CAPTION_VARIANTS["nemotron"], True)
    require_consent(CAPTION_VARIANTS["qwen3"], False)
