"""A shard's tables as runs leave them, with as many windows as a page is to show, and pictures that are real."""

import io
import random
import uuid
from typing import Any

from PIL import Image

from caption_assets.store.rows import CaptionRow, EnhancedRow, FindingRow, PreviewRow, WindowRow
from caption_assets.store.store import Store
from caption_assets.store.tables import (
    CAPTION_FINDINGS,
    CLIP_WINDOWS,
    ENHANCED_CAPTIONS,
    WINDOW_CAPTIONS,
    WINDOW_PREVIEWS,
)
from caption_assets_tests.rows import caption, enhanced, finding, preview, window

WORDS = ("a", "red", "car", "drives", "slowly", "along", "the", "road", "while", "two", "people", "walk", "past")
WINDOWS_PER_CLIP = 2
FOUND = {3: ("warning", {"length": "<b>far</b> from the median"}), 4: ("error", {"cut_off": "it breaks off"})}
"""What rules have against the texts of `nemotron`, by window."""


def write_shard(store: Store, shard: str = "street", windows: int = 8, **first: Any) -> None:
    """Tables of `windows` windows, two a clip, with texts of `qwen3`, `nemotron` and `qwen_lm` (of `qwen3`).

    The texts differ; the first window is the one whose texts are the least sure, and rules have something against those
    that `FOUND` says. `first` are other values for the first
    row: `text` of its caption by `qwen3`, `path` of its clip.
    """
    draw = random.Random(windows)
    rows: list[WindowRow] = []
    previews: list[PreviewRow] = []
    captions: dict[str, list[CaptionRow]] = {"qwen3": [], "nemotron": []}
    texts: list[EnhancedRow] = []
    findings: list[FindingRow] = []
    for clip in range((windows + 1) // WINDOWS_PER_CLIP):
        clip_id, path = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{shard}/{clip}")), f"camera_{clip:04d}.mp4"
        for place in range(WINDOWS_PER_CLIP):
            at = clip * WINDOWS_PER_CLIP + place
            if at >= windows:
                break
            path = first.get("path", path) if at < WINDOWS_PER_CLIP else path
            row = window(clip_id, place * 250, place * 250 + 249, relative_path=path, location=f"/data/{path}")
            rows.append(row)
            previews.append(preview(row, width=64, height=36))
            store.write_bytes(previews[-1].path or "", picture(at))
            for key, of_key in captions.items():
                text = f"{' '.join(draw.choices(WORDS, k=30)).capitalize()}, window {at} by {key}."
                if at == 0 and key == "qwen3":
                    text = first.get("text", text)
                of_key.append(caption(row, text, key, **sureness(at, windows)))
            severity, messages = FOUND.get(at, ("", {}))
            findings.append(finding(captions["nemotron"][-1], severity, **messages))
            texts.append(enhanced(captions["qwen3"][-1], f"Enhanced: {captions['qwen3'][-1].text}"))
    store.commit_rows(CLIP_WINDOWS, shard, rows)
    store.commit_rows(WINDOW_PREVIEWS, shard, previews)
    for key, of_key in captions.items():
        store.commit_rows(WINDOW_CAPTIONS, shard, of_key, key)
    store.commit_rows(CAPTION_FINDINGS, shard, findings, "nemotron")
    store.commit_rows(ENHANCED_CAPTIONS, shard, texts, "qwen3/qwen_lm")


def sureness(at: int, of: int) -> dict[str, Any]:
    """Confidence that grows from window to window."""
    mean = -1.0 + 0.9 * at / of
    return {"mean_logprob": mean, "min_logprob": 4 * mean, "low_logprob": 2 * mean, "output_tokens": 40}


def picture(at: int) -> bytes:
    """A small animated WebP."""
    frames = [Image.new("RGB", (64, 36), (at * 7 % 256, 40 * k, 120)) for k in range(3)]
    data = io.BytesIO()
    frames[0].save(data, "WEBP", save_all=True, append_images=frames[1:], duration=300, loop=0)
    return data.getvalue()
