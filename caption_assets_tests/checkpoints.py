"""Tiny checkpoints with random weights, of the real architectures, saved as users would have them on disk."""

import json
from pathlib import Path

from filelock import FileLock

SPECIALS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.content is string %}{{ m.content }}{% else %}{% for c in m.content %}"
    "{% if c.type == 'video' %}<|vision_start|><|video_pad|><|vision_end|>{% else %}{{ c.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    # As Qwen3's: without this, the model thinks aloud.
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
# As Qwen3.5's: it begins to think unless it is told not to.
QWEN35_TEMPLATE = CHAT_TEMPLATE.replace("{% endif %}{% endif %}", "{% else %}<think>\n{% endif %}{% endif %}")
NEMOTRON_SPECIALS = ["<unk>", "</s>", "<image>", "<img>", "</img>", "<SPECIAL_10>", "<SPECIAL_11>", "<SPECIAL_12>"]
# Thinking is on unless some message says /no_think, which the model does not see.
NEMOTRON_TEMPLATE = """
{%- set ns = namespace(thinking=true) -%}
{%- for m in messages -%}
{%- set text = m.content if m.content is string else m.content | map(attribute='text', default='<video>\n') | join -%}
{%- if '/no_think' in text %}{% set ns.thinking = false %}{% endif -%}
{{- '<SPECIAL_10>System' if m.role == 'system' else '<SPECIAL_11>User' -}}
{{- '\n' + (text | replace('/no_think', '') | trim) + '\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<SPECIAL_11>Assistant\n' + ('<think>\n' if ns.thinking else '<think></think>') -}}
{%- endif -%}"""
# Its thinking is a switch of the template.
OMNI_TEMPLATE = """
{%- for m in messages -%}
{{- '<|im_start|>' + m.role + '\n' -}}
{{- m.content if m.content is string else m.content | map(attribute='text', default='<video>\n') | join -}}
{{- '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\n' + ('<think>\n' if enable_thinking | default(true) else '<think></think>') -}}
{%- endif -%}"""
NEMOTRON_CONFIG = """
from transformers import NemotronHConfig, PreTrainedConfig


class TinyNemotronConfig(PreTrainedConfig):
    model_type = "{model_type}"

    def __init__(self, vision_config=None, llm_config=None, **kwargs):
        self.vision_config = PreTrainedConfig(**(vision_config or {{}}))
        self.text_config = NemotronHConfig(**(llm_config or {{}}))
        super().__init__(**kwargs)
"""


def tokenizer(chat_template: str = CHAT_TEMPLATE):
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=_bytes_and(SPECIALS),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=chat_template,
        # The attributes by which Qwen's processors find their marks.
        extra_special_tokens={
            "image_token": "<|image_pad|>",
            "video_token": "<|video_pad|>",
            "vision_bos_token": "<|vision_start|>",
            "vision_eos_token": "<|vision_end|>",
        },
    )


def _bytes_and(specials: list[str]):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.add_special_tokens(specials)
    return bpe


def save_text(folder: Path) -> Path:
    """A Qwen2 text model."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    tok = tokenizer()
    config = Qwen2Config(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=320,
        max_position_embeddings=4096,
        eos_token_id=tok.eos_token_id,
    )
    return _save(Qwen2ForCausalLM(config), tok, tok, folder)


def save_qwen25(folder: Path) -> Path:
    """A Qwen2.5-VL model whose frames have between 56x56 and 112x112 pixels of area."""
    import torch
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    torch.manual_seed(0)
    tok = tokenizer()
    config = Qwen2_5_VLConfig(
        text_config=dict(
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=320,
            max_position_embeddings=8192,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
            eos_token_id=tok.eos_token_id,
        ),
        vision_config=dict(
            depth=2,
            hidden_size=64,
            num_heads=4,
            intermediate_size=128,
            out_hidden_size=64,
            fullatt_block_indexes=[1],
        ),
        **_token_ids(tok),
    )
    size = {"shortest_edge": 56 * 56, "longest_edge": 112 * 112}
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=size),
        video_processor=Qwen2VLVideoProcessor(size=size),
        tokenizer=tok,
        chat_template=CHAT_TEMPLATE,
    )
    return _save(Qwen2_5_VLForConditionalGeneration(config), tok, processor, folder)


def save_qwen3(folder: Path) -> Path:
    """A Qwen3-VL model whose videos have at most 16 times 128x128 pixels in all."""
    import torch
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    torch.manual_seed(0)
    tok = tokenizer()
    config = Qwen3VLConfig(
        text_config=dict(
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            vocab_size=320,
            max_position_embeddings=8192,
            eos_token_id=tok.eos_token_id,
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 5e6,
                "mrope_section": [4, 2, 2],
                "mrope_interleaved": True,
            },
        ),
        vision_config=dict(
            depth=3,
            hidden_size=64,
            num_heads=4,
            intermediate_size=128,
            out_hidden_size=64,
            num_position_embeddings=2304,
            deepstack_visual_indexes=[0, 1, 2],
        ),
        tie_word_embeddings=False,
        **_token_ids(tok),
    )
    return _save(Qwen3VLForConditionalGeneration(config), tok, _qwen3_processor(tok), folder)


def _qwen3_processor(tok):
    from transformers import Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

    size = {"shortest_edge": 4096, "longest_edge": 16 * 128 * 128}
    stats = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=size, patch_size=16, **stats),
        video_processor=Qwen3VLVideoProcessor(size=size, patch_size=16, **stats),
        tokenizer=tok,
        chat_template=tok.chat_template,
    )


def save_qwen35(folder: Path) -> Path:
    """A Qwen3.5 model: every other layer attends linearly, and it thinks unless it is told not to."""
    import torch
    from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

    torch.manual_seed(0)
    tok = tokenizer(QWEN35_TEMPLATE)
    config = Qwen3_5Config(
        text_config=dict(
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=4,
            layer_types=["linear_attention", "full_attention"] * 2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=64,
            linear_key_head_dim=128,
            linear_value_head_dim=128,
            linear_num_key_heads=2,
            linear_num_value_heads=4,
            vocab_size=320,
            max_position_embeddings=8192,
            eos_token_id=tok.eos_token_id,
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 1e7,
                "partial_rotary_factor": 0.5,
                "mrope_section": [8, 4, 4],
                "mrope_interleaved": True,
            },
        ),
        vision_config=dict(
            depth=2,
            hidden_size=64,
            num_heads=4,
            intermediate_size=128,
            out_hidden_size=64,
            num_position_embeddings=2304,
        ),
        tie_word_embeddings=False,
        **_token_ids(tok),
    )
    return _save(Qwen3_5ForConditionalGeneration(config), tok, _qwen3_processor(tok), folder)


def save_nemotron(folder: Path) -> Path:
    """What there is of a Nemotron Nano v2 VL checkpoint besides its weights: config, its class, and tokenizer."""
    return _save_nemotron(folder, "NemotronH_Nano_VL_V2", NEMOTRON_SPECIALS, NEMOTRON_TEMPLATE, {})


def save_omni(folder: Path) -> Path:
    """The same of a Nemotron 3 Nano Omni checkpoint, which sees frames in pairs and keeps their aspect ratio."""
    vision = {
        "video_target_num_patches": 1024,
        "video_temporal_patch_size": 2,
        "video_maintain_aspect_ratio": True,
        "args": {"min_num_patches": 1024, "max_num_patches": 13312},
    }
    specials = [*NEMOTRON_SPECIALS, "<|im_start|>", "<|im_end|>"]
    return _save_nemotron(folder, "NemotronH_Nano_Omni_Reasoning_V3", specials, OMNI_TEMPLATE, vision)


def _save_nemotron(folder: Path, name: str, specials: list[str], template: str, vision: dict) -> Path:
    from transformers import PreTrainedTokenizerFast

    tok = PreTrainedTokenizerFast(
        tokenizer_object=_bytes_and(specials), eos_token="</s>", pad_token="<unk>", chat_template=template
    )
    tok.save_pretrained(folder)
    args = {"model": "vit_huge_patch16_224", "register_multiple": 8, "cpe_max_size": 2048, "teachers": []}
    config = {
        "architectures": [name],
        "model_type": name,
        "auto_map": {"AutoConfig": "configuration_tiny.TinyNemotronConfig"},
        "dtype": "bfloat16",
        "force_image_size": 512,
        "patch_size": 16,
        "downsample_ratio": 0.5,
        "ps_version": "v2",
        "template": "tiny",
        "image_tag_type": "internvl",
        "projector_hidden_size": 128,
        "vit_hidden_size": 1280,
        "use_thumbnail": True,
        "norm_mean": [0.48145466, 0.4578275, 0.40821073],
        "norm_std": [0.26862954, 0.26130258, 0.27577711],
        "vision_config": {"patch_size": 16, **vision, "args": args | vision.get("args", {})},
        "llm_config": {
            "vocab_size": 320,
            "hidden_size": 64,
            "num_hidden_layers": 3,
            "hybrid_override_pattern": "M-*",
            "intermediate_size": 128,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "mamba_num_heads": 4,
            "mamba_head_dim": 16,
            "ssm_state_size": 16,
            "n_groups": 1,
            "max_position_embeddings": 16384,
            "dtype": "bfloat16",
        },
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    (folder / "configuration_tiny.py").write_text(NEMOTRON_CONFIG.format(model_type=name))
    return folder


def _token_ids(tok) -> dict[str, int]:
    names = {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    return {name: tok.convert_tokens_to_ids(token) for name, token in names.items()}


def _save(model, tok, processor, folder: Path) -> Path:
    import torch

    model.generation_config.eos_token_id = tok.eos_token_id
    model.generation_config.pad_token_id = tok.pad_token_id
    model.to(torch.bfloat16).save_pretrained(folder)
    processor.save_pretrained(folder)
    if processor is not tok:
        tok.save_pretrained(folder)
    return folder


_SAVERS = {"qwen2.5-vl": save_qwen25, "qwen3-vl": save_qwen3, "qwen3.5": save_qwen35, "text": save_text}


class Checkpoints(dict[str, Path]):
    """The checkpoint of each family, made by whichever process first asks for it."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __missing__(self, family: str) -> Path:
        folder = self._root / f"checkpoint-{family}"
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                _SAVERS[family](self._root / f"{folder.name}.part").rename(folder)
        self[family] = folder
        return folder
