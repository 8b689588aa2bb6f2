"""Tiny checkpoints with random weights, of the real architectures, saved as users would have them on disk."""

from pathlib import Path

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
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.add_special_tokens(SPECIALS)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
        # The attributes by which Qwen's processors find their marks.
        extra_special_tokens={
            "image_token": "<|image_pad|>",
            "video_token": "<|video_pad|>",
            "vision_bos_token": "<|vision_start|>",
            "vision_eos_token": "<|vision_end|>",
        },
    )


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
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

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
    size = {"shortest_edge": 4096, "longest_edge": 16 * 128 * 128}
    stats = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    processor = Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=size, patch_size=16, **stats),
        video_processor=Qwen3VLVideoProcessor(size=size, patch_size=16, **stats),
        tokenizer=tok,
        chat_template=CHAT_TEMPLATE,
    )
    return _save(Qwen3VLForConditionalGeneration(config), tok, processor, folder)


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
