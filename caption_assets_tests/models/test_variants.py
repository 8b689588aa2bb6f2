import pickle
import re
from dataclasses import FrozenInstanceError
from typing import get_args

import pytest

from caption_assets.errors import ConfigError, ModelError
from caption_assets.models.engines.openai.inputs import Form
from caption_assets.models.families import FAMILIES
from caption_assets.models.prompts import CAPTION_PROMPTS, ENHANCE_PROMPTS
from caption_assets.models.variants import CAPTION_VARIANTS, TEXT_VARIANTS, Precision, own_variant, require_consent
from caption_assets.settings import (
    AskedFamily,
    AskedPrecision,
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
        assert re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{7}", row.revision)
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
        ("nemotron-3-nano-omni", "fp8", "auto"),
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
    assert own.frames is None
    assert own.min_gpu_gib == 0
    (row,) = {row.vllm: row for row in ROWS.values() if row.family is family and not row.is_embedded}.values()
    if family is not FAMILIES["qwen2.5-vl"]:  # which the demo model is of itself
        assert (own.stop, own.remote_code, own.vllm) == (row.stop, row.remote_code, row.vllm)


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
