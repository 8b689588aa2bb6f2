"""The words that models are chosen by, each with what it stands for; what is true of them is in `models.variants`."""

from typing import TYPE_CHECKING, Literal

CAPTION_VARIANTS = {
    "demo": "embedded, knows coloured shapes only",
    "qwen": "Qwen2.5-VL-7B",
    "qwen2.5": "the same",
    "qwen3": "Qwen3-VL-8B",
    "nemotron": "Nemotron-Nano-12B-v2-VL in bf16",
    "nemotron-bf16": "the same",
    "nemotron-fp8": "that in FP8",
    "nemotron-nvfp4": "that in NVFP4",
    "nemotron-3-nano-omni": "Nemotron-3-Nano-Omni-30B-A3B",
    "nemotron-3-nano-omni-fp8": "that in FP8",
    "nemotron-3-nano-omni-nvfp4": "that in NVFP4",
    "qwen3-2b": "Qwen3-VL-2B",
    "qwen3-4b": "Qwen3-VL-4B",
    "qwen3-32b": "Qwen3-VL-32B",
    "qwen3-30b-a3b": "Qwen3-VL-30B-A3B",
    "qwen3-2b-fp8": "Qwen3-VL-2B in FP8",
    "qwen3-4b-fp8": "Qwen3-VL-4B in FP8",
    "qwen3-8b-fp8": "Qwen3-VL-8B in FP8",
    "qwen3-32b-fp8": "Qwen3-VL-32B in FP8",
    "qwen3-30b-a3b-fp8": "Qwen3-VL-30B-A3B in FP8",
    "qwen3.5-2b": "Qwen3.5-2B",
    "qwen3.5-4b": "Qwen3.5-4B",
    "qwen3.5-9b": "Qwen3.5-9B",
    "qwen3.6-27b": "Qwen3.6-27B",
    "qwen3.6-27b-fp8": "that in FP8",
    "qwen3.8-27b": "Qwen3.8-27B",
    "qwen3.8-27b-fp8": "that in FP8",
    "marlin-2b": "Marlin-2B, a captioner made of Qwen3.5-2B",
    "skycaptioner-v1": "SkyCaptioner-V1, a captioner made of Qwen2.5-VL-7B",
}
TEXT_VARIANTS = {
    "demo_lm": "embedded, knows the demo's captions only",
    "qwen_lm": "Qwen2.5-14B",
    "qwen": "the same",
    "qwen2.5": "the same",
    "qwen3": "Qwen3-14B",
}

if TYPE_CHECKING:
    CaptionVariant = str
    TextVariant = str
else:
    CaptionVariant = Literal[tuple(CAPTION_VARIANTS)]
    TextVariant = Literal[tuple(TEXT_VARIANTS)]
