"""Which engine runs a variant here. The only place that knows all engines."""

from typing import Literal

from caption_assets.errors import ModelError
from caption_assets.models.engine import CaptionEngine, EngineOptions, ModelSource
from caption_assets.models.transformers_engine import TransformersEngine
from caption_assets.models.variants import CAPTION_VARIANTS, ENHANCE_VARIANTS, TRANSFORMERS_FAMILIES, Variant

EngineName = Literal["auto", "transformers", "vllm", "openai"]


def create_engine(
    variant: Variant,
    source: ModelSource,
    options: EngineOptions,
    *,
    engine: EngineName = "auto",
    model_dir: str | None = None,
) -> CaptionEngine:
    """An engine for `variant`, not started yet. Raises ModelError where none here can run it."""
    if engine == "auto":
        engine = "transformers"
    asked = f"variant {variant.name!r} with engine {engine!r}"
    if engine != "transformers":
        raise ModelError(asked, "this version has the transformers engine only", "choose engine auto or transformers")
    if variant.family not in TRANSFORMERS_FAMILIES:
        runs = [
            v.name
            for v in (*CAPTION_VARIANTS.values(), *ENHANCE_VARIANTS.values())
            if v.family in TRANSFORMERS_FAMILIES
        ]
        fix = f"choose one of {', '.join(dict.fromkeys(runs))}"
        raise ModelError(asked, f"models of family {variant.family} need vLLM, which this version cannot use", fix)
    return TransformersEngine(variant, source, options, model_dir)


def default_variant() -> str:
    """The caption variant where none is named: `qwen` with an NVIDIA GPU, else the embedded `demo`."""
    import torch

    return "qwen" if torch.cuda.is_available() else "demo"
