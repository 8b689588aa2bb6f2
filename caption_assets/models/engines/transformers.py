"""The transformers engine: batches on CPU or one GPU, for the families that transformers has classes for."""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from caption_assets.errors import ModelError, RequestError, first_line
from caption_assets.extras import importing
from caption_assets.models.chat import ChatPrompt, chat_prompt, kept_tokens, plain_ids
from caption_assets.models.contexts import Context, require_room
from caption_assets.models.engines.base import EngineInfo, EngineOptions, EngineStuckError
from caption_assets.models.engines.draws import Noted, score_changes
from caption_assets.models.engines.grammars import Grammars, check_schema
from caption_assets.models.engines.visits import Asked, Visit, failed
from caption_assets.models.engines.watched import StuckError, Watched
from caption_assets.models.families import Family
from caption_assets.models.gpus import GpuLease, lease, visible_gpus
from caption_assets.models.requests import Author, Request, Result, request_seed, video_metadata, video_options
from caption_assets.models.thinking import leaves_out_marks, opened_by
from caption_assets.models.variants import Variant, require_kind
from caption_assets.models.weights.checkpoints import (
    Checkpoint,
    checkpoint_family,
    checkpoint_max_len,
    frame_limits,
    weights_gib,
)
from caption_assets.models.weights.downloads import locate

_VIDEO = 2  # in mm_token_type_ids
_SPARE_GIB = 2.0
_BATCHES_AHEAD = 4
# Of frames; the processor makes some ten times as many bytes of a batch.
_AHEAD_BYTES, _BATCH_BYTES = 1 << 30, 256 << 20


def require_classes(family: Family, asked: str) -> None:
    """Raises ModelError where transformers has no classes for the family."""
    if not family.in_transformers:
        fix = "run it where there is an NVIDIA GPU and vLLM, or choose engine openai and a server that has it"
        raise ModelError(asked, f"models of family {family} run with vLLM only", fix)


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """What a batch's first questions leave: what the model was given but the pixels, and keys and values of all tokens,
    each with a row for each window."""

    inputs: dict[str, Any]
    prompts: list[ChatPrompt]
    cache: Any

    def tokens_of(self, row: int) -> list[int]:
        ids: list[int] = self.inputs["input_ids"][row][self.inputs["attention_mask"][row] == 1].tolist()
        return ids

    def row_inputs(self, rows: list[int]) -> dict[str, Any]:
        """Those of some windows."""
        return {
            name: [value[row] for row in rows] if isinstance(value, list) else value[rows]
            for name, value in self.inputs.items()
        }

    def fillers(self, pad: int) -> dict[str, int]:
        """The inputs that have a value for each token, with that of a token that is hidden."""
        values = {"input_ids": pad, "attention_mask": 0, "mm_token_type_ids": 0}
        return {name: value for name, value in values.items() if name in self.inputs}

    @property
    def can_be_kept(self) -> bool:
        """Whether the cache holds keys and values of every token, and nothing else."""
        from transformers.cache_utils import DynamicLayer

        return all(type(layer) is DynamicLayer for layer in self.cache.layers)

    def cache_of(self, rows: list[int], length: int) -> Any:
        """Of so many tokens from the left; what is added to it changes nothing here."""
        from transformers import DynamicCache

        return DynamicCache(
            [(part.keys[rows, :, :length], part.values[rows, :, :length]) for part in self.cache.layers]
        )


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
        self._context = Context()
        self._keeps_marks = False
        self._watched: Watched | None = None
        self._grammars: Grammars | None = None
        self._seconds = 0.0

    def author(self) -> Author:
        return Author(self._checkpoint.model_id, self._checkpoint.revision)

    def check_schema(self, schema: str, asked: str) -> None:
        check_schema(schema, asked)

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
        with importing():
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
            with importing():  # that of the model's own module is the longest
                self._processor = tool.from_pretrained(folder, local_files_only=True)
                self._model = auto.from_pretrained(folder, dtype=dtype, local_files_only=True, use_safetensors=True)
            self._model.to(device).eval()
        except Exception as error:  # of three libraries, and of whatever the files hold
            self.close()
            why = first_line(error)
            if "mismatched_sizes" in why:
                why = "its weights have other sizes than its config says"
            raise ModelError(f"model in {folder}", f"it cannot be loaded ({why})", "check the folder") from error
        self._tokenizer.padding_side = "left"  # generation continues at the right end of every row
        # The checkpoint's own sampling counts for nothing; where an answer ends is all that is taken from it.
        ends, tokenizer = self._model.generation_config.eos_token_id, self._tokenizer
        self._model.generation_config = transformers.GenerationConfig(
            eos_token_id=tokenizer.eos_token_id if ends is None else ends, pad_token_id=tokenizer.pad_token_id
        )
        self._context = Context(checkpoint_max_len(folder), folder / "tokenizer.json")
        self._watched, self._keeps_marks = self._watch(), leaves_out_marks(self._tokenizer)
        self._seconds = time.perf_counter() - started
        return EngineInfo(
            engine="transformers",
            engine_version=transformers.__version__,
            device=str(device),
            precision="bf16" if half else "fp32",
            frame_limits=frame_limits(self._variant, folder, family),
            context=self._context,
            in_batches=True,
            gpus=0 if self._lease is None else len(self._lease.gpus),
            held_since=None if self._lease is None else self._lease.since,
            notes=() if self._lease is None else self._lease.notes,
        )

    def ready(self) -> float:
        return self._seconds

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        """Yields one result for every request, batch by batch. Raises EngineStuckError."""
        pending, size = iter(requests), self._options.batch_size
        most_bytes = min(_AHEAD_BYTES, self._options.in_flight_bytes)
        while ahead := next(_groups(pending, _BATCHES_AHEAD * size, most_bytes), None):
            # A batch is padded to its longest request: like goes with like.
            ahead.sort(key=_length, reverse=True)
            for sampling in dict.fromkeys(request.sampling for request in ahead):
                alike = (request for request in ahead if request.sampling == sampling)
                for batch in _groups(alike, size, min(_BATCH_BYTES, most_bytes)):
                    yield from self._safely(batch)

    def close(self) -> None:
        """Drops the model and gives its GPU memory back."""
        if self._watched is not None:
            self._watched.leave()
            self._watched = None
        had_model, self._model, self._processor = self._model is not None, None, None
        self._grammars = None
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
        assert self._watched is not None, "the engine has not been started"
        try:
            yield from self._watched.call(lambda: self._batch(batch))
        except StuckError:
            ids = frozenset(request.request_id for request in batch)
            raise EngineStuckError.after(self._options.stuck_s, "transformers", ids) from None
        except Exception:
            if len(batch) == 1:
                raise
            # One bad request, or too little memory for all: alone, each gets its own result.
            for request in batch:
                yield from self._safely([request])

    def _batch(self, batch: list[Request]) -> list[Result]:
        """The results of requests with their further questions: these are asked of all windows together, too.

        Raises where several cannot be asked together; of one alone, each question that cannot be asked fails alone.
        """
        visits = [Visit(request) for request in batch]
        seen: _Seen | None = None
        try:
            seen, results = self._asked([visit.first for visit in visits])
        except Exception as error:
            if len(batch) > 1:
                raise
            results = [failed(batch[0], error)]
        left: list[tuple[int, Asked]] = []
        for row, (visit, result) in enumerate(zip(visits, results, strict=True)):
            left += [(row, asked) for asked in (*visit.beside, *visit.answered(visit.first, result))]
        while left:
            # One for each window, with the same sampling.
            now = {row: asked for row, asked in reversed(left) if asked.request.sampling == left[0][1].request.sampling}
            left = [(row, asked) for row, asked in left if asked is not now.get(row)]
            for (row, asked), result in zip(now.items(), self._apart(seen, now), strict=True):
                left += [(row, more) for more in visits[row].answered(asked, result)]
        return [visit.result for visit in visits if visit.result is not None]

    def _apart(self, seen: "_Seen | None", batch: Mapping[int, Asked]) -> list[Result]:
        """The results of further questions, by their windows' rows; one that cannot be asked fails alone."""
        try:
            return self._asked(list(batch.values()))[1] if seen is None else self._further(seen, batch)
        except Exception as error:
            if len(batch) > 1:
                return [result for row, asked in batch.items() for result in self._apart(seen, {row: asked})]
            return [failed(asked.request, error) for asked in batch.values()]

    def _asked(self, batch: list[Asked]) -> tuple["_Seen", list[Result]]:
        """The results of questions that each bring their own video, and what they leave for further ones."""
        requests = [asked.request for asked in batch]
        prompts = [chat_prompt(self._processor, self._family, request.messages) for request in requests]
        inputs = self._inputs(requests, prompts)
        lengths = inputs["attention_mask"].sum(dim=1).tolist()
        for request, length in zip(requests, lengths, strict=True):
            require_room(f"request {request.request_id}", length, request.max_tokens, self._context.size)
        inputs = inputs.to(self._model.device)
        positions = {"position_ids": self._positions(inputs)} if "video_grid_thw" in inputs else {}
        output, results = self._generate(requests, prompts, {**inputs, **positions}, lengths)
        known = {name: value for name, value in inputs.items() if not name.startswith("pixel_values")}
        return _Seen(known, prompts, output.past_key_values), results

    def _further(self, seen: "_Seen", batch: Mapping[int, Asked]) -> list[Result]:
        """The results of further questions that are asked together."""
        import torch

        rows, requests = list(batch), [asked.request for asked in batch.values()]
        prompts = [chat_prompt(self._processor, self._family, request.messages) for request in requests]
        read = partial(ChatPrompt.token_ids, tokenizer=self._tokenizer, add_special_tokens=True)
        shared, ids = [], [read(prompt) for prompt in prompts]
        for row, now in zip(rows, ids, strict=True):
            shared.append(kept_tokens(seen.tokens_of(row), read(seen.prompts[row]), now))
        if None in shared or not seen.can_be_kept:
            return self._asked(list(batch.values()))[1]
        pads = (seen.inputs["attention_mask"][rows] == 0).sum(dim=1).tolist()
        kept = [pad + both[0] for pad, both in zip(pads, shared, strict=True) if both]
        rest = [now[both[1] :] for now, both in zip(ids, shared, strict=True) if both]
        # What a row does not share is hidden: between what it does, on the left, and what is new, on the right.
        width, length = max(kept), max(kept) + max(map(len, rest))
        inputs = seen.row_inputs(rows)
        for name, filler in seen.fillers(self._tokenizer.pad_token_id).items():
            before, inputs[name] = inputs[name], inputs[name].new_full((len(rows), length), filler)
            for k, (end, last) in enumerate(zip(kept, rest, strict=True)):
                inputs[name][k, :end] = before[k, :end]
                if name != "mm_token_type_ids":
                    new = torch.tensor(last) if name == "input_ids" else torch.ones(len(last))
                    inputs[name][k, length - len(last) :] = new.to(before)
        lengths = inputs["attention_mask"].sum(dim=1).tolist()
        for request, tokens in zip(requests, lengths, strict=True):
            require_room(f"request {request.request_id}", tokens, request.max_tokens, self._context.size)
        # As if there were no cache: positions after a video are not to be told by the number of tokens alone.
        positions = self._positions(inputs)
        inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")} | {"position_ids": positions}
        _, results = self._generate(requests, prompts, inputs, lengths, seen.cache_of(rows, width))
        return [replace(result, cached_tokens=end - pad) for result, end, pad in zip(results, kept, pads, strict=True)]

    def _positions(self, inputs: Any) -> Any:
        """Of all tokens. Behind a video, transformers (5.3 to 5.24) goes on from the larger side of its frames, though
        Qwen2.5-VL's may reach further in time; it was trained, and vLLM runs it, with text behind all of the video."""
        positions = self._model._prepare_position_ids_for_generation(inputs["input_ids"], inputs)
        for row, kinds in enumerate(inputs["mm_token_type_ids"].tolist() if "mm_token_type_ids" in inputs else ()):
            places = positions[-3:, row]  # in time, height and width
            for end in (k for k in range(1, len(kinds)) if kinds[k - 1] == _VIDEO != kinds[k]):
                places[:, end:] += places[:, :end].max() + 1 - places[0, end]
        return positions

    def _generate(
        self, requests: list[Request], prompts: list[ChatPrompt], inputs: Any, lengths: list[int], cache: Any = None
    ) -> tuple[Any, list[Result]]:
        """What transformers gives, with keys and values, and the results; all of the requests have the same sampling.

        `lengths` are those of the prompts; `cache` has the keys and values of their first tokens.
        """
        import torch

        started = time.perf_counter()
        width = inputs["input_ids"].shape[1]
        sampling = requests[0].sampling or self._options.sampling
        seeds = [request_seed(sampling.seed, request.request_id) for request in requests]
        noted = Noted(width)
        with torch.inference_mode():
            output = self._model.generate(
                **inputs,
                **({} if cache is None else {"past_key_values": cache}),  # from 5.24 on it warns of that name
                max_new_tokens=max(request.max_tokens for request in requests),
                # Noted as vLLM does: among what a schema allows, before anything else.
                logits_processor=[*self._grammar(requests), noted, *score_changes(sampling, seeds, width)],
                return_dict_in_generate=True,
            )
            logprobs = noted.of(output.sequences)
        seconds = (time.perf_counter() - started) / len(requests)
        return output, [
            self._result(request, opened_by(prompt.text), list(zip(tokens, scores, strict=True)), length, seconds)
            for request, prompt, tokens, scores, length in zip(
                requests, prompts, output.sequences[:, width:].tolist(), logprobs, lengths, strict=True
            )
        ]

    def _grammar(self, requests: list[Request]) -> list[Any]:
        """What keeps answers to their schemas, where any has one."""
        schemas = [request.schema for request in requests]
        if not any(schemas):
            return []
        if self._grammars is None:
            ends = self._model.generation_config.eos_token_id
            size = self._model.config.get_text_config().vocab_size
            self._grammars = Grammars(self._tokenizer, size, ends if isinstance(ends, list) else [ends])
        return [self._grammars.limits(schemas)]

    def _inputs(self, batch: list[Request], prompts: list[ChatPrompt]) -> Any:
        """What the model is given for a batch; a prompt with parts that are tokenized apart comes alone."""
        if any(prompt.is_plain_inside for prompt in prompts):
            if len(batch) > 1:
                raise RequestError("a batch", "some of its prompts are tokenized apart")
            return self._tokenized_apart(batch[0], prompts[0])
        texts = [prompt.text for prompt in prompts]
        if self._family.is_text:
            return self._processor(text=texts, padding=True, return_tensors="pt")
        return self._with_videos(batch, texts)

    def _tokenized_apart(self, request: Request, prompt: ChatPrompt) -> Any:
        import torch
        from transformers import BatchFeature

        if self._family.is_text:
            ids = torch.tensor([prompt.token_ids(self._tokenizer, add_special_tokens=True)])
            return BatchFeature({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
        # The video goes with the template, whose last piece follows the text.
        *before, text, end = prompt.pieces
        inputs = self._with_videos([request], ["".join([*before, end])])
        ids = inputs["input_ids"]
        at = ids.shape[1] - len(self._tokenizer(end, add_special_tokens=False)["input_ids"])
        plain = torch.tensor([plain_ids(self._tokenizer, text)])
        kinds = {"input_ids": plain, "attention_mask": torch.ones_like(plain)}
        for name in ("input_ids", "attention_mask", "mm_token_type_ids"):
            if name in inputs:
                added = kinds.get(name, torch.zeros_like(plain))
                inputs[name] = torch.cat([inputs[name][:, :at], added, inputs[name][:, at:]], dim=1)
        return inputs

    def _with_videos(self, batch: list[Request], texts: list[str]) -> Any:
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

    def _result(
        self, request: Request, opened: str, tokens: list[tuple[int, float]], prompt_tokens: int, seconds: float
    ) -> Result:
        """Of what was generated, tokens with their log-probabilities: ends and padding behind them included."""
        ends = self._model.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends])
        stop = next((i for i, (token, _) in enumerate(tokens) if token in ends), None)
        if stop is not None and stop >= request.max_tokens:
            stop = None  # which only came because others of its batch may take more
        kept = tokens[: request.max_tokens] if stop is None else tokens[:stop]
        read = partial(self._tokenizer.decode, skip_special_tokens=not self._keeps_marks)
        text = read([token for token, _ in kept]).strip()
        return Result(
            request.request_id,
            text=opened + text,
            finish_reason="length" if stop is None else "stop",
            prompt_tokens=int(prompt_tokens),
            output_tokens=len(kept) + (stop is not None),  # the end is one, too, as in vLLM and for servers
            seconds=seconds,
            tokens=[(read([token]), score) for token, score in kept],
        )

    def _watch(self) -> Watched:
        """A thread for the model, whose every layer tells that it goes on."""
        from torch.nn import ModuleList

        watched = Watched(self._options.stuck_s)
        for module in self._model.modules():
            if isinstance(module, ModuleList):
                for layer in module:
                    layer.register_forward_pre_hook(lambda *_: watched.beat())
        return watched

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


def _groups(requests: Iterator[Request], most: int, most_bytes: int) -> Iterator[list[Request]]:
    """So many requests at a time, fewer where their frames reach the bytes."""
    group: list[Request] = []
    num_bytes = 0
    for request in requests:
        group.append(request)
        num_bytes += 0 if request.frames is None else request.frames.frames.nbytes
        if len(group) == most or num_bytes >= most_bytes:
            yield group
            group, num_bytes = [], 0
    if group:
        yield group


def _length(request: Request) -> int:
    """What a request's number of tokens grows with."""
    if request.frames is not None:
        return int(request.frames.frames.size)
    return sum(len(str(message["content"])) for message in request.messages)
