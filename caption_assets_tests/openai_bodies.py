"""What the tests' OpenAI-compatible server reads in the body of a request: what `vllm serve` would."""

import base64
import io
import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from caption_assets.models.requests import CLOCK_HZ, Request
from caption_assets.models.variants import Variant
from caption_assets.models.weights.checkpoints import Checkpoint
from caption_assets.records import FramePicks, SampledFrames


class BadRequestError(Exception):
    """What vLLM answers with status 400."""


@dataclass(frozen=True, slots=True)
class DeclaredPicks(FramePicks):
    """Picks with the rate that the client declared, as vLLM gives it to the processor."""

    declared_fps: float = 0.0

    @property
    def fps(self) -> float:
        return self.declared_fps


def texts(body: dict[str, Any]) -> list[str]:
    """All texts of the messages."""
    contents = [message["content"] for message in body["messages"]]
    return [
        text
        for content in contents
        for text in ([content] if isinstance(content, str) else [p["text"] for p in content if p["type"] == "text"])
    ]


def without_media(body: dict[str, Any]) -> dict[str, Any]:
    """The body with the head of each data URL only."""
    return json.loads(re.sub(r'(;base64,)[^"]*', r"\1", json.dumps(body)))


def read_request(
    body: dict[str, Any], request_id: str, checkpoint: Checkpoint, variant: Variant, be: dict[str, Any]
) -> Request:
    """The request as an engine takes it, by a server of the `BEHAVIOUR` `be`.

    Raises BadRequestError where that would refuse it.
    """
    if be["owned_by"] == "vllm" and not be["trust_request_mm_kwargs"]:
        for name in ("mm_processor_kwargs", "media_io_kwargs"):
            if body.get(name):
                raise BadRequestError(
                    f"Per-request {name} are disabled by default because they can change multimodal resource usage. "
                    "Start the server with --trust-request-mm-kwargs only when clients are trusted."
                )
    if be["owned_by"] == "openai" and (
        unknown := {"top_k", "repetition_penalty", "chat_template_kwargs"} & body.keys()
    ):
        raise BadRequestError(f"Unrecognized request argument supplied: {sorted(unknown)[0]}")
    sampling = variant.sampling
    if be["samples"] and (body["temperature"], body.get("repetition_penalty", 1.0)) != (
        sampling.temperature,
        sampling.repetition_penalty,
    ):
        raise BadRequestError(f"this server samples as {sampling} and not otherwise")
    if be["listing"] is None and body["model"] not in (be["served_model_name"], str(checkpoint.folder)):
        raise BadRequestError(f"The model `{body['model']}` does not exist.")
    video: SampledFrames | None = None
    messages = []
    for message in body["messages"]:
        content = message["content"]
        if not isinstance(content, str):
            found = _video(content, body)
            video = found or video
            texts = [part for part in content if part["type"] == "text"]
            content = ([{"type": "video"}] if found else []) + texts
        messages.append({"role": message["role"], "content": content})
    return Request(request_id, tuple(messages), video, body.get("max_tokens") or body["max_completion_tokens"])


def _video(content: list[dict[str, Any]], body: dict[str, Any]) -> SampledFrames | None:
    urls = [part["video_url"]["url"] for part in content if part["type"] == "video_url"]
    images = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    if images:  # half a second each, for want of anything better
        return _sampled([_image(url.partition(";base64,")[2]) for url in images], [500 * k for k in range(len(images))])
    if not urls:
        return None
    media_type, _, data = urls[0].removeprefix("data:").partition(";base64,")
    if media_type == "video/jpeg":
        return _jpeg_sequence(data, **(body.get("media_io_kwargs") or {}).get("video", {}))
    import av

    with av.open(io.BytesIO(base64.b64decode(data))) as container:
        frames = [(f.to_ndarray(format="rgb24"), round(f.time * CLOCK_HZ)) for f in container.decode(video=0)]
    return _sampled([frame for frame, _ in frames], [time for _, time in frames])


def _jpeg_sequence(
    data: str,
    num_frames: int = 32,
    fps: float = 1,
    frames_indices: list[int] | None = None,
    total_num_frames: int | None = None,
    **_: Any,
) -> SampledFrames:
    """As vLLM's `VideoMediaIO.load_base64`: without these options, 32 frames at most, one a second."""
    parts = data.split(",") if num_frames < 0 else data.split(",", num_frames)[:num_frames]
    indices = frames_indices or list(range(len(parts)))
    if len(indices) != len(parts):
        raise BadRequestError(f"frames_indices length ({len(indices)}) must match number of frames ({len(parts)})")
    times = [round(index / fps * CLOCK_HZ) for index in indices]
    total = total_num_frames or len(parts)
    return _sampled([_image(part) for part in parts], times, declared_fps=len(parts) * fps / total)


def _image(data: str) -> np.ndarray:
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as image:
        return np.asarray(image.convert("RGB"))


def _sampled(frames: list[np.ndarray], times_ms: list[int], declared_fps: float | None = None) -> SampledFrames:
    times = tuple(time / CLOCK_HZ for time in times_ms)
    picks = FramePicks(tuple(range(len(frames))), times)
    declared = DeclaredPicks(picks.frame_ids, times, picks.fps if declared_fps is None else declared_fps)
    return SampledFrames(np.stack(frames), declared)
