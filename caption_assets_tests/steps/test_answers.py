from dataclasses import fields
from types import SimpleNamespace

import pytest

from caption_assets.models.choice import ModelChoice
from caption_assets.models.requests import Author
from caption_assets.models.variants import Sampling
from caption_assets.settings import CaptionModelSettings, TextModelSettings
from caption_assets.steps.answers import model_identity


def identity(settings):
    variant, checkpoint = ModelChoice(settings).model()
    author = Author(checkpoint.model_id, checkpoint.revision)
    return model_identity(SimpleNamespace(variant=variant, checkpoint=checkpoint), author)


def test_captions_of_earlier_versions_are_still_those_of_the_same_model():
    revision = "cc594898137f460bfe9f0759e9844b3ce807cfb5"
    sampling = "Sampling(temperature=0.0, top_p=1.0, repetition_penalty=1.05)"
    expected = ["qwen", "Qwen/Qwen2.5-VL-7B-Instruct", revision, "bf16", sampling]
    assert identity(CaptionModelSettings(model_variant="qwen")) == expected


@pytest.mark.parametrize("name", [*(field.name for field in fields(Sampling)), "min_pixels", "max_pixels"])
def test_another_sampling_or_size_is_another_captioner(name):
    before, after = (
        identity(CaptionModelSettings(model_variant="qwen", **given))
        for given in ({}, {name: 0.5 if name == "top_p" else 2})
    )
    assert before != after


def test_limits_of_a_users_own_model_are_part_of_what_captions(checkpoints):
    path = str(checkpoints["qwen2.5-vl"])
    assert "FrameLimits(factor=28, min_pixels=100352" in identity(CaptionModelSettings(model_path=path))[-1]
    assert len(identity(TextModelSettings(model_path=str(checkpoints["text"])))) == 5
