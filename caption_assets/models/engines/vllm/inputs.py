"""Requests as vLLM's engine takes them: rendered on the CPU, in any process, ahead of the GPU.

Rendering is vLLM's own: tokens, patches and positions come from the same code that would make them inside the engine.
What leaves a worker process is plain bytes and arrays, so that `media.transport` carries the pixels aside.
"""

import io
import json
import logging
import os
import pickle
import sys
import time
import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from caption_assets.errors import RequestError
from caption_assets.extras import importing
from caption_assets.models.chat import ChatPrompt, chat_prompt, kept_tokens
from caption_assets.models.contexts import require_room
from caption_assets.models.engines.vllm.loader import RENDERS_ONLY
from caption_assets.models.families import Family, FrameLimits
from caption_assets.models.requests import Request, caption_request, video_hash, video_metadata, video_options
from caption_assets.models.thinking import opened_by
from caption_assets.records import FramePicks, SampledFrames

_WORKER_SETTINGS = {
    # A worker must neither see nor touch the GPUs.
    "CUDA_VISIBLE_DEVICES": "",
    # It loads no model, so that it needs no loader.
    RENDERS_ONLY: "1",
    # What is worth saying, the engine's own process says.
    "VLLM_LOGGING_LEVEL": "ERROR",
    "TRANSFORMERS_VERBOSITY": "error",
}
# Seconds by which a time may differ from a whole one: what film rates and rounded frames make of two a second.
_WHOLE = 0.1
# Of a renderer's first video: every family takes them.
_FIRST_FRAMES, _FIRST_SIZE = 4, (224, 224)
_renderers: dict[str, Any] = {}


def engine_args(
    folder: Path,
    family: Family,
    limits: FrameLimits | None,
    *,
    max_model_len: int,
    dtype: str = "bfloat16",
    enable_prefix_caching: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """The `EngineArgs` that renderers in worker processes and the engine itself must share, as keywords.

    `limits` are those that the requests' frames keep to; vLLM sizes its buffers by them. `more` is passed on:
    whatever else says how the checkpoint is to be read (`trust_remote_code`, `load_format`, `hf_overrides`).
    """
    args: dict[str, Any] = {
        "model": str(folder),
        "tokenizer": str(folder),
        "max_model_len": max_model_len,
        "dtype": dtype,
        "enable_prefix_caching": enable_prefix_caching,
        **more,
    }
    if family.is_text:
        return args
    args["limit_mm_per_prompt"] = dict(family.items_per_prompt)
    args["mm_processor_cache_gb"] = 0  # every window is seen once
    if limits is not None and family.sized_processor:
        # Both "edges" are areas; a single one is an error in some versions, ignored in others.
        args["mm_processor_kwargs"] = {"size": {"shortest_edge": limits.min_pixels, "longest_edge": limits.max_pixels}}
    return args


def context_size(args: dict[str, Any]) -> int | None:
    """The tokens that a prompt and its answer may have; None where a user leaves that to vLLM (-1 or "auto")."""
    most = args["max_model_len"]
    return most if isinstance(most, int) and most > 0 else None


@dataclass(frozen=True)
class VllmPrepare:
    """The `prepare` of the vLLM engine; it pickles. `args` are `engine_args`, or all of the engine's."""

    args: dict[str, Any]
    family: Family

    def load(self) -> None:
        """Builds this process's renderer and has it render, since vLLM reads the checkpoint's processor with the first
        video: each of the two takes several seconds."""
        picks = FramePicks(tuple(range(_FIRST_FRAMES)), tuple(k / 2 for k in range(_FIRST_FRAMES)))
        frames = SampledFrames(np.zeros((_FIRST_FRAMES, *_FIRST_SIZE, 3), np.uint8), picks)
        self(caption_request("first", "Describe this.", frames, max_tokens=1))

    def __call__(self, request: Request) -> Request:
        """The request with its engine input in place of its frames.

        Raises ContextError where the prompt is too long, and vLLM's own errors where it refuses the request.
        """
        prepared = prepared_input(self._renderer(), self, request)
        return replace(
            request, frames=None, prepared=prepared, prepared_at=time.monotonic(), num_bytes=prepared.num_bytes
        )

    def _renderer(self) -> Any:
        key = json.dumps([self.family.name, self.args], sort_keys=True, default=str)
        if key not in _renderers:
            if "torch" not in sys.modules:  # a worker process, which is ours to set up
                _set_up_worker()
            with importing():
                _renderers[key] = _build_renderer(self.args)
        return _renderers[key]


@dataclass(frozen=True, eq=False)
class PreparedInput:
    """A pickled engine input: `data`, and the `buffers` of its arrays and tensors, which `data` refers to.

    `opened` is the mark by which the prompt has begun the model's thinking, as `thinking.opened_by` gives it.
    """

    data: bytes = field(repr=False)
    buffers: tuple[np.ndarray, ...] = field(repr=False)
    opened: str = ""

    @property
    def num_bytes(self) -> int:
        return len(self.data) + sum(buffer.nbytes for buffer in self.buffers)


def prepared_input(renderer: Any, prepare: VllmPrepare, request: Request) -> PreparedInput:
    """What vLLM's engine is given for the request, by any of vLLM's renderers. Raises ContextError."""
    rendered, prompt = render(renderer, prepare.family, request)
    tokens, asked = len(rendered["prompt_token_ids"]), f"request {request.request_id}"
    require_room(asked, tokens, request.max_tokens, context_size(prepare.args))
    return replace(pack(rendered), opened=opened_by(prompt))


def further_input(
    renderer: Any, prepare: VllmPrepare, rendered: dict[str, Any], first: Request, request: Request
) -> tuple[dict[str, Any], str]:
    """What vLLM's engine is given for another prompt about the video of `first`, and the mark as in `PreparedInput`.

    `rendered` is the engine input of `first`; its video stays as it is. Raises ContextError, and RequestError for
    a chat template that does not put the video before the text.
    """
    tokenizer = renderer.get_tokenizer()
    before, now = (_chat_prompt(renderer, prepare.family, asked) for asked in (first, request))
    known, ids = rendered["prompt_token_ids"], now.token_ids(tokenizer)
    shared = kept_tokens(known, before.token_ids(tokenizer), ids)
    asked = f"request {request.request_id}"
    if shared is None:
        raise RequestError(asked, "the model's chat template does not put the video before the text")
    kept, same = shared
    require_room(asked, kept + len(ids) - same, request.max_tokens, context_size(prepare.args))
    further = {name: value for name, value in rendered.items() if name != "prompt"}
    return further | {"prompt_token_ids": [*known[:kept], *ids[same:]]}, opened_by(now.text)


def _chat_prompt(renderer: Any, family: Family, request: Request) -> ChatPrompt:
    from vllm.renderers.hf import resolve_chat_template

    tokenizer = renderer.get_tokenizer()
    template = resolve_chat_template(tokenizer, None, None, model_config=renderer.model_config)
    return chat_prompt(tokenizer, family, request.messages, chat_template=template)


def render(renderer: Any, family: Family, request: Request) -> tuple[dict[str, Any], str]:
    """The engine input, and the text of its prompt."""
    import torch
    from vllm.renderers.inputs.preprocess import parse_model_prompt

    config = renderer.model_config
    tokenizer = renderer.get_tokenizer()
    prompt = _chat_prompt(renderer, family, request)
    raw: dict[str, Any] = {"prompt": prompt.text}
    if prompt.is_plain_inside:
        raw = {"prompt_token_ids": prompt.token_ids(tokenizer)}
    metadata: dict[str, Any] = {}
    if request.frames is not None:
        frames, metadata = np.ascontiguousarray(request.frames.frames), video_metadata(request.frames.picks)
        raw["multi_modal_data"] = {"video": [(frames, metadata | {"do_sample_frames": False})]}
        if family.processor_options:
            processor = renderer.get_mm_processor().info.get_hf_processor()
            raw["mm_processor_kwargs"] = video_options(family, processor)
    # Nemotron's resizing would be compiled at its first call, for which every process takes half a minute.
    with torch.compiler.set_stance("force_eager"):
        (rendered,) = renderer.render_cmpl([parse_model_prompt(config, raw)], renderer.default_chat_tok_params)
    if request.frames is not None:
        # Renderers of several processes count their items alike, so their names would meet in the engine's caches. Of
        # a single question, nothing is looked for there.
        name = video_hash(request.frames, raw.get("mm_processor_kwargs")) if request.then else uuid.uuid4().hex
        rendered["mm_hashes"] = {"video": [name]}
        if family.corrects_grid_seconds:
            _correct_grid_seconds(rendered, metadata, config)
            if config.multimodal_config.video_pruning_rate:
                for_pruning(rendered, f"request {request.request_id}")
    return rendered, prompt.text


def _correct_grid_seconds(rendered: dict[str, Any], metadata: dict[str, Any], config: Any) -> None:
    """Sets the true time between temporal positions, for families whose time vLLM gets wrong."""
    import torch

    rate = len(metadata["frames_indices"]) / metadata["total_num_frames"] * metadata["fps"]
    seconds = config.hf_config.vision_config.temporal_patch_size / rate
    rendered["mm_kwargs"]["video"][0]["second_per_grid_ts"].data = torch.tensor(seconds)


def for_pruning(rendered: dict[str, Any], asked: str) -> None:
    """Has vLLM place what it keeps of a pruned Qwen2.5-VL video where it belongs.

    The mark before the video is made part of the item, as a token that is no embedding. vLLM begins to take in a video
    whose turn has not come (`disable_chunked_mm_input`, a full encoder) with the item's first token; where that is the
    video's, it looks for the mark behind it, and ends with an IndexError. Raises RequestError where pairs of frames
    are no whole seconds apart: it drops what is below a second.
    """
    import torch

    item = rendered["mm_kwargs"]["video"][0]
    seconds, groups = float(item["second_per_grid_ts"].data), int(item["video_grid_thw"].data[0])
    whole = max(1, round(seconds))
    if groups > 1 and abs(seconds - whole) > _WHOLE:
        wrong = f"pairs of its frames are {seconds:.2f} s apart, and vLLM puts pruned ones at whole seconds only"
        raise RequestError(asked, wrong, "sample 2 frames a second, or leave video_pruning at 0")
    item["second_per_grid_ts"].data = torch.tensor(float(whole))
    (where,) = rendered["mm_placeholders"]["video"]
    embedded = torch.arange(where.length + 1) > 0
    rendered["mm_placeholders"]["video"] = [
        replace(where, offset=where.offset - 1, length=where.length + 1, is_embed=embedded)
    ]


def _build_renderer(args: dict[str, Any]) -> Any:
    from vllm.config import CacheConfig, DeviceConfig, VllmConfig
    from vllm.engine.arg_utils import EngineArgs
    from vllm.renderers import renderer_from_config

    model = EngineArgs(**args).create_model_config()
    cache = CacheConfig(enable_prefix_caching=args["enable_prefix_caching"])
    return renderer_from_config(
        VllmConfig(model_config=model, device_config=DeviceConfig(device="cpu"), cache_config=cache)
    )


def _set_up_worker() -> None:
    os.environ.update(_WORKER_SETTINGS)
    logging.getLogger("vllm").setLevel(logging.ERROR)
    _keep_memory()


def _keep_memory() -> None:
    """Has the allocator keep what is freed: otherwise each window's buffers are faulted in anew, a page at a time.

    That is most of the time of a rendering (0.25 s against 0.07 s for 16 frames of 1036x588 in vLLM 0.25.1).
    """
    if sys.platform != "linux":
        return
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # it is glibc's
        trim_threshold, top_pad, mmap_threshold = -1, -2, -3
        mallopt(mmap_threshold, 1 << 30)
        mallopt(trim_threshold, (1 << 31) - 1)
        mallopt(top_pad, 1 << 28)


def pack(rendered: dict[str, Any]) -> PreparedInput:
    """The engine input as bytes and arrays; nothing large is copied."""
    file = io.BytesIO()
    buffers: list[pickle.PickleBuffer] = []
    pickler = _pickler()(file, protocol=5, buffer_callback=buffers.append)
    pickler.dump(rendered)
    return PreparedInput(file.getvalue(), tuple(np.frombuffer(buffer.raw(), np.uint8) for buffer in buffers))


def engine_input(prepared: PreparedInput) -> dict[str, Any]:
    """The engine input again. Its tensors lie where the buffers lie; nothing is copied."""
    rendered: dict[str, Any] = pickle.loads(prepared.data, buffers=prepared.buffers)
    return rendered


def _pickler() -> type[pickle.Pickler]:
    import torch

    class TensorPickler(pickle.Pickler):
        """Pickles CPU tensors as the arrays that they are, which can be kept out of the pickle."""

        def reducer_override(self, value: Any) -> Any:
            if type(value) is not torch.Tensor:
                return NotImplemented
            flat = value.detach().cpu().contiguous().reshape(-1)
            return _tensor, (flat.view(torch.uint8).numpy(), str(value.dtype).removeprefix("torch."), value.shape)

    return TensorPickler


def _tensor(data: np.ndarray, dtype: str, shape: tuple[int, ...]) -> Any:
    import torch

    return torch.from_numpy(data).view(getattr(torch, dtype)).reshape(shape)
