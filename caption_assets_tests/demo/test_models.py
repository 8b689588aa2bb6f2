"""The demo checkpoints tell the truth. That what goes wrong before them shows in it, `test_truth.py` tests."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from caption_assets.demo import checkpoint, draw, world
from caption_assets.demo.facts import compare, elaborate, read
from caption_assets.models.prompts import CAPTION_PROMPTS, ENHANCE_PROMPTS, STAGE2_PROMPT

Say = Callable[..., list[str]]
SEED = 31_000  # not used in training
SIZES = ((160, 120), (320, 180), (180, 320), (240, 240), (320, 160))


@pytest.fixture(scope="module")
def clips() -> list[tuple[world.Scene, np.ndarray]]:
    """Held-out scenes of 2 to 4 s and the frames of each that captioning samples."""
    result = []
    for k in range(16):
        rng, (width, height) = np.random.default_rng(SEED + k), SIZES[k % len(SIZES)]
        seconds = 4.0 if k >= 12 else 2.0 + k % 3 / 2
        kind = ("one", "two", "one_sequence", "two_sequence")[k % 4 if k >= 12 else k % 2]
        scene = world.sample_scene(rng, width=width, height=height, duration_s=seconds, kind=kind)
        result.append((scene, draw.pick(scene, picks(scene))))
    return result


def picks(scene: world.Scene, share: float = 1.0) -> np.ndarray:
    """Frame numbers at two a second, four at least, over the first `share` of the clip."""
    length = round(scene.num_frames * share)
    n = max(4, 2 * round(length / scene.frame_rate))
    return np.linspace(0, length - 1, n).round().astype(int)


@pytest.fixture(scope="module")
def say() -> Say:
    """Greedy captions of (scene, frames) through transformers, in batches."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = checkpoint("demo")
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()

    def run(
        clips: list[tuple[world.Scene, np.ndarray]],
        prompt: str = CAPTION_PROMPTS["default"],
        spacing: float | None = None,
    ) -> list[str]:
        messages = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": prompt}]}]
        text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        said = []
        for start in range(0, len(clips), 8):
            part = clips[start : start + 8]
            times = [{"fps": 2.0, "total_num_frames": len(v), "frames_indices": list(range(len(v)))} for _, v in part]
            inputs = processor(
                text=[text] * len(part),
                videos=[torch.from_numpy(v.transpose(0, 3, 1, 2)) for _, v in part],
                video_metadata=times,
                do_sample_frames=False,
                padding=True,
                return_tensors="pt",
            )
            inputs.pop("video_metadata", None)
            if spacing is not None:
                inputs["second_per_grid_ts"] = [spacing] * len(part)
            with torch.inference_mode():
                out = model.generate(**inputs, max_new_tokens=64)
            said += processor.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return said

    return run


@pytest.fixture(scope="module")
def truths(clips: list[tuple[world.Scene, np.ndarray]], say: Say) -> list[str]:
    return say(clips)


def right(clips: list[tuple[world.Scene, np.ndarray]], said: list[str], attribute: str = "all") -> float:
    return float(np.mean([world.score(text, scene)[attribute] for (scene, _), text in zip(clips, said, strict=True)]))


def test_held_out_clips_are_captioned_right(clips: list[tuple[world.Scene, np.ndarray]], truths: list[str]) -> None:
    assert right(clips, truths) >= 15 / 16, list(zip(truths, [s.caption() for s, _ in clips], strict=True))


@pytest.mark.parametrize(
    "prompt",
    [
        CAPTION_PROMPTS["av"],
        CAPTION_PROMPTS["av-surveillance"],
        "Was sieht man? 🎬",
        f"{STAGE2_PROMPT}\nA green star is shrinking on a pink background.",
    ],
)
def test_the_caption_does_not_depend_on_the_prompt(
    prompt: str, clips: list[tuple[world.Scene, np.ndarray]], truths: list[str], say: Say
) -> None:
    assert say(clips[:4], prompt) == truths[:4]


def test_the_caption_does_not_depend_on_how_engines_space_the_frames(
    clips: list[tuple[world.Scene, np.ndarray]], truths: list[str], say: Say
) -> None:
    assert say(clips[-4:], spacing=0.083) == truths[-4:]


def test_rewritten_captions_are_longer_and_keep_every_fact() -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = checkpoint("demo_lm")
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    rng = np.random.default_rng(SEED)
    captions = [world.sample_scene(rng, frame_rate=Fraction(10)).caption() for _ in range(16)]
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": f"{list(ENHANCE_PROMPTS.values())[k % 2]}\n\n{caption}"}],
            tokenize=False,
            add_generation_prompt=True,
        )
        for k, caption in enumerate(captions)
    ]
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    with torch.inference_mode():
        out = model.generate(**inputs, max_new_tokens=160)
    said = tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    for caption, text in zip(captions, said, strict=True):
        assert len(text) > len(caption)
        assert compare(read(text), read(caption))["all"], text
    assert np.mean([text == elaborate(read(c)) for c, text in zip(captions, said, strict=True)]) > 0.9
