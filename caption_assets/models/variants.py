"""The variants: named models with their precision, limits and sampling, as one frozen table.

A new model of a known family is one row here, and its name in `settings.variants`. Where ids, revisions and memory are
from stands in docs/models.md.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from caption_assets.errors import ConfigError, ModelError
from caption_assets.models.families import FAMILIES, QWEN3_FRAMES, QWEN25_FRAMES, Family, FrameLimits
from caption_assets.settings import AskedPrecision

Precision = Literal["bf16", "fp8", "nvfp4"]
"""Of weights on a GPU."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn, by all engines alike.

    Scores are first lowered for what stands in prompt or answer (`repetition_penalty`, a factor) and in the answer
    (`presence_penalty`, a difference), then divided by `temperature`, where 0 takes the best one, and cut off to the
    `top_k` best (0: all) and to the best that together have the probability `top_p`. `requests.request_seed` makes a
    window's own seed of `seed`.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class VllmOptions:
    """vLLM's engine arguments of the same names, for a GPU with room; `gpus.fit` adapts them to a given one.

    `max_model_len` bounds the prompt and answer of a window, in tokens; the checkpoint's own limit holds where it is
    lower. `max_num_batched_tokens` is less only for families whose videos vLLM takes in at any length: it refuses a
    Qwen video that no batch can hold.
    """

    max_model_len: int = 32768
    max_num_batched_tokens: int = 32768
    max_num_seqs: int = 256
    gpu_memory_utilization: float = 0.85
    dtype: str = "auto"


@dataclass(frozen=True, slots=True)
class Variant:
    """One row of the table.

    `model_id` is a Hugging Face id, or `embedded:<name>` for a checkpoint of this package. `precision` is that of the
    weights as published, and `licence` theirs, by its SPDX name where it has one. `min_gpu_gib` is the least free GPU
    memory to run with, 0 where it is unknown (a card sold with 24 GB has 22 to 24 GiB): computed of the weights, unless
    it `is_measured`. `fp8_min_gpu_gib` is the same with weights that are quantized to FP8 as they are loaded, None
    where they cannot be, or are published so. `min_capability` is the least CUDA compute capability. `remote_code` says
    that the checkpoint's config is a class in its repository. `frames` narrows the checkpoint's own limits, and is None
    where those hold, for families that resize by themselves, and for text models; `min_pixels` and `max_pixels` are
    what the user asks for in their place, and `video_pruning` is the share of a video's tokens that the user wants left
    out. An answer ends before any of the texts in `stop`; `begins_with` is a mark that the model puts before each of
    its answers, and that is no part of it.
    """

    name: str
    model_id: str
    revision: str
    family: Family
    precision: Precision = "bf16"
    licence: str = "Apache-2.0"
    min_gpu_gib: int = 0
    is_measured: bool = False
    fp8_min_gpu_gib: int | None = None
    min_capability: tuple[int, int] = (8, 0)
    remote_code: bool = False
    frames: FrameLimits | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    video_pruning: float = 0.0
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()
    begins_with: str = ""
    vllm: VllmOptions = VllmOptions()

    @property
    def is_text(self) -> bool:
        return self.family.is_text

    @property
    def is_embedded(self) -> bool:
        return self.model_id.startswith("embedded:")

    @property
    def is_own(self) -> bool:
        """Whether it stands for a user's own model, of which nobody knows how much memory it needs."""
        return not self.min_gpu_gib

    def in_precision(self, asked: AskedPrecision) -> "Variant":
        """This row as it runs in the precision `asked` for: auto is the row's own, fp8 may quantize on load.

        Raises ConfigError where the weights are unavailable in it. fp32 is for CPUs, and changes nothing in the row.
        """
        if asked in ("auto", "fp32", self.precision):
            return self
        if asked == "fp8" and self.fp8_min_gpu_gib is not None:
            capability = max(self.min_capability, _FP8_CAPABILITY)
            return replace(self, precision="fp8", min_gpu_gib=self.fp8_min_gpu_gib, min_capability=capability)
        others = [row.name for row in _TABLE if row._weights == self._weights and row.precision == asked]
        raise ConfigError(
            f"variant {self.name!r} in precision {asked!r}",
            f"its weights are {self.precision}",
            "leave the precision at auto" + (f", or choose {' or '.join(others)}" if others else ""),
        )

    @property
    def _weights(self) -> str:
        return re.sub("-(?:BF16|FP8|NVFP4)(?:-QAD)?$", "", self.model_id)

    def weights_precision(self, asked: AskedPrecision) -> Precision:
        """The precision of the weights on a GPU when `asked` is asked for. Raises ConfigError as `in_precision`."""
        return self.in_precision(asked).precision

    def quantization(self, asked: AskedPrecision) -> str | None:
        """vLLM's `quantization`: how to quantize on load. Published quantized weights say so in their own config."""
        return "fp8" if asked == "fp8" and self.fp8_min_gpu_gib is not None else None


_FP8_CAPABILITY = (8, 9)  # FP8 arithmetic came with Ada and Hopper
_QWEN25_FRAMES = replace(QWEN25_FRAMES, min_pixels=128 * 28 * 28, max_pixels=768 * 28 * 28)
# As in the checkpoint of Qwen2.5-VL, whose temperature of 1e-6 is greedy. Qwen2.5's own 0.7 is for conversations:
# captions are to be rewritten with nothing added, so that its likeliest words are wanted.
_QWEN25_SAMPLING = Sampling(repetition_penalty=1.05)
# As the makers recommend without thinking; of greedy decoding they warn that it repeats itself without end.
_QWEN3_SAMPLING = Sampling(temperature=0.7, top_p=0.8, top_k=20)

# Memory: the weights, the encoder, and about 4 GiB of key-value cache.
_QWEN25 = Variant(
    name="qwen2.5",
    model_id="Qwen/Qwen2.5-VL-7B-Instruct",
    revision="cc594898137f460bfe9f0759e9844b3ce807cfb5",
    family=FAMILIES["qwen2.5-vl"],
    min_gpu_gib=21,
    fp8_min_gpu_gib=14,
    frames=_QWEN25_FRAMES,
    sampling=_QWEN25_SAMPLING,
)
_QWEN3 = Variant(
    name="qwen3",
    model_id="Qwen/Qwen3-VL-8B-Instruct",
    revision="0c351dd01ed87e9c1b53cbc748cba10e6187ff3b",
    family=FAMILIES["qwen3-vl"],
    min_gpu_gib=21,
    fp8_min_gpu_gib=15,
    frames=QWEN3_FRAMES,
    sampling=replace(_QWEN3_SAMPLING, presence_penalty=1.5),
    # Its frames are limited for the video as a whole: at most 12288 tokens and the times between them.
    vllm=VllmOptions(max_model_len=16384),
)
# As the makers recommend for answers without thinking, again. The state of the layers with linear attention is kept for
# each running sequence: 19 MiB in the smallest, 150 in the largest.
_QWEN35 = replace(
    _QWEN3,
    name="qwen3.5-2b",
    model_id="Qwen/Qwen3.5-2B",
    revision="15852e8c16360a2fea060d615a32b45270f8a8fc",
    family=FAMILIES["qwen3.5"],
    min_gpu_gib=10,
    fp8_min_gpu_gib=None,
    vllm=VllmOptions(max_model_len=16384, max_num_batched_tokens=16384, max_num_seqs=64),
)
_NEMOTRON = Variant(
    name="nemotron-bf16",
    model_id="nvidia/NVIDIA-Nemotron-Nano-12B-v2-VL-BF16",
    revision="5d250e2e111dc5e1434131bdf3d590c27a878ade",
    family=FAMILIES["nemotron-v2-vl"],
    licence="NVIDIA Open Model License",
    min_gpu_gib=36,
    remote_code=True,
    # Not </think>: an answer would end with the reasoning.
    stop=("</s>", "<|endoftext|>", "<SPECIAL_12>"),
    # vLLM tries the start with a video that fills the model's length; each running sequence keeps 142 MiB of state.
    # Its Mamba layers take more memory for a long batch than vLLM sets aside: 32768 tokens are too many for 80 GB.
    vllm=VllmOptions(
        max_model_len=16384, max_num_batched_tokens=8192, max_num_seqs=32, gpu_memory_utilization=0.9, dtype="bfloat16"
    ),
)
_OMNI = Variant(
    name="nemotron-3-nano-omni",
    model_id="nvidia/Nemotron-3-Nano-Omni-30B-A3B-Reasoning-BF16",
    revision="24e67ea000b7c2837fc8f9488aa2008524fac8ba",
    family=FAMILIES["nemotron-3-omni"],
    licence="NVIDIA Open Model Agreement",
    min_gpu_gib=72,
    remote_code=True,
    stop=("<|im_end|>",),
    vllm=_NEMOTRON.vllm,
)
_DEMO = Variant(name="demo", model_id="embedded:demo", revision="", family=FAMILIES["qwen2.5-vl"], min_gpu_gib=1)


def _row(like: Variant, name: str, model_id: str, revision: str, gib: int, fp8: int | None = None) -> Variant:
    """Another model of the family of `like`: its id, which tells the precision, its least memory, and that in FP8."""
    row = replace(like, name=name, model_id=model_id, revision=revision, min_gpu_gib=gib, fp8_min_gpu_gib=fp8)
    precision = _suffix(model_id)
    return replace(row, precision=precision, min_capability=_FP8_CAPABILITY if precision == "fp8" else (8, 0))


def _suffix(model_id: str) -> Precision:
    return "nvfp4" if "-NVFP4" in model_id else "fp8" if "-FP8" in model_id else "bf16"


_LARGE = replace(_QWEN3, vllm=replace(_QWEN3.vllm, gpu_memory_utilization=0.92))
_LARGE35 = replace(_QWEN35, vllm=replace(_QWEN35.vllm, max_num_seqs=32, gpu_memory_utilization=0.92))
# Trained with at most 448x448 pixels of a frame, and greedy.
_MARLIN = replace(
    _QWEN35, frames=replace(QWEN3_FRAMES, max_pixels=20 * 448 * 448), sampling=Sampling(), begins_with="<think>"
)
_CAPTION_VARIANTS = (
    _DEMO,
    replace(_QWEN25, name="qwen"),
    _QWEN25,
    _QWEN3,
    replace(_NEMOTRON, name="nemotron"),
    _NEMOTRON,
    _row(
        _NEMOTRON,
        "nemotron-fp8",
        "nvidia/NVIDIA-Nemotron-Nano-12B-v2-VL-FP8",
        "7394488badb786e1decc0e00e308de1cab9560e6",
        20,
    ),
    _row(
        _NEMOTRON,
        "nemotron-nvfp4",
        "nvidia/NVIDIA-Nemotron-Nano-12B-v2-VL-NVFP4-QAD",
        "b8d3c170d9ee3a078917ef9bfd508eff988d6de7",
        20,
    ),
    _OMNI,
    _row(
        _OMNI,
        "nemotron-3-nano-omni-fp8",
        "nvidia/Nemotron-3-Nano-Omni-30B-A3B-Reasoning-FP8",
        "6647b845a4b786c6e2c7adb1b6a909e1aa71fac2",
        42,
    ),
    _row(
        _OMNI,
        "nemotron-3-nano-omni-nvfp4",
        "nvidia/Nemotron-3-Nano-Omni-30B-A3B-Reasoning-NVFP4",
        "dc5f0b0bfddf8b6e0f5891475be9af05b80126fe",
        29,
    ),
    _row(_QWEN3, "qwen3-2b", "Qwen/Qwen3-VL-2B-Instruct", "89644892e4d85e24eaac8bacfd4f463576704203", 9, fp8=8),
    _row(_QWEN3, "qwen3-4b", "Qwen/Qwen3-VL-4B-Instruct", "ebb281ec70b05090aa6165b016eac8ec08e71b17", 13, fp8=10),
    _row(_LARGE, "qwen3-32b", "Qwen/Qwen3-VL-32B-Instruct", "0cfaf48183f594c314753d30a4c4974bc75f3ccb", 70, fp8=40),
    _row(_LARGE, "qwen3-30b-a3b", "Qwen/Qwen3-VL-30B-A3B-Instruct", "9c4b90e1e4ba969fd3b5378b57d966d725f1b86c", 66),
    _row(_QWEN3, "qwen3-2b-fp8", "Qwen/Qwen3-VL-2B-Instruct-FP8", "main", 8),
    _row(_QWEN3, "qwen3-4b-fp8", "Qwen/Qwen3-VL-4B-Instruct-FP8", "main", 10),
    _row(_QWEN3, "qwen3-8b-fp8", "Qwen/Qwen3-VL-8B-Instruct-FP8", "9cdc6310a8cb770ce18efaf4e9935334512aee45", 15),
    _row(_LARGE, "qwen3-32b-fp8", "Qwen/Qwen3-VL-32B-Instruct-FP8", "4bf2c2f39c37c0fede78bede4056e1f18cdf8109", 39),
    _row(
        _LARGE,
        "qwen3-30b-a3b-fp8",
        "Qwen/Qwen3-VL-30B-A3B-Instruct-FP8",
        "d9748a51ae66354c4dad665aab2c71f26cf2c8cd",
        35,
    ),
    _QWEN35,
    _row(_QWEN35, "qwen3.5-4b", "Qwen/Qwen3.5-4B", "851bf6e806efd8d0a36b00ddf55e13ccb7b8cd0a", 14),
    _row(_QWEN35, "qwen3.5-9b", "Qwen/Qwen3.5-9B", "c202236235762e1c871ad0ccb60c8ee5ba337b9a", 22),
    _row(_LARGE35, "qwen3.6-27b", "Qwen/Qwen3.6-27B", "6a9e13bd6fc8f0983b9b99948120bc37f49c13e9", 60),
    _row(_LARGE35, "qwen3.6-27b-fp8", "Qwen/Qwen3.6-27B-FP8", "e89b16ebf1988b3d6befa7de50abc2d76f26eb09", 36),
    _row(_LARGE35, "qwen3.8-27b", "Qwen/Qwen3.8-27B", "1d4bf0f2ff6012fd82039f2fa52739d0dd7c60c0", 60),
    _row(_LARGE35, "qwen3.8-27b-fp8", "Qwen/Qwen3.8-27B-FP8", "017b9c7af6b5689d5dd426a76e0bc077eb5ca20a", 36),
    _row(_MARLIN, "marlin-2b", "NemoStation/Marlin-2B", "fd111fca4fc7897876fb0d7e9df22ca5ac8ab965", 10),
    _row(_QWEN25, "skycaptioner-v1", "Skywork/SkyCaptioner-V1", "main", 21, fp8=14),
)
_QWEN_LM = Variant(
    name="qwen_lm",
    model_id="Qwen/Qwen2.5-14B-Instruct",
    revision="cf98f3b3bbb457ad9e2bb7baf9a0125b6b88caa8",
    family=FAMILIES["text"],
    min_gpu_gib=36,
    fp8_min_gpu_gib=20,
    sampling=_QWEN25_SAMPLING,
    vllm=VllmOptions(max_model_len=16384, max_num_batched_tokens=16384),
)
# Its full hash is not known here; Hugging Face takes the start of one.
_QWEN3_LM = replace(_QWEN_LM, model_id="Qwen/Qwen3-14B", revision="f8c293d", sampling=_QWEN3_SAMPLING)
_DEMO_LM = Variant(name="demo_lm", model_id="embedded:demo_lm", revision="", family=FAMILIES["text"], min_gpu_gib=1)

CAPTION_VARIANTS: Mapping[str, Variant] = MappingProxyType({v.name: v for v in _CAPTION_VARIANTS})
"""Caption variants by name. The name is the caption key: `<name>_caption` in the output."""

TEXT_VARIANTS: Mapping[str, Variant] = MappingProxyType(
    # Qwen2.5 and Qwen3 both write the key qwen_lm, as the original does.
    {"demo_lm": _DEMO_LM, "qwen_lm": _QWEN_LM, "qwen": _QWEN_LM, "qwen2.5": _QWEN_LM, "qwen3": _QWEN3_LM}
)
"""Text variants by name. The row's `name` is the key: `<name>_enhanced_caption` in the output."""

_TABLE = (*CAPTION_VARIANTS.values(), *TEXT_VARIANTS.values())
# The first published row of each family, for users' own models of it.
_FAMILY_ROWS: Mapping[Family, Variant] = MappingProxyType(
    {row.family: row for row in reversed(_TABLE) if not row.is_embedded}
)


def caption_variant(name: str) -> Variant:
    return _lookup(CAPTION_VARIANTS, "caption variant", name)


def text_variant(name: str) -> Variant:
    return _lookup(TEXT_VARIANTS, "text variant", name)


def own_variant(chosen: Variant, family: Family, model_id: str, revision: str) -> Variant:
    """A row for a user's own model of a known family, under the name of the `chosen` row.

    It has what the family needs, and the limits of its frames: from the chosen row where that is of the family and
    is no embedded model, else from the family's first row. How much memory it needs is for the engine to find out.
    """
    row = chosen if chosen.family is family and not chosen.is_embedded else _FAMILY_ROWS[family]
    return replace(
        row,
        name=chosen.name,
        model_id=model_id,
        revision=revision,
        min_gpu_gib=0,
        fp8_min_gpu_gib=None if row.fp8_min_gpu_gib is None else 0,
    )


def require_kind(variant: Variant, family: Family, asked: str) -> None:
    """Raises ModelError where a model of `family`, `asked` for in these words, is of another kind than the variant."""
    if family.is_text != variant.is_text:
        raise ModelError(asked, f"it is of family {family}", f"give {variant.name} {variant.family.kind}")


def require_consent(variant: Variant, trust_remote_code: bool) -> None:
    """Raises ModelError where the variant needs code from its repository and the user has not allowed it."""
    if variant.remote_code and not trust_remote_code:
        raise ModelError(
            f"variant {variant.name!r}",
            f"its configuration is Python code in {variant.model_id}, which would run on this machine",
            "set trust_remote_code (--trust-remote-code) if you trust it, or choose a variant of another family",
        )


def _lookup(table: Mapping[str, Variant], what: str, name: str) -> Variant:
    if name not in table:
        raise ConfigError(f"{what} {name!r}", "it is unknown", f"choose one of {', '.join(table)}")
    return table[name]
