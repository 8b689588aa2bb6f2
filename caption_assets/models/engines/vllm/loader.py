"""Qwen2.5-VL's vision weights padded to a width that GPUs multiply fast, as vLLM reads them from a checkpoint.

Its vision MLPs are 3420 wide. Rows of that length do not start at multiples of 16 bytes, so that matrix products fall
back to slow kernels, and FP8 weights are padded anew at each product. The padding is zeros, which change no result:
silu(0) * 0 is 0. vLLM is given the wider size (`hf_overrides`) and a load format of ours, which it knows by the entry
point `vllm.general_plugins` of this package.
"""

import json
import os
import re
from collections.abc import Generator
from copy import copy
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from caption_assets.models.engines.vllm.children import end_with_parent
from caption_assets.models.engines.vllm.last_error import note_errors

LOAD_FORMAT = "caption_assets_padded"
RENDERS_ONLY = "CAPTION_ASSETS_RENDERS_ONLY"
"""Set in the environment of processes that load no model: what loads them takes two seconds to import."""

_PLUGIN = "caption_assets"
_FAST = 16  # elements: 16 bytes of FP8, and what vLLM's FP8 products ask for
_WIDTH = 128  # a multiple of this stays fast when the model is spread over up to eight GPUs
# The dimension of a weight in which it is widened, by the names that checkpoints give it.
_MLP = re.compile(r"(?:^|\.)visual\.blocks\.\d+\.mlp\.(gate_proj|up_proj|down_proj)\.(weight|bias)$")
_WIDENED = {("gate_proj", "weight"): 0, ("gate_proj", "bias"): 0, ("up_proj", "weight"): 0, ("up_proj", "bias"): 0}
_WIDENED |= {("down_proj", "weight"): 1}


def padding_args(folder: Path) -> dict[str, Any]:
    """vLLM's `EngineArgs` that pad the Qwen2.5-VL checkpoint in `folder`; none where that is of no use.

    Quantized weights are left as they are: their scales have shapes of their own.
    """
    config = json.loads((folder / "config.json").read_text())
    width = config["vision_config"].get("intermediate_size")
    if width is None or width % _FAST == 0 or "quantization_config" in config or not _registered():
        return {}
    wider = -(-width // _WIDTH) * _WIDTH
    return {"load_format": LOAD_FORMAT, "hf_overrides": {"vision_config": {"intermediate_size": wider}}}


def register() -> None:
    """Makes the load format known to vLLM, which calls this in each of its processes; they begin to note errors, and
    end with the process that has started them."""
    if os.environ.get(RENDERS_ONLY):
        return
    end_with_parent()
    note_errors()
    from vllm.model_executor.model_loader import register_model_loader
    from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

    @register_model_loader(LOAD_FORMAT)
    class PaddedLoader(DefaultModelLoader):
        def __init__(self, load_config: Any) -> None:
            plain = copy(load_config)
            plain.load_format = "auto"
            super().__init__(plain)

        def get_all_weights(self, model_config: Any, model: Any) -> Generator[tuple[str, Any], None, None]:
            width = model_config.hf_config.vision_config.intermediate_size
            for name, tensor in super().get_all_weights(model_config, model):
                yield name, padded(name, tensor, width)


def padded(name: str, tensor: Any, width: int) -> Any:
    """The weight `name` of a checkpoint, with zeros up to `width` where it belongs to a vision MLP."""
    found = _MLP.search(name)
    dim = _WIDENED.get((found[1], found[2])) if found else None
    if dim is None or tensor.shape[dim] == width:
        return tensor
    shape = list(tensor.shape)
    shape[dim] = width
    wider = tensor.new_zeros(shape)
    wider.narrow(dim, 0, tensor.shape[dim]).copy_(tensor)
    return wider


def _registered() -> bool:
    """Whether vLLM will call `register`: it finds installed packages only, and those that VLLM_PLUGINS lets it."""
    allowed = os.environ.get("VLLM_PLUGINS")
    if allowed is not None and _PLUGIN not in allowed.split(","):
        return False
    return bool(entry_points(group="vllm.general_plugins", name=_PLUGIN))
