import json
from dataclasses import fields, replace
from types import SimpleNamespace

import pytest

from caption_assets.models.choice import ModelChoice
from caption_assets.models.requests import Author, Result
from caption_assets.models.variants import Sampling
from caption_assets.settings import CaptionModelSettings, TextModelSettings
from caption_assets.steps.answers import answer_fields, model_identity


def identity(settings, author=None):
    variant, checkpoint = ModelChoice(settings).model()
    author = author or Author(checkpoint.model_id, checkpoint.revision)
    return model_identity(SimpleNamespace(variant=variant, checkpoint=checkpoint), author)


def test_captions_of_earlier_versions_are_still_those_of_the_same_model():
    revision = "cc594898137f460bfe9f0759e9844b3ce807cfb5"
    sampling = "Sampling(temperature=0.0, top_p=1.0, repetition_penalty=1.05)"
    expected = ["qwen", "Qwen/Qwen2.5-VL-7B-Instruct", revision, "bf16", sampling]
    assert identity(CaptionModelSettings(model_variant="qwen")) == expected


@pytest.mark.parametrize(
    "given",
    [
        *({field.name: 0.5 if field.name == "top_p" else 2} for field in fields(Sampling)),
        {"min_pixels": 2},
        {"max_pixels": 2},
        {"model_variant": "qwen2.5"},
        {"model_variant": "qwen3", "caption_key": "qwen"},
        {"precision": "fp8"},
        {"model_id": "me/mine", "model_family": "qwen2.5-vl"},
    ],
    ids=str,
)
def test_another_model_precision_sampling_or_size_is_another_captioner(given):
    before, after = (identity(CaptionModelSettings(**{"model_variant": "qwen", **more})) for more in ({}, given))
    assert before != after


def test_another_revision_is_another_captioner_and_on_a_server_another_model_or_manner():
    def own(revision):
        chosen = {"model_id": f"me/mine@{revision}", "model_family": "qwen2.5-vl", "model_variant": "qwen"}
        return identity(CaptionModelSettings(**chosen))

    assert own("a") != own("b")
    here = CaptionModelSettings(model_variant="qwen")
    served = Author("me/mine", server_model="mine", manner=("jpeg",))
    changes = ({}, {"model_id": "me/other"}, {"server_model": "other"}, {"manner": ("png",)})
    authors = [None, *(replace(served, **change) for change in changes)]
    assert len({json.dumps(identity(here, author)) for author in authors}) == 5


@pytest.mark.parametrize("text", ["", " \n", None])
def test_an_answer_without_a_text_is_a_failed_row(text):
    fields = answer_fields(Result("a", text=text, finish_reason="stop", output_tokens=1))
    assert (fields["status"], fields["error_kind"], "text" in fields) == ("failed", "empty_text", False)
    assert (fields["finish_reason"], fields["output_tokens"]) == ("stop", 1)


def test_limits_of_a_users_own_model_are_part_of_what_captions(checkpoints):
    path = str(checkpoints["qwen2.5-vl"])
    assert "FrameLimits(factor=28, min_pixels=100352" in identity(CaptionModelSettings(model_path=path))[-1]
    assert len(identity(TextModelSettings(model_path=str(checkpoints["text"])))) == 5
