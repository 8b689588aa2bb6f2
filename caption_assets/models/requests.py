"""What a model is asked and what it answers: prompt and frames -> a request, in its family's form.

Messages only; the chat template is the engine's to apply. Imports no engine: worker processes load this.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from caption_assets.errors import ClipError
from caption_assets.models.confidence import Confidence, Tokens
from caption_assets.models.families import Family, FrameLimits
from caption_assets.models.prompts import with_caption
from caption_assets.models.variants import Sampling
from caption_assets.records import OK, FramePicks, Outcome, SampledFrames

CLOCK_HZ = 1000
"""Models get frame times on a millisecond clock, which also holds for variable frame rates."""


@dataclass(frozen=True, slots=True)
class Question:
    """A further text to generate about a request's video: `prompt` stands in place of the request's own.

    `name` tells a request's questions apart. With `of`, it is asked once that question has been answered (the request
    itself is ""), and the answer follows the prompt. The rest is as for `Request`.
    """

    name: str
    prompt: str
    max_tokens: int = 512
    sampling: Sampling | None = None
    schema: str | None = None
    of: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One text to generate, and in `then` what else is asked about its video: all in one visit to the window.

    `messages` are chat messages as chat templates take them; at most one content part is a video, and `frames`
    are then its frames, already in the size that the model sees. `max_tokens` bounds the answer; `sampling` is how it
    is drawn, where not as the engine does by default. `schema` is a JSON schema, as JSON, that the answer keeps to.
    `prepared` is what the engine's own `prepare` made of it, in place of the frames, of `num_bytes` bytes;
    `prepared_at` is when, in seconds of the monotonic clock, which all processes of a machine share.
    """

    request_id: str
    messages: tuple[dict[str, Any], ...]
    frames: SampledFrames | None = None
    max_tokens: int = 512
    sampling: Sampling | None = None
    schema: str | None = None
    then: tuple[Question, ...] = ()
    prepared: Any = field(default=None, repr=False)
    prepared_at: float | None = None
    num_bytes: int = 0

    @property
    def size(self) -> int:
        """Bytes of its frames, or of what was made of them."""
        return self.num_bytes if self.frames is None else self.frames.frames.nbytes


@dataclass(frozen=True, slots=True)
class Author:
    """Who writes a text: the model and its revision, "" where that is not known.

    `server_model` is what a server calls the model, "" where no server runs it; `manner` is then what else the texts
    depend on: the form in which frames are sent, and what could not be asked of it.
    """

    model_id: str
    revision: str = ""
    server_model: str = ""
    manner: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one request. `text` is None unless `outcome` is ok.

    As an engine gives it, `text` is all that the model wrote, after the mark by which the prompt began its thinking
    (`thinking.opened_by`); as a session gives it, the answer alone. `finish_reason` is "stop", or "length" where
    `max_tokens` cut the text off. `seconds` is the engine's time for it, shared evenly where requests ran as a batch;
    a session makes it the request's share of the time of all (`engines.shares`).
    Where the engine reports it, `wait_s` is the time from the end of the request's preparation until the model began
    with it, `prefill_s` from then to the first token, and `generate_s` from the first to the last token.
    `cached_tokens` are those of the prompt whose keys and values were there already, where the engine tells.
    `author` is who wrote the text, where the answer itself tells. `then` has the results of the request's further
    questions, in their order, each with the same `request_id`; none where nothing came of the request at all.
    `tokens` are what the text was made of, as an engine gives it, with the log-probabilities that the model itself gave
    them, before temperature and penalties; empty where a server does not tell. `confidence` is what a session gives in
    their place: that of the answer.
    """

    request_id: str
    text: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    seconds: float = 0.0
    wait_s: float | None = None
    prefill_s: float | None = None
    generate_s: float | None = None
    author: Author | None = None
    tokens: Tokens = field(default=(), repr=False)
    confidence: Confidence | None = None
    outcome: Outcome = OK
    then: "tuple[Result, ...]" = ()


class Prepare(Protocol):
    """Work on a request that needs no GPU: pickled, and called in worker processes beside the decoding."""

    def load(self) -> None:
        """What the first call in a process would do first: import, and read what all requests need."""

    def __call__(self, request: Request, /) -> Request: ...


def frame_size(width: int, height: int, num_frames: int, limits: FrameLimits) -> tuple[int, int]:
    """The (width, height) that a model sees frames of `width` x `height` pixels in.

    Within bounds, Qwen's `smart_resize`: both sides rounded to multiples of `limits.factor`, the aspect ratio kept as
    far as that allows. Filled and square, as vLLM resizes for Nemotron. Raises ClipError where one side is over 200
    times the other.
    """
    if max(width, height) > 200 * min(width, height):
        raise ClipError(f"frames of {width}x{height}", "no model takes sides that differ 200 times", "crop the clip")
    factor, low, high = limits.factor, limits.min_pixels, limits.max_pixels
    if limits.shape == "square":
        side = max(factor, math.floor(math.sqrt(high) / factor) * factor)
        return side, side
    if limits.shape == "filled":
        return _filled_size(width / height, factor, high)
    frames = 2 * math.ceil(max(num_frames, 1) / 2) if limits.per_video else 1  # models see frames in pairs
    w, h = max(factor, round(width / factor) * factor), max(factor, round(height / factor) * factor)
    if frames * w * h > high:
        scale = math.sqrt(frames * width * height / high)
        w = max(factor, math.floor(width / scale / factor) * factor)
        h = max(factor, math.floor(height / scale / factor) * factor)
    elif frames * w * h < low:
        scale = math.sqrt(low / (frames * width * height))
        w, h = math.ceil(width * scale / factor) * factor, math.ceil(height * scale / factor) * factor
    return w, h


def _filled_size(aspect: float, factor: int, area: float) -> tuple[int, int]:
    # In patches, two to a factor: rounded, then both sides made even upwards if the area allows it, else downwards.
    patch, patches = factor // 2, area / (factor // 2) ** 2
    w, h = max(1, round(math.sqrt(patches * aspect))), max(1, round(math.sqrt(patches / aspect)))
    if (w + w % 2) * (h + h % 2) <= patches:
        w, h = w + w % 2, h + h % 2
    else:
        w, h = max(2, w - w % 2), max(2, h - h % 2)
    return w * patch, h * patch


def video_metadata(picks: FramePicks) -> dict[str, Any]:
    """The picks' true times in the keys that Qwen's and Nemotron's processors read.

    `frames_indices` are milliseconds after the window's first frame; `total_num_frames` is chosen so that the mean
    rate n / total * fps, which Qwen2.5-VL reads, is the true rate of the picks.
    """
    indices = [round(time * CLOCK_HZ) for time in picks.times_s]
    n = len(indices)
    total = round(n * CLOCK_HZ / picks.fps) if picks.fps else n
    total = max(total, indices[-1] + 1, n)
    return {
        "fps": float(CLOCK_HZ),
        "frames_indices": indices,
        "total_num_frames": total,
        "duration": total / CLOCK_HZ,
    }


def without_thinking(
    family: Family, messages: Sequence[dict[str, Any]]
) -> tuple[Sequence[dict[str, Any]], dict[str, Any]]:
    """The messages, and the options of the family's chat template, that switch off the model's thinking."""
    if family.system_message is not None:
        messages = [{"role": "system", "content": family.system_message}, *messages]
    return messages, dict(family.template_options)


def request_seed(seed: int, request_id: str) -> int:
    """The seed of one request, of 31 bits, from that of the sampling: the same in every run, another for each window.

    Draws do not depend on what else is asked, in which order, or in which batch.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}/{request_id}".encode()).digest()[:4]) >> 1


def video_hash(frames: SampledFrames, *options: object) -> str:
    """Covers all that a model sees of a video: pixels, size, times, and by what `options` it takes them."""
    pixels = np.ascontiguousarray(frames.frames)
    covered = hashlib.blake2b(repr((pixels.shape, frames.picks.times_s, *options)).encode(), digest_size=24)
    covered.update(pixels.reshape(-1).data)
    return covered.hexdigest()


def video_options(family: Family, processor: Any) -> dict[str, Any]:
    """The options by which the family's processor of transformers takes frames as they are."""
    known = getattr(getattr(processor.video_processor, "valid_kwargs", None), "__annotations__", {})
    newer = {name: value for name, value in family.newer_processor_options.items() if name in known}
    return {**family.processor_options, **newer}


def caption_request(
    request_id: str,
    prompt: str,
    frames: SampledFrames | None,
    max_tokens: int,
    sampling: Sampling | None = None,
    schema: str | None = None,
    then: tuple[Question, ...] = (),
) -> Request:
    """A window's video followed by the instruction, as one user turn."""
    return Request(request_id, _about_video(prompt), frames, max_tokens, sampling, schema, then)


def further_request(request: Request, question: Question, answer: str | None = None) -> Request:
    """The request that asks a question alone about the video of `request`, after the `answer` that it depends on."""
    prompt = question.prompt if answer is None else with_caption(question.prompt, answer)
    asked = {name: getattr(question, name) for name in ("max_tokens", "sampling", "schema")}
    return replace(request, messages=_about_video(prompt), then=(), **asked)


def enhance_request(request_id: str, prompt: str, caption: str, max_tokens: int) -> Request:
    """The instruction followed by the caption to rewrite, as one user turn."""
    return Request(request_id, ({"role": "user", "content": with_caption(prompt, caption)},), None, max_tokens)


def _about_video(prompt: str) -> tuple[dict[str, Any], ...]:
    return ({"role": "user", "content": [{"type": "video"}, {"type": "text", "text": prompt}]},)
