"""Whether a request fits its model's context, prompt and answer, before anything is done for it: one rule for all."""

import math
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from caption_assets.errors import RequestError
from caption_assets.models.families import FrameLimits
from caption_assets.models.requests import frame_size

# Most tokens that a chat template and a system message of ours put around one turn.
_TEMPLATE_TOKENS = 64
# Of running text, whatever the language, where no tokenizer tells better.
_BYTES_A_TOKEN = 3


class ContextError(RequestError):
    """A request that is too long for its model, or that leaves no room for the answer."""

    kind = "context"


def require_room(asked: str, prompt_tokens: int, max_tokens: int, context: int | None) -> None:
    """Raises ContextError where a model of this `context` has no room for the prompt and an answer of `max_tokens`."""
    if context is not None and prompt_tokens + max_tokens > context:
        parts = f"its prompt has {prompt_tokens} tokens, its answer up to {max_tokens}"
        fix = "sample fewer frames, shorten the prompt, lower max_output_tokens, or raise vLLM's max_model_len"
        raise ContextError(asked, f"{parts}, and the model takes {context} together", fix)


@dataclass(frozen=True, slots=True)
class Context:
    """What a model takes: `size` tokens, prompt and answer together, None where nobody knows.

    `tokenizer` is its tokenizer.json, where that is here.
    """

    size: int | None = None
    tokenizer: Path | None = None

    def require_room(self, asked: str, text: str, max_tokens: int) -> None:
        """Raises ContextError where a prompt of this text leaves no room for an answer of `max_tokens`."""
        if self.size is not None:
            require_room(asked, self._tokens(text, self.size - max_tokens), max_tokens, self.size)

    def frame_size(
        self, asked: str, text: str, max_tokens: int, size: tuple[int, int], num_frames: int, limits: FrameLimits
    ) -> tuple[int, int]:
        """The (width, height) in which the model sees so many frames of this `size`, beside the prompt's `text`.

        As `requests.frame_size`; where a video of that size is too long for the model, or leaves no room for the
        answer, as many pixels as there is room for. Raises ContextError where the limits do not allow so few, and
        ClipError as `requests.frame_size`.
        """
        width, height = frame_size(*size, num_frames, limits)
        groups = math.ceil(num_frames / limits.together)
        tokens = groups * width * height // limits.factor**2
        most = math.inf if limits.max_video_tokens is None else limits.max_video_tokens
        if self.size is not None:
            room = self.size - max_tokens - groups * limits.label_tokens
            most = min(most, room - self._tokens(text, room - tokens))
        if tokens <= most:
            return width, height
        area = int(most // groups) * limits.factor**2
        pixels = area * groups * limits.together if limits.per_video else area
        if limits.shape == "bounded" and pixels >= max(limits.min_pixels, limits.factor**2):
            width, height = frame_size(*size, num_frames, replace(limits, max_pixels=pixels))
            if width * height <= area:
                return width, height
        fix = "sample fewer frames, shorten the prompt, lower max_output_tokens or min_pixels, or raise vLLM's "
        wrong = f"there is room for {max(0, int(most))} tokens of its {num_frames} frames, and the smallest take more"
        raise ContextError(asked, wrong, fix + "max_model_len")

    def _tokens(self, text: str, room: float) -> int:
        """Of a turn with this text. They are counted only where its bytes, which are never fewer, do not fit."""
        num_bytes = len(text.encode())
        if _TEMPLATE_TOKENS + num_bytes <= room:
            return _TEMPLATE_TOKENS + num_bytes
        if self.tokenizer is None or not self.tokenizer.is_file():
            return _TEMPLATE_TOKENS + num_bytes // _BYTES_A_TOKEN
        return _TEMPLATE_TOKENS + len(_tokenizer(self.tokenizer).encode(text, add_special_tokens=False).ids)


@cache
def _tokenizer(file: Path) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(file))
