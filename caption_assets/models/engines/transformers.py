"""The transformers engine: batches on CPU or one GPU, for the families that transformers has classes for."""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from caption_assets.errors import ModelError, first_line
from caption_assets.models.engines.base import EngineInfo, EngineOptions
from caption_assets.models.families import Family
from caption_assets.models.gpus import GpuLease, lease, visible_gpus
from caption_assets.models.requests import Author, Request, Result, chat_text, video_metadata, video_options
from caption_assets.models.variants import Variant, require_kind
from caption_assets.models.weights.checkpoints import (
    Checkpoint,
    checkpoint_family,
    checkpoint_frame_limits,
    weights_gib,
)
from caption_assets.models.weights.downloads import locate
from caption_assets.records import Outcome

_SPARE_GIB = 2.0
_BATCHES_AHEAD = 4


def require_classes(family: Family, asked: str) -> None:
    """Raises ModelError where transformers has no classes for the family."""
    if not family.in_transformers:
        fix = "run it where there is an NVIDIA GPU and vLLM, or choose engine openai and a server that has it"
        raise ModelError(asked, f"models of family {family} run with vLLM only", fix)


class TransformersEngine:
    """A `CaptionEngine` that loads one checkpoint with transformers' ordinary classes."""

    def __init__(
        self, variant: Variant, checkpoint: Checkpoint, options: EngineOptions, model_dir: str | None = None
    ) -> None:
        self._variant, self._checkpoint, self._options, self._model_dir = variant, checkpoint, options, model_dir
        self._family: Family = variant.family
        self._lease: GpuLease | None = None
        self._model: Any = None
        self._processor: Any = None
        self._seconds = 0.0

    def author(self) -> Author:
        return Author(self._checkpoint.model_id, self._checkpoint.revision)

    def start(self) -> EngineInfo:
        """Loads the model. Raises ModelError for missing weights, an unknown device, or a family it cannot run."""
        started = time.perf_counter()
        folder = locate(self._checkpoint, self._model_dir)
        self._family = family = checkpoint_family(folder, self._variant.family)
        require_kind(self._variant, family, f"model in {folder}")
        require_classes(family, f"model in {folder}")
        if "torch" not in sys.modules:
            # Threads wait for each other after every operation. Beside busy decoders they must not spin for long, or
            # a batch takes twice the time.
            os.environ.setdefault("GOMP_SPINCOUNT", "1000")
        import torch
        import transformers

        transformers.utils.logging.disable_progress_bar()
        device = self._device(torch, folder)
        # bfloat16 on a CPU is emulated on most machines: slower, and no closer to what a GPU computes.
        half = device.type == "cuda" and self._options.precision != "fp32"
        dtype = torch.bfloat16 if half else torch.float32
        auto = transformers.AutoModelForCausalLM if family.is_text else transformers.AutoModelForImageTextToText
        tool = transformers.AutoTokenizer if family.is_text else transformers.AutoProcessor
        try:
            self._processor = tool.from_pretrained(folder, local_files_only=True)
            self._model = auto.from_pretrained(folder, dtype=dtype, local_files_only=True).to(device).eval()
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            self.close()
            first = first_line(error)
            raise ModelError(f"model in {folder}", f"it cannot be loaded ({first})", "check the folder") from error
        tokenizer = self._processor if family.is_text else self._processor.tokenizer
        tokenizer.padding_side = "left"  # generation continues at the right end of every row
        self._seconds = time.perf_counter() - started
        return EngineInfo(
            engine="transformers",
            engine_version=transformers.__version__,
            device=str(device),
            precision="bf16" if half else "fp32",
            frame_limits=self._variant.frames or checkpoint_frame_limits(folder, family),
            notes=() if self._lease is None else self._lease.notes,
        )

    def ready(self) -> float:
        return self._seconds

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        """Yields one result for every request, batch by batch."""
        pending, size = iter(requests), self._options.batch_size
        while ahead := list(islice(pending, _BATCHES_AHEAD * size)):
            # A batch is padded to its longest request: like goes with like.
            ahead.sort(key=_length, reverse=True)
            for start in range(0, len(ahead), size):
                yield from self._safely(ahead[start : start + size])

    def close(self) -> None:
        """Drops the model and gives its GPU memory back."""
        had_model, self._model, self._processor = self._model is not None, None, None
        if had_model:
            import torch

            if torch.cuda.is_available():
                import gc

                gc.collect()
                torch.cuda.empty_cache()
        if self._lease is not None:
            self._lease.close()
            self._lease = None

    def _safely(self, batch: list[Request]) -> Iterator[Result]:
        try:
            yield from self._batch(batch)
        except Exception as error:
            if len(batch) == 1:
                yield _failed(batch[0], error)
                return
            # One bad request, or too little memory for all: alone, each gets its own result.
            for request in batch:
                yield from self._safely([request])

    def _batch(self, batch: list[Request]) -> list[Result]:
        import torch

        started = time.perf_counter()
        inputs = self._inputs(batch).to(self._model.device)
        sampling = self._options.sampling
        drawn = (
            {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p}
            if sampling.temperature > 0
            else {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        )
        with torch.inference_mode():
            output = self._model.generate(
                **inputs,
                **drawn,
                max_new_tokens=max(request.max_tokens for request in batch),
                repetition_penalty=sampling.repetition_penalty,
                pad_token_id=self._tokenizer.pad_token_id,
            )
        width = inputs["input_ids"].shape[1]
        prompt_tokens = inputs["attention_mask"].sum(dim=1).tolist()
        seconds = (time.perf_counter() - started) / len(batch)
        return [
            self._result(request, tokens, length, seconds)
            for request, tokens, length in zip(batch, output[:, width:].tolist(), prompt_tokens, strict=True)
        ]

    def _inputs(self, batch: list[Request]) -> Any:
        texts = [chat_text(self._processor, self._family, request.messages) for request in batch]
        if self._family.is_text:
            return self._processor(text=texts, padding=True, return_tensors="pt")
        metadata, frames = [], []
        for request in batch:
            if request.frames is None:
                raise ValueError("a request to a vision-language model needs frames")
            frames.append(request.frames.frames)
            height, width = request.frames.frames.shape[1:3]
            metadata.append(video_metadata(request.frames.picks) | {"height": height, "width": width})
        inputs = self._processor(
            text=texts,
            videos=frames,
            video_metadata=metadata,
            padding=True,
            return_tensors="pt",
            **video_options(self._family, self._processor),
        )
        inputs.pop("video_metadata", None)
        return inputs

    def _result(self, request: Request, tokens: list[int], prompt_tokens: int, seconds: float) -> Result:
        ends = self._model.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends])
        stop = next((i for i, token in enumerate(tokens) if token in ends), None)
        kept = tokens if stop is None else tokens[:stop]
        kept = kept[: request.max_tokens]
        text = self._tokenizer.decode(kept, skip_special_tokens=True).strip()
        return Result(
            request.request_id,
            text=text,
            finish_reason="length" if stop is None or stop > request.max_tokens else "stop",
            prompt_tokens=int(prompt_tokens),
            output_tokens=len(kept),
            seconds=seconds,
        )

    @property
    def _tokenizer(self) -> Any:
        return getattr(self._processor, "tokenizer", self._processor)

    def _device(self, torch: Any, folder: Path) -> Any:
        name = self._options.device
        if name != "cpu" and visible_gpus():
            need_gib = None if self._variant.min_gpu_gib else weights_gib(folder) + _SPARE_GIB
            self._lease = lease(self._variant, self._options.precision, device=name, min_gib=need_gib)
            name = f"cuda:{self._lease.gpus[0].ordinal}"
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        if name.startswith("cuda") and not torch.cuda.is_available():
            raise ModelError(f"device {name!r}", "there is no usable NVIDIA GPU here", "choose device cpu or auto")
        try:
            device = torch.device(name)
        except RuntimeError:
            raise ModelError(
                f"device {name!r}", "the device is unknown", "choose auto, cpu, cuda or cuda:<n>"
            ) from None
        if device.index is not None and device.type == "cuda" and device.index >= torch.cuda.device_count():
            count = torch.cuda.device_count()
            raise ModelError(f"device {name!r}", f"there are {count} GPUs", f"choose cuda:0 to cuda:{count - 1}")
        return device


def _length(request: Request) -> int:
    """What a request's number of tokens grows with."""
    if request.frames is not None:
        return int(request.frames.frames.size)
    return sum(len(str(message["content"])) for message in request.messages)


def _failed(request: Request, error: Exception) -> Result:
    message = f"{type(error).__name__}: {first_line(error)}"
    return Result(request.request_id, outcome=Outcome("failed", "engine", message))
