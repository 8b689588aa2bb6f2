"""The demo models' shapes, and a batched way to run the caption model over the weights of transformers' own classes.

transformers runs the vision tower's attention frame pair by frame pair; here all pairs of a batch go at once, and only
the answers' tokens reach the output layer. `forward` gives what `Qwen2_5_VLForConditionalGeneration` gives.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from training.clips import LIMITS, MERGE, PATCH, TOKENS_PER_SECOND

SECTIONS = (8, 12, 12)


def caption_config(tokenizer):
    """Configuration of the caption model."""
    from transformers import Qwen2_5_VLConfig

    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in (
        "im_end", "endoftext", "vision_start", "vision_end", "image_pad", "video_pad")}  # fmt: skip
    depth = 6
    return Qwen2_5_VLConfig(
        text_config={
            "hidden_size": 256,
            "intermediate_size": 768,
            "num_hidden_layers": 5,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": -(-len(tokenizer) // 64) * 64,
            "max_position_embeddings": 8192,
            "rms_norm_eps": 1e-6,
            "bos_token_id": None,
            "eos_token_id": ids["im_end"],
            "pad_token_id": ids["endoftext"],
            "rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "mrope_section": list(SECTIONS)},
        },
        vision_config={
            "depth": depth,
            "hidden_size": 192,
            "intermediate_size": 512,
            "num_heads": 3,
            "out_hidden_size": 256,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
            "tokens_per_second": TOKENS_PER_SECOND,
            "window_size": 112,
            "fullatt_block_indexes": list(range(depth)),  # a frame pair is small: every block sees all of it
        },
        tie_word_embeddings=False,
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        vision_start_token_id=ids["vision_start"],
        vision_end_token_id=ids["vision_end"],
    )


def enhance_config(tokenizer):
    """Configuration of the model that rewrites captions."""
    from transformers import Qwen3Config

    return Qwen3Config(
        hidden_size=256,
        intermediate_size=640,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        vocab_size=-(-len(tokenizer) // 64) * 64,
        max_position_embeddings=8192,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )


def _norm(norm: nn.Module, x: torch.Tensor) -> torch.Tensor:
    y = x.float()
    y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon)
    return (norm.weight * y).to(x.dtype)


def _turn(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    a, b = x.float().chunk(2, -1)
    return (x.float() * cos + torch.cat([-b, a], -1) * sin).to(x.dtype)


def _gated(mlp: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return mlp.down_proj(F.silu(mlp.gate_proj(x)) * mlp.up_proj(x))


def _vision_block(block: nn.Module, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    pairs, count, _ = x.shape
    heads = block.attn.num_heads
    q, k, v = block.attn.qkv(_norm(block.norm1, x)).reshape(pairs, count, 3, heads, -1).permute(2, 0, 3, 1, 4)
    out = F.scaled_dot_product_attention(_turn(q, cos, sin), _turn(k, cos, sin), v)
    x = x + block.attn.proj(out.transpose(1, 2).reshape(pairs, count, -1))
    return x + _gated(block.mlp, _norm(block.norm2, x))


def vision_forward(visual: nn.Module, patches: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Merged tokens (pairs, cells, hidden) of patches (pairs, P, 1176) of a grid of (rows, columns) cells."""
    rows, columns = grid
    weight = visual.patch_embed.proj.weight
    x = F.linear(patches, weight.reshape(weight.shape[0], -1))
    y, c, i, j = torch.meshgrid(
        torch.arange(rows), torch.arange(columns), torch.arange(2), torch.arange(2), indexing="ij"
    )
    position = torch.stack([(2 * y + i).flatten(), (2 * c + j).flatten()], -1).to(x.device)
    freq = position[..., None].float() * visual.rotary_pos_emb.inv_freq.to(x.device).float()
    freq = freq.flatten(1)
    freq = torch.cat([freq, freq], -1)
    cos, sin = freq.cos(), freq.sin()
    run = _chosen(_vision_block)
    for block in visual.blocks:
        x = run(block, x, cos, sin)
    x = _norm(visual.merger.ln_q, x)
    return visual.merger.mlp(x.reshape(x.shape[0], rows * columns, -1))


def _text_layer(layer: nn.Module, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    clips, length, _ = x.shape
    attention, h = layer.self_attn, _norm(layer.input_layernorm, x)
    q, k, v = (
        p(h).reshape(clips, length, -1, 64).transpose(1, 2)
        for p in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    repeat = q.shape[1] // k.shape[1]
    q, k = _turn(q, cos, sin), _turn(k, cos, sin)
    k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    x = x + attention.o_proj(out.transpose(1, 2).reshape(clips, length, -1))
    return x + _gated(layer.mlp, _norm(layer.post_attention_layernorm, x))


def text_forward(
    model: nn.Module, embeddings: torch.Tensor, positions: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states of the language model (B, S, hidden), causal, for 3-D positions (3, B, S): last, and before.

    Before: those that go into the last layer, normalised; all that it can read from other tokens is in them.
    """
    text = model.model.language_model
    freq = positions[..., None].float() * text.rotary_emb.inv_freq.to(embeddings.device).float()
    freq = torch.cat([part[i] for i, part in enumerate(freq.split(SECTIONS, -1))], -1)
    freq = torch.cat([freq, freq], -1)[:, None]
    cos, sin = freq.cos(), freq.sin()
    x, run = embeddings, _chosen(_text_layer)
    for layer in text.layers:
        before, x = x, run(layer, x, cos, sin)
    return _norm(text.norm, x), F.rms_norm(before, before.shape[-1:])


def forward(model: nn.Module, patches: torch.Tensor, grid: tuple[int, int], ids, positions, answer, video):
    """Vision tokens, what the text model makes of them, and logits (N, vocabulary) that predict the answers' tokens.

    The first two are (pairs of the batch, cells, hidden), the second as it goes into the last layer; the logits go
    row by row of the batch.
    """
    vision = vision_forward(model.model.visual, patches, grid)
    embeddings = model.model.language_model.embed_tokens(ids)
    embeddings = embeddings.to(vision.dtype).masked_scatter(video[..., None], vision)
    hidden, before = text_forward(model, embeddings, positions)
    understood = before.flatten(0, 1).index_select(0, video.flatten().nonzero()[:, 0]).reshape(vision.shape)
    return vision, understood, model.lm_head(hidden[:, :-1][answer[:, 1:]])


_compiled: dict[object, object] = {}


def compile_blocks() -> None:
    """Compile the parts in which nearly all training time goes, for shapes that change from batch to batch."""
    torch._dynamo.config.recompile_limit = 64
    for part in (_vision_block, _text_layer):
        _compiled[part] = torch.compile(part, dynamic=True)


def _chosen(part):
    return _compiled.get(part, part) if torch.is_grad_enabled() else part


def save_caption_model(model: nn.Module, tokenizer, folder: Path) -> None:
    """Write the model as bf16 with its processor, in Hugging Face's format."""
    from transformers import GenerationConfig, Qwen2_5_VLProcessor
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    shape = {"patch_size": PATCH, "merge_size": MERGE, "temporal_patch_size": 2}
    pixels = {
        "size": {"shortest_edge": LIMITS.min_pixels, "longest_edge": LIMITS.max_pixels},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**shape, **pixels),
        video_processor=Qwen2VLVideoProcessor(
            **shape, **pixels, min_frames=4, max_frames=768, cap_pixels_per_frame=False
        ),
        tokenizer=tokenizer,
        chat_template=tokenizer.chat_template,
    )
    ends = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    model.generation_config = GenerationConfig(do_sample=False, eos_token_id=ends, pad_token_id=tokenizer.pad_token_id)
    model.to(torch.bfloat16).save_pretrained(folder)
    processor.save_pretrained(folder)


def save_text_model(model: nn.Module, tokenizer, folder: Path) -> None:
    """Write the rewriting model as bf16 with its tokenizer, in Hugging Face's format."""
    from transformers import GenerationConfig

    ends = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    model.generation_config = GenerationConfig(do_sample=False, eos_token_id=ends, pad_token_id=tokenizer.pad_token_id)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
