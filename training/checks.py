"""Scores on clips that were made and encoded elsewhere, so that a gap between training frames and video frames shows.

A check file is an npz with one uint8 array (T, H, W, 3) a clip, already on the model's grid, and a JSON list under
`clips` of {"name", "caption", "seconds", "source"}. `make_checks.py` writes it from real video files.
"""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from caption_assets.demo.facts import compare, read
from caption_assets.demo.structured import FACTS_PROMPT, as_json
from caption_assets.models.prompts import CAPTION_PROMPTS
from training import model as demo
from training.clips import CELL, TOKENS_PER_SECOND
from training.render import patches


def load(path: Path) -> list[tuple[dict, np.ndarray]]:
    """(description, frames) of each clip of a check file."""
    with np.load(path) as data:
        return [(clip, data[clip["name"]]) for clip in json.loads(str(data["clips"]))]


@torch.no_grad()
def scores(model, tokenizer, clips: list[tuple[dict, np.ndarray]], device: str) -> dict[str, dict[str, float]]:
    """Share of right attributes by source of the clips, from the most likely next token after each true one.

    Where every token is right this is what greedy decoding writes; else it flatters a little, which a check may.
    """
    right: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    prompts = list(CAPTION_PROMPTS.values())
    for number, (clip, frames) in enumerate(clips):
        pixels = torch.from_numpy(frames).to(device).permute(0, 3, 1, 2)[None].float() / 255
        grid = (frames.shape[1] // CELL, frames.shape[2] // CELL)
        interval = (0.083, 2 * clip["seconds"] / len(frames))[number % 2]
        shown = as_json(read(clip["caption"]))
        texts = []
        for prompt, answer in ((prompts[number % len(prompts)], clip["caption"]), (FACTS_PROMPT, shown)):
            inputs = sequence(tokenizer, prompt, answer, len(frames) // 2, grid, interval)
            inputs = [torch.from_numpy(a).to(device) for a in inputs]
            with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                *_, logits = demo.forward(model, patches(pixels), grid, *inputs)
            texts.append(tokenizer.decode(logits.argmax(-1).tolist(), skip_special_tokens=True))
        text, told = texts
        right[clip["source"]]["json"].append(told == shown)
        for attribute, good in compare(read(text), read(clip["caption"])).items():
            right[clip["source"]][attribute].append(good)
        right[clip["source"]]["exact"].append(text == clip["caption"])
    return {source: {k: round(float(np.mean(v)), 4) for k, v in table.items()} for source, table in right.items()}


def sequence(tokenizer, prompt: str, caption: str, pairs: int, grid: tuple[int, int], interval: float):
    """ids, positions, answer and video arrays of one clip, numbered as transformers numbers them."""
    rows, columns = grid
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False)  # noqa: E731
    head, end = encode("<|im_start|>user\n<|vision_start|>"), encode(caption + "<|im_end|>")
    middle = encode(f"<|vision_end|>{prompt}<|im_end|>\n<|im_start|>assistant\n")
    vision = tokenizer.convert_tokens_to_ids("<|video_pad|>")
    t, y, x = (a.ravel() for a in np.meshgrid(np.arange(pairs), np.arange(rows), np.arange(columns), indexing="ij"))
    video = np.stack([np.floor(t * TOKENS_PER_SECOND * interval).astype(np.int64), y, x]) + len(head)
    after = np.arange(len(middle)) + len(head) + max(rows, columns)
    begin = max(after[-1], video.max()) + 1
    parts = [np.arange(len(head)), None, after, np.arange(len(end)) + begin]
    positions = np.concatenate([video if p is None else np.tile(p, (3, 1)) for p in parts], 1)[:, None]
    ids = np.array([*head, *[vision] * len(t), *middle, *end])[None]
    answer = np.zeros(ids.shape, bool)
    answer[0, -len(end) :] = True
    return ids, positions, answer, ids == vision
