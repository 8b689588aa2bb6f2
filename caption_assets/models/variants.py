"""The variants: named models with their precision, limits and sampling, as one frozen table.

Ids and revisions are those that NeMo Curator and Cosmos Curate pin. A new model of a known family is one row.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from caption_assets.errors import ConfigError

Family = Literal["qwen2.5-vl", "qwen3-vl", "nemotron-v2-vl", "nemotron-3-omni", "text"]
Precision = Literal["auto", "bf16", "fp8", "nvfp4"]

TRANSFORMERS_FAMILIES: frozenset[Family] = frozenset({"qwen2.5-vl", "qwen3-vl", "text"})


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. Temperature 0 is greedy."""

    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0


@dataclass(frozen=True, slots=True)
class FrameLimits:
    """Pixels of the frames that a model is given.

    `factor` divides both sides (patch size times merge size). `min_pixels` and `max_pixels` bound width times
    height of one frame, or with `per_video` their product with the number of frames.
    """

    factor: int
    min_pixels: int
    max_pixels: int
    per_video: bool = False


@dataclass(frozen=True, slots=True)
class Variant:
    """One row of the table.

    `model_id` is a Hugging Face id, a folder, or `embedded:<name>` for a checkpoint of this package;
    `min_gpu_gib` is the least GPU memory that it runs with. `frames` is None for text models and for
    families that resize by themselves.
    """

    name: str
    model_id: str
    revision: str
    family: Family
    precision: Precision = "bf16"
    min_gpu_gib: int = 0
    frames: FrameLimits | None = None
    sampling: Sampling = Sampling()

    @property
    def is_text(self) -> bool:
        return self.family == "text"

    @property
    def is_embedded(self) -> bool:
        return self.model_id.startswith("embedded:")


_QWEN25_FRAMES = FrameLimits(factor=28, min_pixels=128 * 28 * 28, max_pixels=768 * 28 * 28)
_QWEN3_FRAMES = FrameLimits(factor=32, min_pixels=4096, max_pixels=24 * 1024 * 1024, per_video=True)
_QWEN_SAMPLING = Sampling(repetition_penalty=1.05)

_QWEN25 = Variant(
    name="qwen2.5",
    model_id="Qwen/Qwen2.5-VL-7B-Instruct",
    revision="cc594898137f460bfe9f0759e9844b3ce807cfb5",
    family="qwen2.5-vl",
    min_gpu_gib=24,
    frames=_QWEN25_FRAMES,
    sampling=_QWEN_SAMPLING,
)
_NEMOTRON = Variant(
    name="nemotron-bf16",
    model_id="nvidia/NVIDIA-Nemotron-Nano-12B-v2-VL-BF16",
    revision="5d250e2e111dc5e1434131bdf3d590c27a878ade",
    family="nemotron-v2-vl",
    min_gpu_gib=40,
)
_CAPTION_VARIANTS = (
    Variant(
        name="demo",
        model_id="embedded:demo",
        revision="",
        family="qwen2.5-vl",
        frames=None,  # the checkpoint's own
    ),
    replace(_QWEN25, name="qwen"),
    _QWEN25,
    Variant(
        name="qwen3",
        model_id="Qwen/Qwen3-VL-8B-Instruct",
        revision="0c351dd",
        family="qwen3-vl",
        min_gpu_gib=24,
        frames=_QWEN3_FRAMES,
        sampling=Sampling(),
    ),
    replace(_NEMOTRON, name="nemotron"),
    _NEMOTRON,
    replace(
        _NEMOTRON,
        name="nemotron-fp8",
        model_id="nvidia/NVIDIA-Nemotron-Nano-12B-v2-VL-FP8",
        revision="7394488badb786e1decc0e00e308de1cab9560e6",
        precision="fp8",
        min_gpu_gib=24,
    ),
    replace(
        _NEMOTRON,
        name="nemotron-nvfp4",
        model_id="nvidia/NVIDIA-Nemotron-Nano-12B-v2-VL-NVFP4-QAD",
        revision="b8d3c170d9ee3a078917ef9bfd508eff988d6de7",
        precision="nvfp4",
        min_gpu_gib=24,
    ),
    Variant(
        name="nemotron-3-nano-omni",
        model_id="nvidia/Nemotron-3-Nano-Omni-30B-A3B-Reasoning",
        revision="23d21acd455d9836d50c48570a329bde77e08ba4",
        family="nemotron-3-omni",
        min_gpu_gib=80,
    ),
)
_QWEN_LM = Variant(
    name="qwen_lm",
    model_id="Qwen/Qwen2.5-14B-Instruct",
    revision="cf98f3b3bbb457ad9e2bb7baf9a0125b6b88caa8",
    family="text",
    min_gpu_gib=40,
    sampling=_QWEN_SAMPLING,
)
_QWEN3_LM = replace(_QWEN_LM, model_id="Qwen/Qwen3-14B", revision="f8c293d", sampling=Sampling())
_DEMO_LM = Variant(name="demo_lm", model_id="embedded:demo_lm", revision="", family="text")

CAPTION_VARIANTS: Mapping[str, Variant] = MappingProxyType({v.name: v for v in _CAPTION_VARIANTS})
"""Caption variants by name. The name is the caption key: `<name>_caption` in the output."""

ENHANCE_VARIANTS: Mapping[str, Variant] = MappingProxyType(
    # By algorithm; Qwen2.5 and Qwen3 both write the key qwen_lm, as the original does.
    {"demo_lm": _DEMO_LM, "qwen_lm": _QWEN_LM, "qwen": _QWEN_LM, "qwen2.5": _QWEN_LM, "qwen3": _QWEN3_LM}
)
"""Enhancement algorithms by name. The row's `name` is the key: `<name>_enhanced_caption` in the output."""


def caption_variant(name: str) -> Variant:
    return _lookup(CAPTION_VARIANTS, "model variant", name)


def enhance_variant(name: str) -> Variant:
    return _lookup(ENHANCE_VARIANTS, "enhancement algorithm", name)


def _lookup(table: Mapping[str, Variant], what: str, name: str) -> Variant:
    if name not in table:
        raise ConfigError(f"{what} {name!r}", "there is no such one", f"choose one of {', '.join(table)}")
    return table[name]
