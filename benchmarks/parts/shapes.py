"""Checkpoints in the shape of real models, without their weights: what an engine costs does not depend on those.

Configuration, tokenizer and processor are complete; the weights file is a stand-in that `load_format=dummy` ignores.
Shapes are those of the models' published configurations.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

_NEMOTRONS = {
    "nemotron-12b-v2-vl": None,
    "nemotron-12b-v2-vl-fp8": "FP8",
    "nemotron-12b-v2-vl-nvfp4": "NVFP4",
}
SHAPES = ("qwen2.5-vl-7b", "qwen3-vl-8b", *_NEMOTRONS)
_SPECIALS = {
    "<|endoftext|>": 151643,
    "<|im_start|>": 151644,
    "<|im_end|>": 151645,
    "<|vision_start|>": 151652,
    "<|vision_end|>": 151653,
    "<|vision_pad|>": 151654,
    "<|image_pad|>": 151655,
    "<|video_pad|>": 151656,
}
_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.content is string %}{{ m.content }}{% else %}{% for c in m.content %}"
    "{% if c.type == 'video' %}<|vision_start|><|video_pad|><|vision_end|>{% else %}{{ c.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

_NEMOTRON_SPECIALS = ["<unk>", "</s>", "<image>", "<img>", "</img>", "<SPECIAL_10>", "<SPECIAL_11>", "<SPECIAL_12>"]
_NEMOTRON_TEMPLATE = (
    "{% for m in messages %}{{ '<SPECIAL_10>System' if m.role == 'system' else '<SPECIAL_11>User' }}\n"
    "{% if m.content is string %}{{ m.content }}{% else %}{% for c in m.content %}"
    "{% if c.type == 'video' %}<video>\n{% else %}{{ c.text }}{% endif %}{% endfor %}{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<SPECIAL_11>Assistant\n<think></think>{% endif %}"
)
_NEMOTRON_CLASS = """
from transformers import NemotronHConfig, PreTrainedConfig


class ShapeConfig(PreTrainedConfig):
    model_type = "NemotronH_Nano_VL_V2"

    def __init__(self, vision_config=None, llm_config=None, **kwargs):
        self.vision_config = PreTrainedConfig(**(vision_config or {}))
        self.text_config = NemotronHConfig(**(llm_config or {}))
        super().__init__(**kwargs)
"""


def save_shape(name: str, folder: Path, max_pixels: int) -> Path:
    """Writes the checkpoint; `max_pixels` bounds a frame (Qwen2.5-VL) or a whole video (Qwen3-VL).

    Nemotron sees every frame in 512x512; its config is read by a class of ours in place of the published one. Of the
    quantized ones, the language model's linear layers are so, as NVIDIA's ModelOpt writes it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if name in _NEMOTRONS:
        _nemotron(folder, _NEMOTRONS[name])
    else:
        tokenizer = _tokenizer(151643, _SPECIALS, _TEMPLATE, eos_token="<|im_end|>", pad_token="<|endoftext|>")
        config, processor = (_qwen25 if name == "qwen2.5-vl-7b" else _qwen3)(tokenizer, max_pixels)
        config.save_pretrained(folder)
        processor.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    save_file({"stand_in": np.zeros(1, np.float32)}, folder / "model.safetensors")
    return folder


def _tokenizer(words: int, specials: dict[str, int], template: str, **marks: str) -> Any:
    """A byte-level tokenizer filled up to the model's numbers, so that every token has a text."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    for i in range(len(vocabulary), words):
        vocabulary[f"\u0120w{i}"] = i
    bpe = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    by_id = {number: token for token, number in specials.items()}
    between = range(words, max(specials.values()) + 1)
    bpe.add_special_tokens([AddedToken(by_id.get(n, f"<|extra_{n}|>"), special=True) for n in between])
    named = {
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
        "vision_bos_token": "<|vision_start|>",
        "vision_eos_token": "<|vision_end|>",
    }
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        chat_template=template,
        extra_special_tokens={name: token for name, token in named.items() if token in specials},
        **marks,
    )
    assert all(tokenizer.convert_tokens_to_ids(token) == number for token, number in specials.items())
    return tokenizer


def _ids() -> dict[str, int]:
    return {
        "image_token_id": _SPECIALS["<|image_pad|>"],
        "video_token_id": _SPECIALS["<|video_pad|>"],
        "vision_start_token_id": _SPECIALS["<|vision_start|>"],
        "vision_end_token_id": _SPECIALS["<|vision_end|>"],
    }


def _qwen25(tokenizer: Any, max_pixels: int) -> tuple[Any, Any]:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    config = Qwen2_5_VLConfig(
        text_config=dict(
            hidden_size=3584,
            intermediate_size=18944,
            num_hidden_layers=28,
            num_attention_heads=28,
            num_key_value_heads=4,
            vocab_size=152064,
            max_position_embeddings=128000,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
            eos_token_id=_SPECIALS["<|im_end|>"],
        ),
        vision_config=dict(
            depth=32,
            hidden_size=1280,
            num_heads=16,
            intermediate_size=3420,
            out_hidden_size=3584,
            fullatt_block_indexes=[7, 15, 23, 31],
        ),
        architectures=["Qwen2_5_VLForConditionalGeneration"],
        tie_word_embeddings=False,
        dtype="bfloat16",
        **_ids(),
    )
    size = {"shortest_edge": 128 * 28 * 28, "longest_edge": max_pixels}
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=size),
        video_processor=Qwen2VLVideoProcessor(size=size),
        tokenizer=tokenizer,
        chat_template=_TEMPLATE,
    )
    return config, processor


def _qwen3(tokenizer: Any, max_pixels: int) -> tuple[Any, Any]:
    from transformers import Qwen2VLImageProcessor, Qwen3VLConfig, Qwen3VLProcessor, Qwen3VLVideoProcessor

    config = Qwen3VLConfig(
        text_config=dict(
            hidden_size=4096,
            intermediate_size=12288,
            num_hidden_layers=36,
            num_attention_heads=32,
            num_key_value_heads=8,
            head_dim=128,
            vocab_size=151936,
            max_position_embeddings=262144,
            eos_token_id=_SPECIALS["<|im_end|>"],
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 5e6,
                "mrope_section": [24, 20, 20],
                "mrope_interleaved": True,
            },
        ),
        vision_config=dict(
            depth=27,
            hidden_size=1152,
            num_heads=16,
            intermediate_size=4304,
            out_hidden_size=4096,
            num_position_embeddings=2304,
            patch_size=16,
            deepstack_visual_indexes=[8, 16, 24],
        ),
        architectures=["Qwen3VLForConditionalGeneration"],
        tie_word_embeddings=False,
        dtype="bfloat16",
        **_ids(),
    )
    size = {"shortest_edge": 4096, "longest_edge": max_pixels}
    stats = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    processor = Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=size, patch_size=16, **stats),
        video_processor=Qwen3VLVideoProcessor(size=size, patch_size=16, **stats),
        tokenizer=tokenizer,
        chat_template=_TEMPLATE,
    )
    return config, processor


def _nemotron(folder: Path, quant_algo: str | None) -> None:
    specials = {token: 131072 - len(_NEMOTRON_SPECIALS) + k for k, token in enumerate(_NEMOTRON_SPECIALS)}
    tokenizer = _tokenizer(
        min(specials.values()), specials, _NEMOTRON_TEMPLATE, eos_token="</s>", pad_token="<unk>", unk_token="<unk>"
    )
    tokenizer.save_pretrained(folder)
    config = {
        "architectures": ["NemotronH_Nano_VL_V2"],
        "model_type": "NemotronH_Nano_VL_V2",
        "auto_map": {"AutoConfig": "configuration_shape.ShapeConfig"},
        "dtype": "bfloat16",
        "force_image_size": 512,
        "patch_size": 16,
        "downsample_ratio": 0.5,
        "ps_version": "v2",
        "template": "nemotron",
        "image_tag_type": "internvl",
        "projector_hidden_size": 20480,
        "vit_hidden_size": 1280,
        "use_thumbnail": True,
        "norm_mean": [0.48145466, 0.4578275, 0.40821073],
        "norm_std": [0.26862954, 0.26130258, 0.27577711],
        "vision_config": {
            "patch_size": 16,
            "args": {"model": "vit_huge_patch16_224", "register_multiple": 8, "cpe_max_size": 2048, "teachers": []},
        },
        "llm_config": {
            "vocab_size": 131072,
            "hidden_size": 5120,
            "num_hidden_layers": 62,
            "hybrid_override_pattern": "M-M-M-M*-" * 6 + "M-M-M-M-",
            "intermediate_size": 20480,
            "mlp_hidden_act": "relu2",
            "num_attention_heads": 40,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "mamba_num_heads": 128,
            "mamba_head_dim": 80,
            "ssm_state_size": 128,
            "n_groups": 8,
            "conv_kernel": 4,
            "max_position_embeddings": 131072,
            "dtype": "bfloat16",
        },
    }
    if quant_algo:
        config["quantization_config"] = {
            "quant_method": "modelopt",
            "quant_algo": quant_algo,
            "group_size": 16,  # of NVFP4's scales
            "ignore": ["*lm_head*", "vision_model*", "mlp1*"],
        }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    (folder / "configuration_shape.py").write_text(_NEMOTRON_CLASS)
