"""Qwen2.5-VL's vision MLPs are padded where that is of use, and say the same. `test_vllm_cpu.py` runs vLLM on it."""

import importlib.util
import json

import pytest

from caption_assets.models.engines.base import EngineOptions
from caption_assets.models.engines.vllm.launch import launch_args
from caption_assets.models.engines.vllm.loader import LOAD_FORMAT, padded, padding_args
from caption_assets.models.variants import caption_variant

WIDER = {"load_format": LOAD_FORMAT, "hf_overrides": {"vision_config": {"intermediate_size": 3456}}}


@pytest.fixture
def folder(tmp_path):
    """A checkpoint's folder; `folder(...)` writes its config."""

    def write(width=3420, **more):
        config = {"vision_config": {"intermediate_size": width}, "max_position_embeddings": 128000, **more}
        (tmp_path / "config.json").write_text(json.dumps(config))
        return tmp_path

    return write


def test_the_published_width_is_padded(folder):
    assert padding_args(folder()) == WIDER


@pytest.mark.parametrize("width", [512, 3424, 5120])
def test_a_width_that_is_fast_is_left_alone(folder, width):
    assert padding_args(folder(width)) == {}


def test_quantized_weights_are_left_alone(folder):
    assert padding_args(folder(quantization_config={"quant_method": "fp8"})) == {}


@pytest.mark.parametrize(("plugins", "args"), [("", {}), ("other", {}), ("other,caption_assets", WIDER)])
def test_where_vllm_may_not_load_the_plugin_nothing_is_padded(folder, monkeypatch, plugins, args):
    monkeypatch.setenv("VLLM_PLUGINS", plugins)
    assert padding_args(folder()) == args


@pytest.mark.parametrize(
    ("variant", "options", "padding"),
    [
        ("qwen", {}, True),
        ("qwen", {"vllm_args": {"load_format": "dummy"}}, True),
        ("qwen", {"vllm_args": {"load_format": "runai_streamer"}}, False),
        ("qwen", {"device": "cpu"}, False),
        ("qwen3", {}, False),
    ],
)
def test_an_engine_on_a_gpu_pads_qwen25_unless_its_weights_are_read_otherwise(folder, variant, options, padding):
    row = caption_variant(variant)
    args = launch_args(row, EngineOptions(**options), folder(), row.family, row.frames)
    assert ("hf_overrides" in args) == padding
    read_by = options.get("vllm_args", {}).get("load_format", LOAD_FORMAT if padding else None)
    assert args.get("load_format") == read_by
    compiled = options.get("device") != "cpu" and variant == "qwen"
    assert args.get("compilation_config", {}).get("compile_mm_encoder", False) == compiled


def test_a_padded_mlp_gives_what_it_gave():
    import torch
    from transformers import Qwen2_5_VLConfig
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLMLP

    torch.manual_seed(0)
    config = Qwen2_5_VLConfig(vision_config={"hidden_size": 32, "intermediate_size": 84}).vision_config
    narrow = Qwen2_5_VLMLP(config, bias=True)
    config.intermediate_size = 128
    wide = Qwen2_5_VLMLP(config, bias=True)
    prefix = "model.visual.blocks.7.mlp."
    weights = {name: padded(prefix + name, tensor, 128) for name, tensor in narrow.state_dict().items()}
    wide.load_state_dict(weights)
    x = torch.randn(5, 32)
    assert torch.allclose(narrow(x), wide(x), atol=1e-6)


@pytest.mark.parametrize("name", ["visual.blocks.0.attn.proj.weight", "model.layers.0.mlp.up_proj.weight", "norm"])
def test_other_weights_are_not_touched(name):
    assert padded(name, name, 128) is name


@pytest.mark.vllm
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not here; make test-vllm brings it")
def test_vllm_finds_the_load_format_by_the_installed_package():
    from vllm.config.load import LoadConfig
    from vllm.model_executor.model_loader import get_model_loader
    from vllm.plugins import load_general_plugins

    load_general_plugins()
    assert type(get_model_loader(LoadConfig(load_format=LOAD_FORMAT))).__name__ == "PaddedLoader"
