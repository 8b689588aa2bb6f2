"""Which engine runs a variant here. The only place that knows all engines."""

from caption_assets.errors import ModelError
from caption_assets.extras import install, missing
from caption_assets.models.engines.base import CaptionEngine, EngineOptions
from caption_assets.models.engines.openai.address import find_addresses
from caption_assets.models.engines.openai.engine import OpenAIEngine
from caption_assets.models.engines.transformers import TransformersEngine, require_classes
from caption_assets.models.engines.vllm.engine import VllmEngine
from caption_assets.models.engines.vllm.launch import built_for_cpus, check_build
from caption_assets.models.gpus import check, require_device, visible_gpus
from caption_assets.models.variants import Variant, require_consent
from caption_assets.models.weights.checkpoints import Checkpoint
from caption_assets.settings import EngineName


def create_engine(
    variant: Variant,
    checkpoint: Checkpoint,
    options: EngineOptions,
    *,
    engine: EngineName = "auto",
    model_dir: str | None = None,
) -> CaptionEngine:
    """An engine for `variant`, not started yet. Raises ModelError where none here can run it.

    "auto" is vLLM where it is installed and there is an NVIDIA GPU that may be used, else transformers.
    """
    asked = f"variant {variant.name!r} with engine {engine!r}"
    if "video_pruning_rate" in options.vllm_args:
        raise ModelError(
            f"{asked} and video_pruning_rate in vllm_args", "texts depend on it", "give it as video_pruning"
        )
    if engine == "openai":
        if variant.video_pruning:
            fix = "leave it at 0, and start the server with --video-pruning-rate"
            raise ModelError(f"{asked} and video_pruning", "a server prunes by itself or not at all", fix)
        find_addresses(text_model=variant.is_text)  # so that none is said before anything is made
        return OpenAIEngine(variant, checkpoint, options, model_dir)
    if engine == "auto":
        fits = not missing("vllm") and not built_for_cpus() and options.device != "cpu" and visible_gpus()
        engine = "vllm" if fits else "transformers"
    if variant.video_pruning:
        require_pruning(variant, engine, options.device)
    if engine == "transformers":
        require_classes(variant.family, asked)
    if wrong := missing(engine):
        raise ModelError(asked, wrong, f"{install(engine)}, or choose engine openai and a server that has the model")
    if engine == "vllm":
        require_consent(variant, options.trust_remote_code)
        check_build(variant, options.device)
        check(variant, options.precision, device=options.device, tensor_parallel=options.tensor_parallel)
        return VllmEngine(variant, checkpoint, options, model_dir)
    if options.precision == "fp8":
        raise ModelError(f"{asked} in precision 'fp8'", "transformers does not quantize here", "choose engine vllm")
    if options.tensor_parallel > 1:
        raise ModelError(f"{asked} on {options.tensor_parallel} GPUs", "transformers uses one", "choose engine vllm")
    require_device(options.device)
    return TransformersEngine(variant, checkpoint, options, model_dir)


def require_pruning(variant: Variant, engine: str, device: str) -> None:
    """Raises ModelError where the engine does not leave tokens of the variant's videos out, or not as it should."""
    asked = f"variant {variant.name!r} with video_pruning {variant.video_pruning:g}"
    if engine != "vllm":
        raise ModelError(asked, f"engine {engine} shows a model whole videos", "leave it at 0, or choose engine vllm")
    if not variant.family.prunes_video:
        raise ModelError(asked, f"it is not tried with models of family {variant.family}", "leave it at 0")
    if device == "cpu" and variant.family.corrects_grid_seconds:
        raise ModelError(asked, "vLLM's engine for CPUs does not place what it keeps", "leave it at 0, or use a GPU")
