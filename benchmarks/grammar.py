"""Whether answers by a JSON schema are valid whatever the model: weights that know nothing, drawn at temperature 1.

    python -m benchmarks.grammar [--windows 1000] [--structured 50]

Each window has a video of its own and is asked for JSON, most of them by a small schema with everything that schemas
have, the rest by that of the prompt `structured`. An answer is valid, or fails with its reason, after another try with
half the bounds. Needs no GPU; takes some minutes.
"""

import argparse
import json
import re
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from caption_assets.models.engines.base import EngineOptions
from caption_assets.models.engines.select import create_engine
from caption_assets.models.engines.session import EngineSession
from caption_assets.models.requests import Request, caption_request
from caption_assets.models.schemas import InvalidAnswerError, bounded, checked
from caption_assets.models.structured import STRUCTURED
from caption_assets.models.variants import Sampling, caption_variant
from caption_assets.models.weights.checkpoints import checkpoint_of
from caption_assets.records import FramePicks, SampledFrames
from caption_assets_tests.checkpoints import save_qwen25

_NAMED = {
    "type": "object",
    "properties": {
        "what": {"type": "string", "maxLength": 12},
        "kind": {"enum": ["person", "animal", "thing", None]},
        "time": {"type": "string", "pattern": "^[0-9]:[0-5][0-9]$"},
        "count": {"type": "integer", "minimum": 0, "maximum": 99},
        "sure": {"type": "boolean"},
        "seen": {
            "type": "array",
            "maxItems": 3,
            "items": {
                "type": "object",
                "properties": {"colour": {"type": "string", "maxLength": 8}, "moves": {"type": "boolean"}},
                "required": ["colour"],
            },
        },
    },
    "required": ["what", "kind", "time", "count", "sure", "seen"],
}


def requests(count: int, structured: int) -> list[Request]:
    """A window each, with frames of noise."""
    small, large = bounded(_NAMED, "the small schema"), bounded(dict(STRUCTURED), "the prompt structured")
    rng = np.random.default_rng(7)
    drawn, asked = Sampling(temperature=1.0, seed=1), []  # of which each request has draws of its own
    for k in range(count):
        frames = SampledFrames(rng.integers(0, 256, (2, 56, 56, 3), dtype=np.uint8), FramePicks((0, 1), (0.0, 0.5)))
        schema, tokens = (large, 1024) if k < structured else (small, 256)
        asked.append(caption_request(f"w{k}", "As JSON.", frames, tokens, drawn, schema))
    return asked


def run(count: int, structured: int, batch: int) -> dict[str, Any]:
    asked = requests(count, structured)
    with tempfile.TemporaryDirectory() as folder:
        variant = caption_variant("qwen2.5")
        checkpoint = checkpoint_of(variant, str(save_qwen25(Path(folder))))
        options = EngineOptions("cpu", batch_size=batch)
        session = EngineSession(variant, checkpoint, create_engine(variant, checkpoint, options, engine="transformers"))
        try:
            session.start()
            began = time.perf_counter()
            results = {result.request_id: result for result in session.generate(asked)}
            seconds = time.perf_counter() - began
        finally:
            session.close()
    outcomes: dict[str, Counter[str]] = {"small": Counter(), "structured": Counter()}
    most = 0
    for request in asked:
        result, of = results[request.request_id], "small" if request.max_tokens == 256 else "structured"
        most = max(most, (result.output_tokens or 0) - 2 * request.max_tokens)
        outcomes[of][_became(result.text, result.outcome.message, request.schema or "")] += 1
    counted = {name: dict(found) for name, found in outcomes.items()}
    return {"windows": len(results), "seconds": round(seconds), "beyond_their_tokens": max(most, 0), **counted}


def _became(text: str | None, message: str, schema: str) -> str:
    if text is None:
        return f"failed: {re.sub(r'[0-9]+', 'N', message)}" if message else "FAILED WITHOUT A REASON"
    try:
        checked(text, "stop", schema)
    except InvalidAnswerError as error:
        return f"NOT VALID: {error}"
    return "valid"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=1000)
    parser.add_argument("--structured", type=int, default=50, help="so many of them by the schema of `structured`")
    parser.add_argument("--batch", type=int, default=100)
    args = parser.parse_args()
    print(json.dumps(run(args.windows, args.structured, args.batch), indent=1))


if __name__ == "__main__":
    main()
