"""Checkpoints: which weights (embedded in this package, in a folder, or on Hugging Face), and what their files say."""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from caption_assets.errors import ConfigError, ModelError
from caption_assets.models.families import FAMILIES, Family, FrameLimits, family_of
from caption_assets.models.variants import Variant

_WEIGHTS = "*.safetensors"
# Data of the demo's room; its code is not needed here.
_EMBEDDED = Path(__file__).parents[2] / "demo" / "checkpoints"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Which weights: a folder (`revision` is then a hash of its files), or a Hugging Face id at a pinned revision."""

    model_id: str
    revision: str
    folder: Path | None = None

    def __str__(self) -> str:
        return f"{self.model_id} at revision {self.revision}"


def checkpoint_of(variant: Variant, model_path: str | None = None) -> Checkpoint:
    """The checkpoint of `variant`, or the one in the folder `model_path` in its place.

    Reads a folder's small files only and downloads nothing. Raises ModelError for a folder that is no checkpoint.
    """
    if model_path is not None:
        folder = Path(model_path).expanduser()
        return Checkpoint(folder.name, _folder_revision(folder), folder.absolute())
    if variant.is_embedded:
        folder = _EMBEDDED / variant.model_id.removeprefix("embedded:")
        return Checkpoint(variant.model_id, _folder_revision(folder), folder)
    return Checkpoint(variant.model_id, variant.revision)


def checkpoint_family(folder: Path, declared: Family | None = None) -> Family:
    """The family of the checkpoint in `folder`, by its config, or the `declared` one where that is of an unknown type.

    Raises ModelError for an unknown type with no family declared.
    """
    config = _config(folder)
    family = family_of(config) or declared
    if family is None:
        types = ", ".join(name for known in FAMILIES.values() for name in known.config_types)
        raise ModelError(
            f"model in {folder}",
            f"its type {config.get('model_type')!r} is of no known family",
            f"use a text model or one of {types}; or, where it is like one of them, give model_family",
        )
    return family


def known_architecture(folder: Path) -> str | None:
    """The class for the checkpoint's model type, where its config names one of its own code for the same weights."""
    from transformers.models.auto import modeling_auto as known

    config = _config(folder)
    classes = known.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.get(config.get("model_type"))
    named = config.get("architectures") or []
    own = "auto_map" in config and isinstance(classes, str) and classes not in named
    return classes if own else None


def checkpoint_frame_limits(folder: Path, family: Family) -> FrameLimits | None:
    """The frame limits that the checkpoint itself states, None for a text model. Raises ModelError for none."""
    if family.frame_limits is None:
        return None
    for name in family.frame_limit_files:
        if (folder / name).is_file():
            limits = family.frame_limits(json.loads((folder / name).read_text()))
            if limits is not None:
                return limits
    raise ModelError(
        f"model in {folder}",
        "its processor states no frame size",
        "save the video processor's config (video_preprocessor_config.json) with the weights",
    )


def frame_limits(variant: Variant, folder: Path, family: Family) -> FrameLimits | None:
    """The limits of the frames that the checkpoint in `folder` is given here, None for a text model.

    Its own, narrowed by the variant's, with the pixels that the user asks for. Raises as the two that it is made of.
    """
    limits = checkpoint_frame_limits(folder, family)
    return None if limits is None else asked_limits(variant, limits.within(variant.frames))


def asked_limits(variant: Variant, limits: FrameLimits) -> FrameLimits:
    """The `limits` with the pixels that the user asks for. Raises ConfigError for those that cannot be."""
    low, high = variant.min_pixels, variant.max_pixels
    if low is None and high is None:
        return limits
    if limits.shape != "bounded":
        wrong = f"frames of family {variant.family} have a size of their own"
        raise ConfigError("min_pixels or max_pixels", wrong, "leave both out")
    high = limits.max_pixels if high is None else high
    low = min(limits.min_pixels, high) if low is None else low
    if low > high:
        raise ConfigError(f"min_pixels {low}", f"it is above max_pixels, {high}", "lower it, or raise max_pixels")
    if high < limits.factor**2:
        wrong = f"the model sees squares of {limits.factor}x{limits.factor} pixels"
        raise ConfigError(f"max_pixels {high}", wrong, f"give {limits.factor**2} or more")
    return replace(limits, min_pixels=low, max_pixels=high)


def checkpoint_max_len(folder: Path) -> int | None:
    """How many tokens the checkpoint's language model takes at most, where its config says so."""
    config = _config(folder)
    parts = [config.get(name) or {} for name in ("text_config", "llm_config")]
    return next(
        (part["max_position_embeddings"] for part in [*parts, config] if "max_position_embeddings" in part), None
    )


def no_weights(asked: str) -> ModelError:
    """The error for a checkpoint without weights that can be loaded."""
    wrong = f"it holds no weights as {_WEIGHTS}, and others (pickles such as *.bin) could run code as they are loaded"
    return ModelError(asked, wrong, "download the whole model, weights included, or save it as safetensors")


def weights_gib(folder: Path) -> float:
    """The size of all weights in `folder`, in GiB."""
    return sum(path.stat().st_size for path in _weight_files(folder)) / (1 << 30)


def _config(folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    except FileNotFoundError:
        raise ModelError(
            f"model directory {folder}", "it has no config.json", "give a folder with config, weights and tokenizer"
        ) from None
    except ValueError as error:
        raise ModelError(f"model directory {folder}", f"its config.json is not JSON ({error})") from error
    if not isinstance(config, dict):
        raise ModelError(f"model directory {folder}", "its config.json is no JSON object", "download the model again")
    return config


def _weight_files(folder: Path) -> list[Path]:
    return sorted(folder.glob(_WEIGHTS))


def _folder_revision(folder: Path) -> str:
    """A hash that changes with the checkpoint: its config, and the size and first megabyte of each weights file."""
    asked = f"model directory {folder}"
    if not folder.is_dir():
        fix = "give a folder, or a Hugging Face id such as owner/name as model_id (--model-id)"
        raise ModelError(asked, "the folder does not exist", fix)
    _config(folder)
    weights = _weight_files(folder)
    if not weights:
        raise no_weights(asked)
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for path in weights:
        digest.update(f"{path.name} {path.stat().st_size}".encode())
        with path.open("rb") as file:
            digest.update(file.read(1 << 20))
    return digest.hexdigest()[:16]
