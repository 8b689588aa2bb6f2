"""What vLLM is started with, of the variant, of the checkpoint and of what is asked for."""

import json
from dataclasses import replace

import pytest

from caption_assets.models.engines.base import EngineOptions
from caption_assets.models.engines.vllm.launch import launch_args
from caption_assets.models.variants import CAPTION_VARIANTS, TEXT_VARIANTS, VllmOptions

ROWS = {**TEXT_VARIANTS, **CAPTION_VARIANTS}
SMALL = replace(CAPTION_VARIANTS["qwen3"], vllm=VllmOptions(4096, 2048, 12, 0.5, "float16"))
ONE_VIDEO = {"image": 0, "video": 1}


@pytest.mark.parametrize(
    ("row", "options", "told"),
    [
        (
            ROWS["qwen"],
            {},
            {
                "limit_mm_per_prompt": ONE_VIDEO,
                "mm_processor_cache_gb": 0,
                "mm_processor_kwargs": {"size": {"shortest_edge": 100352, "longest_edge": 602112}},
                "enable_prefix_caching": False,
                "disable_log_stats": False,
                "max_model_len": 9000,  # of the checkpoint
                "trust_remote_code": False,
                "quantization": None,
                "tensor_parallel_size": 1,
            },
        ),
        (
            SMALL,
            {},
            {
                "max_model_len": 4096,
                "max_num_batched_tokens": 2048,
                "max_num_seqs": 12,
                "dtype": "float16",
                "compilation_config": {"cudagraph_capture_sizes": [1, 2, 4, 8]},
            },
        ),
        (SMALL, {"vllm_args": {"max_num_seqs": 3, "seed": 5}}, {"max_num_seqs": 3, "seed": 5}),
        (
            SMALL,
            {"device": "cpu", "vllm_args": {"max_num_seqs": 3}},
            {"enforce_eager": True, "dtype": "float32", "max_num_seqs": 3, "compilation_config": None},
        ),
        (ROWS["qwen"], {"precision": "fp8", "tensor_parallel": 2}, {"quantization": "fp8", "tensor_parallel_size": 2}),
        (ROWS["qwen"], {"trust_remote_code": True}, {"trust_remote_code": False}),  # which it does not need
        (ROWS["nemotron"], {}, {"trust_remote_code": False}),
        (
            ROWS["nemotron"],
            {"trust_remote_code": True},
            {"trust_remote_code": True, "limit_mm_per_prompt": ONE_VIDEO, "mm_processor_kwargs": None},
        ),
        (ROWS["nemotron-3-nano-omni"], {}, {"limit_mm_per_prompt": {**ONE_VIDEO, "audio": 0}}),
        (ROWS["qwen_lm"], {}, {"limit_mm_per_prompt": None}),
        (
            replace(ROWS["qwen"], video_pruning=0.5),
            {},
            {"video_pruning_rate": 0.5, "disable_chunked_mm_input": True},
        ),
        (
            replace(ROWS["nemotron"], video_pruning=0.5),
            {},
            {"video_pruning_rate": 0.5, "disable_chunked_mm_input": None},
        ),
    ],
)
def test_vllm_is_told_what_the_variant_needs_and_what_is_asked_for(row, options, told, tmp_path):
    config = {"vision_config": {}, "max_position_embeddings": 9000}
    (tmp_path / "config.json").write_text(json.dumps(config))
    args = launch_args(row, EngineOptions(**options), tmp_path, row.family, row.frames)
    assert args["model"] == args["tokenizer"] == str(tmp_path)
    assert {name: args.get(name) for name in told} == told


@pytest.mark.parametrize(
    ("pruning", "asked", "step_tokens", "compiled"),
    [
        (0.0, {}, 32768, True),
        (0.5, {}, 32768, True),
        (0.75, {}, 16384, True),
        (0.999, {}, 256, True),  # vLLM takes no less than a token of each sequence
        (0.75, {"max_num_batched_tokens": 32768}, 32768, False),
        (0.75, {"max_num_batched_tokens": 8192}, 8192, True),
    ],
)
def test_pruning_makes_no_larger_batches_for_the_vision_tower(pruning, asked, step_tokens, compiled, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"vision_config": {}}))
    row = replace(ROWS["qwen2.5"], video_pruning=pruning)
    args = launch_args(row, EngineOptions(vllm_args=asked), tmp_path, row.family, row.frames)
    assert args["max_num_batched_tokens"] == step_tokens
    assert args["compilation_config"].get("compile_mm_encoder", False) is compiled


@pytest.mark.parametrize(
    ("config", "overrides"),
    [
        # A model of the family's weights whose config names a class in its own repository.
        (
            {"architectures": ["MarlinForConditionalGeneration"], "auto_map": {}},
            {"architectures": ["Qwen3_5ForConditionalGeneration"]},
        ),
        ({"architectures": ["Qwen3_5ForConditionalGeneration"]}, None),
    ],
)
def test_vllm_is_told_its_own_class_for_weights_that_it_knows(config, overrides, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3_5", "vision_config": {}, **config}))
    row = ROWS["marlin-2b"]
    assert launch_args(row, EngineOptions(), tmp_path, row.family, row.frames).get("hf_overrides") == overrides
