"""Where a variant's weights are (embedded in this package, in a folder, or on Hugging Face), and what they say."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from caption_assets.errors import ModelError
from caption_assets.models.engines.base import ModelSource
from caption_assets.models.variants import Family, FrameLimits, Variant
from caption_assets.models.weights.downloads import fetch, fetch_config, require_whole

_FAMILIES: dict[str, Family] = {  # by model type or architecture
    "qwen2_5_vl": "qwen2.5-vl",
    "qwen3_vl": "qwen3-vl",
    "NemotronH_Nano_VL_V2": "nemotron-v2-vl",
    "NemotronH_Nano_Omni_Reasoning_V3": "nemotron-3-omni",
    "NemotronH_Omni_Reasoning_V3": "nemotron-3-omni",
    "nemotron_h_omni": "nemotron-3-omni",
}
_WEIGHTS = ("*.safetensors", "*.bin")
# Data of the demo's room; its code is not needed here.
_EMBEDDED = Path(__file__).parents[2] / "demo" / "checkpoints"


def model_source(variant: Variant, model_path: str | None = None) -> ModelSource:
    """The weights of `variant`, or those in the folder `model_path` in their place.

    Reads a folder's small files only and downloads nothing. Raises ModelError for a folder that is no checkpoint.
    """
    if model_path is not None:
        folder = Path(model_path).expanduser()
        return ModelSource(folder.name, _folder_revision(folder), folder.absolute())
    if variant.is_embedded:
        folder = _EMBEDDED / variant.model_id.removeprefix("embedded:")
        return ModelSource(variant.model_id, _folder_revision(folder), folder)
    return ModelSource(variant.model_id, variant.revision)


def locate(source: ModelSource, model_dir: str | None = None, *, trust_remote_code: bool = False) -> Path:
    """The folder that holds config, weights and processor of `source`, all of the same revision and complete.

    What is missing is downloaded from Hugging Face into `model_dir` (Hugging Face's own cache by default), by one
    process while others wait. A download that was cut off goes on with the files that it had not finished. Where
    everything is there, no request is made. Python files come along with `trust_remote_code` only. Raises ModelError.
    """
    if source.folder is not None:
        require_whole(source.folder)
        return source.folder
    return fetch(source, model_dir, code=trust_remote_code)


def source_family(source: ModelSource, model_dir: str | None = None, told: Family | None = None) -> Family:
    """As `checkpoint_family`, of `source`; its config, a small file, is downloaded if it is not here."""
    return checkpoint_family(source.folder or fetch_config(source, model_dir), told)


def checkpoint_family(folder: Path, told: Family | None = None) -> Family:
    """The family of the checkpoint in `folder`, by its config, or as `told` where that is of an unknown type.

    Raises ModelError for an unknown type of which nothing is told.
    """
    config = _config(folder)
    model_type, architectures = config.get("model_type"), config.get("architectures") or []
    for name in (model_type, *architectures):
        if name in _FAMILIES:
            return _FAMILIES[name]
    if "vision_config" not in config and any(name.endswith("ForCausalLM") for name in architectures):
        return "text"
    if told is not None:
        return told
    raise ModelError(
        f"model in {folder}",
        f"its type {model_type!r} is of no known family",
        f"use a text model or one of {', '.join(_FAMILIES)}; or, where it is like one of them, give model_family",
    )


def checkpoint_frame_limits(folder: Path, family: Family) -> FrameLimits:
    """The frame limits that the checkpoint's own processor states. Raises ModelError where it states none."""
    if family in ("nemotron-v2-vl", "nemotron-3-omni"):
        return _nemotron_frame_limits(_config(folder))
    for name in ("video_preprocessor_config.json", "preprocessor_config.json", "processor_config.json"):
        if not (folder / name).is_file():
            continue
        config = json.loads((folder / name).read_text())
        config = config.get("video_processor", config)
        size = config.get("size") or {}
        low = size.get("shortest_edge", config.get("min_pixels"))
        high = size.get("longest_edge", config.get("max_pixels"))
        if low and high and "patch_size" in config:
            factor = config["patch_size"] * config.get("merge_size", 2)
            return FrameLimits(factor, low, high, per_video=family == "qwen3-vl")
    raise ModelError(
        f"model in {folder}",
        "its processor states no frame size",
        "save the video processor's config (video_preprocessor_config.json) with the weights",
    )


def _nemotron_frame_limits(config: dict[str, Any]) -> FrameLimits:
    """As vLLM reads them (`NanoNemotronVLProcessor`), which has a processor of its own for these models."""
    vision = config.get("vision_config") or {}
    patch = config.get("patch_size") or vision.get("patch_size") or 16
    factor = round(patch / config.get("downsample_ratio", 0.5))
    side = vision.get("video_target_img_size") or config.get("force_image_size") or 512
    patches = vision.get("video_target_num_patches") or math.ceil(side / patch) ** 2
    filled = vision.get("video_maintain_aspect_ratio", False) and (
        "video_target_num_patches" in vision or "video_target_img_size" in vision
    )
    area = patches * patch * patch
    return FrameLimits(factor, area, area, shape="filled" if filled else "square")


def checkpoint_max_len(folder: Path) -> int | None:
    """How many tokens the checkpoint's language model takes at most, where its config says so."""
    config = _config(folder)
    parts = [config.get(name) or {} for name in ("text_config", "llm_config")]
    return next(
        (part["max_position_embeddings"] for part in [*parts, config] if "max_position_embeddings" in part), None
    )


def weights_gib(folder: Path) -> float:
    """The size of all weights in `folder`, in GiB."""
    return sum(path.stat().st_size for path in _weight_files(folder)) / (1 << 30)


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text())
    except FileNotFoundError:
        raise ModelError(
            f"model directory {folder}", "it has no config.json", "give a folder with config, weights and tokenizer"
        ) from None
    except ValueError as error:
        raise ModelError(f"model directory {folder}", f"its config.json is not JSON ({error})") from error
    return config


def _weight_files(folder: Path) -> list[Path]:
    return sorted(path for pattern in _WEIGHTS for path in folder.glob(pattern))


def _folder_revision(folder: Path) -> str:
    """A hash that changes with the checkpoint: its config, and the size and first megabyte of each weights file."""
    asked = f"model directory {folder}"
    if not folder.is_dir():
        fix = "give a folder, or a Hugging Face id such as owner/name as model_id (--model-id)"
        raise ModelError(asked, "there is no such folder", fix)
    _config(folder)
    weights = _weight_files(folder)
    if not weights:
        raise ModelError(asked, "it holds no weights (*.safetensors)", "download the whole model, weights included")
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for path in weights:
        digest.update(f"{path.name} {path.stat().st_size}".encode())
        with path.open("rb") as file:
            digest.update(file.read(1 << 20))
    return digest.hexdigest()[:16]
