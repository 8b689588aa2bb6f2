"""What a server is sent for a request: the JSON of a chat completion, with the frames in a form that it can read."""

import base64
import io
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from PIL import Image

from caption_assets.errors import RequestError
from caption_assets.models.chat import without_marks
from caption_assets.models.engines.openai.dialects import DIALECTS, RENAMED, UNKNOWN, Dialect
from caption_assets.models.families import Family
from caption_assets.models.requests import Request, request_seed, video_hash, video_metadata, without_thinking
from caption_assets.models.schemas import grammatical
from caption_assets.models.variants import Sampling
from caption_assets.records import FramePicks, SampledFrames

Form = Literal["jpeg", "png", "images", "mp4"]
"""How a window's frames travel.

"jpeg" and "png" are vLLM's own: one video part whose data URL holds all frames, with their true times beside it.
vLLM names both `video/jpeg`, and looks into each image for what it is; PNG keeps every pixel and is about five times
as large. "images" is one image part a frame, which most servers take. "mp4" is a video file, which the server samples
by its own rules.
"""
_PLACE = "\ue000the video\ue000"
_PLACE_JSON = json.dumps(_PLACE).encode()
_OF_VIDEO = ("media_io_kwargs", "mm_processor_kwargs")
_JPEG = {"quality": 95, "subsampling": 0}  # no chroma subsampling: colours of small things survive
_PNG = {"compress_level": 1}


@dataclass(frozen=True, slots=True)
class ServerPrepare:
    """The `prepare` of the server engine: encodes a request's frames and the JSON around them. It pickles.

    `model` is the name that the server has for the model, `dialect` what it takes beside OpenAI's fields. `changed`
    are fields that it does not take, with the name that it wants instead, or None. `encode_mp4` is needed for the form
    "mp4" only. `grammatical` is for a server that refuses schemas with words that its grammars do not keep answers to.
    """

    model: str
    family: Family
    form: Form
    sampling: Sampling
    stop: tuple[str, ...] = ()
    dialect: Dialect = DIALECTS["vllm"]
    encode_mp4: Callable[[SampledFrames], bytes] | None = None
    changed: Mapping[str, str | None] = field(default_factory=dict)
    grammatical: bool = False

    def load(self) -> None:
        """Nothing takes long here."""

    def __call__(self, request: Request) -> Request:
        """The request with the body that is sent, as bytes, in place of its frames. Raises RequestError."""
        video: list[dict[str, Any]] = [] if request.frames is None else self._video(request)
        data = np.frombuffer(json.dumps(video).removeprefix("[").removesuffix("]").encode(), np.uint8)
        body = Body(self._fields(request, [_PLACE] if video else []), data)
        return replace(request, frames=None, prepared=body, prepared_at=time.monotonic(), num_bytes=len(body))

    def further(self, first: Request, request: Request) -> Request:
        """What is sent for another prompt about the video of `first`, which has been prepared."""
        known: Body = first.prepared
        fields = self._fields(replace(request, frames=None), [_PLACE])
        fields |= {name: known.fields[name] for name in _OF_VIDEO if name in known.fields}
        body = Body(fields, known.video)
        return replace(request, prepared=body, num_bytes=len(body))

    def body(self, request: Request) -> dict[str, Any]:
        """The fields of a chat completion. All sampling is stated: servers have defaults of their own."""
        return self._fields(request, [] if request.frames is None else self._video(request))

    def _fields(self, request: Request, video: list[Any]) -> dict[str, Any]:
        """The same with `video` for the parts of the message that are one."""
        # The server tokenizes what it is sent.
        plain = [without_marks(message) for message in request.messages]
        messages, switches = without_thinking(self.family, plain)
        sampling = request.sampling or self.sampling
        fields: dict[str, Any] = {
            "model": self.model,
            "messages": [_message(request, message, video) for message in messages],
            "max_tokens": request.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "logprobs": True,
        }
        if sampling.presence_penalty:
            fields["presence_penalty"] = sampling.presence_penalty
        if sampling.temperature > 0:
            fields["seed"] = request_seed(sampling.seed, request.request_id)
        if self.stop:
            fields["stop"] = list(self.stop)
        fields |= self.dialect.fields(
            {"top_k": sampling.top_k or -1, "repetition_penalty": sampling.repetition_penalty}
        )
        fields |= self.dialect.without_thinking(switches)
        if request.schema is not None:
            schema = grammatical(request.schema) if self.grammatical else request.schema
            named = {"name": "answer", "schema": json.loads(schema)}
            # OpenAI's own is strict only with schemas that say less than others can.
            strict = {} if self.dialect is UNKNOWN else {"strict": True}
            fields["response_format"] = {"type": "json_schema", "json_schema": named | strict}
        if request.frames is not None and self.form in ("jpeg", "png"):
            # Without num_frames vLLM keeps the first 32 frames; without the times it takes one a second.
            times = video_metadata(_at_least_two(request.frames).picks)
            fields["media_io_kwargs"] = {"video": {"num_frames": -1, **times, "do_sample_frames": False}}
            if self.family.processor_options:
                fields["mm_processor_kwargs"] = dict(self.family.processor_options)
        names = {name: self.changed.get(name, name) for name in fields}
        return {new: fields[name] for name, new in names.items() if new is not None}

    def without(self, name: str) -> "ServerPrepare":
        """The same for a server that does not take a field of this name."""
        return replace(self, changed={**self.changed, name: RENAMED.get(name)})

    def left_out(self) -> Iterator[str]:
        """In sentences, what the server is not sent although it is wanted, or may ignore."""
        _, switches = without_thinking(self.family, ())
        yield from self.dialect.left_out(self.sampling.top_k, self.sampling.repetition_penalty, switches)
        for name, new in self.changed.items():
            if new is None and name != "logprobs":
                yield f"The server takes no {name} for this model; it uses its own."
        if self.grammatical:
            yield "The server takes no JSON schema with what grammars do not keep to; answers are checked for that."

    def _video(self, request: Request) -> list[dict[str, Any]]:
        assert request.frames is not None, "there is no video without frames"
        frames = _at_least_two(request.frames)
        if self.form == "images":
            times = ", ".join(f"{time:.2f}" for time in frames.picks.times_s)
            urls = (_data_url("image/jpeg", [image]) for image in _encoded(frames.frames, "JPEG", _JPEG))
            return [
                {"type": "text", "text": f"Frames of a video, in order, shown at {times} seconds:"},
                *({"type": "image_url", "image_url": {"url": url}} for url in urls),
            ]
        if self.form == "mp4":
            assert self.encode_mp4 is not None, "the form mp4 needs an encoder"
            url = _data_url("video/mp4", [self.encode_mp4(frames)])
        else:
            images = _encoded(frames.frames, *(("PNG", _PNG) if self.form == "png" else ("JPEG", _JPEG)))
            url = _data_url("video/jpeg", images)
        part: dict[str, Any] = {"type": "video_url", "video_url": {"url": url}}
        if request.then and self.form in ("jpeg", "png"):
            # By this name vLLM knows the video again, without decoding it.
            part["uuid"] = video_hash(request.frames, self.form)
        return [part]


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """What is sent: the fields of a chat completion, in which a place is kept for the video, as JSON of its own."""

    fields: dict[str, Any] = field(repr=False)
    video: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self._around) + self.video.nbytes - (len(_PLACE_JSON) if self.video.nbytes else 0)

    def __bytes__(self) -> bytes:
        return self._around.replace(_PLACE_JSON, self.video.tobytes(), 1) if self.video.nbytes else self._around

    @property
    def _around(self) -> bytes:
        return json.dumps(self.fields).encode()


def _message(request: Request, message: dict[str, Any], video: list[Any]) -> dict[str, Any]:
    content = message["content"]
    if isinstance(content, str):
        return message
    parts: list[Any] = []
    for part in content:
        if part["type"] == "video" and not video:
            raise RequestError(f"request {request.request_id}", "it is about a video and has no frames")
        parts += video if part["type"] == "video" else [part]
    return {**message, "content": parts}


def _at_least_two(frames: SampledFrames) -> SampledFrames:
    """A single frame twice, since Qwen3-VL takes no less; it is what models make of an odd last frame, too."""
    if len(frames.frames) > 1:
        return frames
    picks = frames.picks
    return SampledFrames(np.repeat(frames.frames, 2, axis=0), FramePicks(picks.frame_ids * 2, picks.times_s * 2))


def _encoded(frames: np.ndarray, kind: str, options: dict[str, int]) -> Iterable[bytes]:
    for frame in frames:
        file = io.BytesIO()
        Image.fromarray(frame).save(file, kind, **options)
        yield file.getvalue()


def _data_url(media_type: str, files: Iterable[bytes]) -> str:
    return f"data:{media_type};base64," + ",".join(base64.b64encode(file).decode() for file in files)
