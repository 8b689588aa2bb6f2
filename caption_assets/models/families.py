"""The model families: what is true of an architecture, whichever checkpoint of it runs. Each family is one object.

A new one is an object here, its word in `settings.ModelFamily`, and a row in `variants`. What is true of a single
checkpoint (its id, memory, sampling) stands in its row, and how an engine does what a family asks for in the engine.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

from caption_assets.errors import ModelError
from caption_assets.extras import install, missing
from caption_assets.settings import ModelFamily

# What a config's field begins with where its model takes more than text.
_OTHER_SENSES = ("vision_", "visual_", "image_", "video_", "audio_", "speech_", "mm_")


@dataclass(frozen=True, slots=True)
class FrameLimits:
    """Pixels of the frames that a model is given.

    `factor` divides both sides (patch size times merge size). `min_pixels` and `max_pixels` bound width times
    height of one frame, or with `per_video` their product with the number of frames. `shape` says what becomes of the
    aspect ratio: "bounded" keeps it within the bounds, "filled" keeps it and uses up `max_pixels`, "square" does not
    keep it.

    A model sees `together` frames as one: a token for each square of `factor` pixels, and at most `label_tokens`
    around them. All squares of a video are at most `max_video_tokens`, where its makers say so.
    """

    factor: int
    min_pixels: int
    max_pixels: int
    per_video: bool = False
    shape: Literal["bounded", "filled", "square"] = "bounded"
    together: int = 2
    label_tokens: int = 0
    max_video_tokens: int | None = None

    def within(self, other: "FrameLimits | None") -> "FrameLimits":
        """These limits with the pixels that the `other` ones allow, too; unchanged where no size would be left."""
        if other is None:
            return self
        low, high = max(self.min_pixels, other.min_pixels), min(self.max_pixels, other.max_pixels)
        return replace(self, min_pixels=low, max_pixels=high) if low <= high else self

    def as_images(self) -> "FrameLimits":
        """For frames that are sent as images of their own: no larger than these, and in their own aspect ratio."""
        return self if self.shape == "bounded" else replace(self, shape="bounded", min_pixels=self.factor**2)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Family:
    """One architecture. It is compared by identity, pickled by its name, and prints as its name; `title` is for people.

    Models of it are recognized by `config_types`, model types or architectures in config.json; `is_text` models see
    no video. `frame_limits` reads the limits of a checkpoint's frames from its `frame_limit_files`, of which the first
    that states them counts; text models have neither. `in_transformers` says that transformers has classes for it.

    Its thinking is switched off by `template_options` of its chat template, and by `system_message`, which is put
    before the other messages. `processor_options` have transformers' processor take frames as they are, sampled and
    resized already; `newer_processor_options` are given where the installed release has them. Both are empty where
    the family has no such processor.

    For vLLM: `items_per_prompt` is its `limit_mm_per_prompt`. `sized_processor` says that its processor is configured
    with the frame limits. `prunes_video` says that it can leave tokens of a video out. `compiles_vision` and
    `pads_vision_mlps` say what makes its vision tower faster on a GPU. `corrects_grid_seconds` says that the time
    between temporal positions has to be set after rendering; a server's release before `server_times_since` (major,
    minor) gets it wrong. `keeps_prefixes` says that a prompt can begin with the keys and values of another one.
    """

    name: ModelFamily
    title: str
    config_types: tuple[str, ...] = ()
    is_text: bool = False
    frame_limit_files: tuple[str, ...] = ()
    frame_limits: Callable[[dict[str, Any]], FrameLimits | None] | None = None
    in_transformers: bool = False
    template_options: Mapping[str, Any] = field(default_factory=dict)
    system_message: str | None = None
    processor_options: Mapping[str, Any] = field(default_factory=dict)
    newer_processor_options: Mapping[str, Any] = field(default_factory=dict)
    items_per_prompt: Mapping[str, int] = field(default_factory=dict)
    sized_processor: bool = False
    prunes_video: bool = False
    compiles_vision: bool = False
    pads_vision_mlps: bool = False
    corrects_grid_seconds: bool = False
    server_times_since: tuple[int, int] = (0, 0)
    keeps_prefixes: bool = True

    @property
    def kind(self) -> str:
        """What its models are, in words, with an article."""
        return "a text model" if self.is_text else "a vision-language model"

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"Family({self.name!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return _named, (self.name,)


def family_of(config: Mapping[str, Any]) -> Family | None:
    """The family of a model by its config.json, None where that is of an unknown type.

    Any causal language model that transformers knows as nothing else is a text model. A class's name alone does not
    tell: many models that see or hear are called `…ForCausalLM`, and nothing in their configs says more. Raises
    ModelError where it takes transformers to know, which is not installed.
    """
    listed = config.get("architectures")
    architectures = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
    for name in (config.get("model_type"), *architectures):
        for family in FAMILIES.values():
            if name in family.config_types:
                return family
    if any(name.endswith("ForCausalLM") for name in architectures) and _is_text(config):
        return FAMILIES["text"]
    return None


def _is_text(config: Mapping[str, Any]) -> bool:
    if wrong := missing("transformers"):
        raise ModelError(f"family of a model of type {config.get('model_type')}", wrong, install("transformers"))
    from transformers.models.auto import modeling_auto as known

    if any(name.startswith(_OTHER_SENSES) for name in config):
        return False
    kind = config.get("model_type")
    others = (known.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES, known.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES)
    return kind in known.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not any(kind in other for other in others)


def _processor_limits(config: dict[str, Any], published: FrameLimits) -> FrameLimits | None:
    """As Qwen's video processors state them; the rest as `published`."""
    config = config.get("video_processor", config)
    size = config.get("size") or {}
    low = size.get("shortest_edge", config.get("min_pixels"))
    high = size.get("longest_edge", config.get("max_pixels"))
    if not (low and high and "patch_size" in config):
        return None
    factor = config["patch_size"] * config.get("merge_size", 2)
    return replace(published, factor=factor, min_pixels=low, max_pixels=high)


def _nemotron_limits(config: dict[str, Any]) -> FrameLimits:
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
    together = vision.get("video_temporal_patch_size", 1)
    # "Frame 12 sampled at 123.45 seconds: ", for each frame; digits are tokens of their own.
    labels = 2 + 24 * together
    return FrameLimits(
        factor, area, area, shape="filled" if filled else "square", together=together, label_tokens=labels
    )


QWEN25_FRAMES = FrameLimits(factor=28, min_pixels=3136, max_pixels=12845056, max_video_tokens=24576)
"""As published with Qwen2.5-VL; the most tokens of a video are those of its report (arXiv:2502.13923, section 2.1)."""

# "<1234.5 seconds>" and two marks, for each pair of frames.
QWEN3_FRAMES = FrameLimits(factor=32, min_pixels=4096, max_pixels=24 << 20, per_video=True, label_tokens=12)
"""As published with Qwen3-VL, whose limits are those of a whole video."""

_PROCESSOR_FILES = ("video_preprocessor_config.json", "preprocessor_config.json", "processor_config.json")
_AS_THEY_ARE = {"do_sample_frames": False, "do_resize": False}
# Newer processors ask whether they may shrink frames; these have been shrunk.
_NOT_SHRUNK = {"cap_pixels_per_frame": False}
_NO_THINKING = {"enable_thinking": False}
_ONE_VIDEO = {"image": 0, "video": 1}

_QWEN3_VL = Family(
    "qwen3-vl",
    "Qwen3-VL",
    config_types=("qwen3_vl", "qwen3_vl_moe"),
    frame_limit_files=_PROCESSOR_FILES,
    frame_limits=partial(_processor_limits, published=QWEN3_FRAMES),
    in_transformers=True,
    processor_options=_AS_THEY_ARE,
    newer_processor_options=_NOT_SHRUNK,
    items_per_prompt=_ONE_VIDEO,
    sized_processor=True,
)
_FAMILIES = (
    Family(
        "qwen2.5-vl",
        "Qwen2.5-VL",
        config_types=("qwen2_5_vl",),
        frame_limit_files=_PROCESSOR_FILES,
        frame_limits=partial(_processor_limits, published=QWEN25_FRAMES),
        in_transformers=True,
        processor_options=_AS_THEY_ARE,
        newer_processor_options=_NOT_SHRUNK,
        items_per_prompt=_ONE_VIDEO,
        sized_processor=True,
        prunes_video=True,
        # Its vision tower is a third of the GPU's work, which compiling makes a third less; vLLM leaves that off.
        compiles_vision=True,
        pads_vision_mlps=True,
        # vLLM before 0.26 takes 24 frames a second whatever the metadata say, and later versions round to bfloat16.
        corrects_grid_seconds=True,
        server_times_since=(0, 26),
    ),
    _QWEN3_VL,
    # The same vision and the same processor; what differs is the language model, and that it thinks.
    replace(
        _QWEN3_VL,
        name="qwen3.5",
        title="Qwen3.5",
        config_types=("qwen3_5", "qwen3_5_moe"),
        template_options=_NO_THINKING,
        keeps_prefixes=False,
    ),
    Family(
        "nemotron-v2-vl",
        "Nemotron Nano v2 VL",
        config_types=("NemotronH_Nano_VL_V2",),
        frame_limit_files=("config.json",),
        frame_limits=_nemotron_limits,
        # Its template looks for this word in the messages, and removes it.
        system_message="/no_think",
        items_per_prompt=_ONE_VIDEO,
        prunes_video=True,
        keeps_prefixes=False,
    ),
    Family(
        "nemotron-3-omni",
        "Nemotron 3 Nano Omni",
        config_types=("NemotronH_Nano_Omni_Reasoning_V3", "NemotronH_Omni_Reasoning_V3", "nemotron_h_omni"),
        frame_limit_files=("config.json",),
        frame_limits=_nemotron_limits,
        template_options=_NO_THINKING,
        items_per_prompt=_ONE_VIDEO | {"audio": 0},
        prunes_video=True,
        keeps_prefixes=False,
    ),
    Family("text", "text", is_text=True, in_transformers=True, template_options=_NO_THINKING),
)

FAMILIES: Mapping[ModelFamily, Family] = MappingProxyType({family.name: family for family in _FAMILIES})
"""All families by name."""


def _named(name: ModelFamily) -> Family:
    return FAMILIES[name]
