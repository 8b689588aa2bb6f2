"""Where a variant's weights are: embedded in this package, in a folder, or on Hugging Face."""

import hashlib
import json
from pathlib import Path

from caption_assets.errors import ModelError
from caption_assets.models.demo import checkpoint
from caption_assets.models.engine import ModelSource
from caption_assets.models.variants import Family, FrameLimits, Variant

_FAMILIES: dict[str, Family] = {
    "qwen2_5_vl": "qwen2.5-vl",
    "qwen3_vl": "qwen3-vl",
    "qwen2": "text",
    "qwen3": "text",
}
_WEIGHTS = ("*.safetensors", "*.bin")


def model_source(variant: Variant, model_path: str | None = None) -> ModelSource:
    """The weights of `variant`, or those at `model_path` (a folder or a Hugging Face id) in its place.

    Reads a folder's small files only and downloads nothing. Raises ModelError for a folder that is no checkpoint.
    """
    if model_path is None and variant.is_embedded:
        folder = checkpoint(variant.model_id.removeprefix("embedded:"))
        return ModelSource(variant.model_id, _folder_revision(folder), folder)
    if model_path is None:
        return ModelSource(variant.model_id, variant.revision)
    folder = Path(model_path).expanduser()
    if folder.exists() or model_path.startswith((".", "/", "~")) or model_path.count("/") != 1:
        return ModelSource(folder.name, _folder_revision(folder), folder.absolute())
    model_id, _, revision = model_path.partition("@")
    return ModelSource(model_id, revision or "main")


def locate(source: ModelSource, model_dir: str | None = None) -> Path:
    """The folder that holds the weights of `source`; downloads them first where they are on Hugging Face.

    `model_dir` is the download cache, Hugging Face's own by default. Files that are there already are not asked
    for again. Raises ModelError.
    """
    if source.folder is not None:
        return source.folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    asked = f"weights of {source.model_id} at revision {source.revision}"
    patterns = ["*.json", "*.safetensors", "*.txt", "*.jinja", "*.model"]
    try:
        return Path(
            snapshot_download(source.model_id, revision=source.revision, cache_dir=model_dir, allow_patterns=patterns)
        )
    except GatedRepoError as error:
        fix = f"accept its licence at huggingface.co/{source.model_id} and set HF_TOKEN"
        raise ModelError(asked, "the model is gated", fix) from error
    except RepositoryNotFoundError as error:
        raise ModelError(asked, "there is no such model, or it is private", "check the id, or set HF_TOKEN") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        fix = "connect to the internet once, or put the files into a folder and give it as model_path"
        raise ModelError(asked, f"they are not here and cannot be downloaded ({_first_line(error)})", fix) from error


def checkpoint_family(folder: Path) -> Family:
    """The family of the checkpoint in `folder`, by its config's model_type. Raises ModelError for an unknown one."""
    model_type = _config(folder).get("model_type")
    if model_type not in _FAMILIES:
        known = ", ".join(_FAMILIES)
        raise ModelError(f"model in {folder}", f"its type {model_type!r} is not supported", f"use one of: {known}")
    return _FAMILIES[model_type]


def checkpoint_frame_limits(folder: Path, family: Family) -> FrameLimits:
    """The frame limits that the checkpoint's own processor states. Raises ModelError where it states none."""
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


def _config(folder: Path) -> dict:
    try:
        config = json.loads((folder / "config.json").read_text())
    except FileNotFoundError:
        raise ModelError(
            f"model directory {folder}", "it has no config.json", "give a folder with config, weights and tokenizer"
        ) from None
    except ValueError as error:
        raise ModelError(f"model directory {folder}", f"its config.json is not JSON ({error})") from error
    return config


def _folder_revision(folder: Path) -> str:
    """A hash that changes with the checkpoint: its config, and the size and first megabyte of each weights file."""
    asked = f"model directory {folder}"
    if not folder.is_dir():
        raise ModelError(asked, "there is no such folder", "give a folder, or a Hugging Face id such as owner/name")
    _config(folder)
    weights = sorted(path for pattern in _WEIGHTS for path in folder.glob(pattern))
    if not weights:
        raise ModelError(asked, "it holds no weights (*.safetensors)", "download the whole model, weights included")
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for path in weights:
        digest.update(f"{path.name} {path.stat().st_size}".encode())
        with path.open("rb") as file:
            digest.update(file.read(1 << 20))
    return digest.hexdigest()[:16]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
