"""How fast variants caption on one GPU, as `benchmarks/captions.py` measured it: docs/engines.md, How fast."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Rate:
    """Windows a second on one GPU at work, without the engine's start, and what a window was."""

    windows_per_second: float
    prompt_tokens: int
    output_tokens: int
    start_seconds: float
    gpu: str


PUBLISHED: Mapping[tuple[str, str], Rate] = MappingProxyType(
    {
        ("qwen", "bf16"): Rate(4.08, 6162, 200, 99.0, "H100"),
        ("qwen2.5", "bf16"): Rate(4.08, 6162, 200, 99.0, "H100"),
        ("qwen", "fp8"): Rate(5.09, 6162, 200, 129.0, "H100"),
        ("qwen2.5", "fp8"): Rate(5.09, 6162, 200, 129.0, "H100"),
        ("qwen3", "bf16"): Rate(4.68, 4968, 200, 96.0, "H200"),
        ("nemotron", "bf16"): Rate(3.33, 4949, 200, 44.0, "H200"),
        ("nemotron-fp8", "fp8"): Rate(4.06, 4949, 200, 192.0, "H200"),
        ("nemotron-nvfp4", "nvfp4"): Rate(1.94, 4949, 200, 200.0, "H200"),
    }
)
"""By the variant's name in the table and the precision of its weights."""

USUAL_TOKENS = 200
"""Tokens of a text where the rates were measured."""
TOKENS_OF_MOST = USUAL_TOKENS / 512
"""A text that nobody has measured is taken to have this share of the tokens that it may have at most."""

# Of the time of a window that is asked one thing and answers with `USUAL_TOKENS`, as `benchmarks/visits.py` measured it
# on an H100 (docs/engines.md, Several captions in one visit).
TOKEN_SHARE = 0.0007
"""What a token more takes: 440 of them took 0.31."""
SECOND_PASS_SHARE = 0.58
"""What a second pass takes, with an answer of as many tokens as the first."""
CACHED_SHARE = 0.96
"""How much of the prompt is there already where a video is asked about again."""
