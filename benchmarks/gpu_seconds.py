"""Whether the GPU seconds that are charged are those that were held, in a run whose engine dies once.

    python -m benchmarks.gpu_seconds [--engine vllm] [--device cuda] [--windows 200]

Captions windows of the demo's world by the embedded model, in one session. Halfway the engine is ended as if it had
died; the session starts it again. What the session says is held beside seconds by the clock, from each lease to its
end, times GPUs; they are to agree within 2 %. With `--device cpu` the CPU counts as one GPU.
"""

import argparse
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from benchmarks.confidence import SEED, hard_case, request_of, sampled_scene
from caption_assets.models.engines.base import CaptionEngine, EngineDeathError, EngineInfo, EngineOptions
from caption_assets.models.engines.select import create_engine
from caption_assets.models.engines.session import EngineSession
from caption_assets.models.gpus import GpuLease
from caption_assets.models.requests import Author, Request, Result
from caption_assets.models.variants import caption_variant
from caption_assets.models.weights.checkpoints import checkpoint_of


class Mortal:
    """An engine that dies once, after so many answers, and knows by the clock how long its GPUs were taken."""

    def __init__(self, engine: CaptionEngine, answers: int) -> None:
        self._engine, self._left, self._died = engine, answers, False
        self._taken: tuple[int, float] | None = None
        self.gpu_s = 0.0

    def author(self) -> Author:
        return self._engine.author()

    def start(self) -> EngineInfo:
        began = time.monotonic()
        info = self._engine.start()
        if not info.gpus:
            info = replace(info, gpus=1, held_since=began)
        lease: GpuLease | None = getattr(self._engine, "_lease", None)
        self._taken = info.gpus, lease.since if lease and lease.gpus else began
        return info

    def ready(self) -> float:
        return self._engine.ready()

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        asked: set[str] = set()

        def noted() -> Iterator[Request]:
            for request in requests:
                asked.add(request.request_id)
                yield request

        for result in self._engine.generate(noted()):
            asked.discard(result.request_id)
            yield result
            self._left -= 1
            if self._left <= 0 and not self._died and asked:
                self._died = True
                raise EngineDeathError("the engine", "it was ended to see", in_flight=frozenset(asked))

    def close(self) -> None:
        self._engine.close()
        if self._taken is not None:
            gpus, since = self._taken
            self.gpu_s += gpus * (time.monotonic() - since)
            self._taken = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=["transformers", "vllm"], default="transformers")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--windows", type=int, default=200)
    args = parser.parse_args()
    variant = caption_variant("demo")
    checkpoint = checkpoint_of(variant)
    more: dict[str, Any] = {"kv_cache_memory_bytes": 1 << 28} if args.engine == "vllm" else {}
    options = EngineOptions(args.device, sampling=variant.sampling, vllm_args=more)
    engine = Mortal(create_engine(variant, checkpoint, options, engine=args.engine), args.windows // 2)
    session = EngineSession(variant, checkpoint, engine)
    cases = [hard_case(number, sampled_scene(SEED, number, {}), SEED) for number in range(args.windows)]
    info = session.start()
    assert info.frame_limits is not None
    prepare = info.prepare or (lambda request: request)
    limits = info.frame_limits
    answers = sum(1 for _ in session.generate(prepare(request_of(made, limits)) for made in cases))
    session.close()
    usage = session.usage
    print(f"{answers} windows, {usage.starts} starts of {info.engine} on {info.device}")
    print(f"GPU seconds held: {usage.held_s:.2f} charged, {engine.gpu_s:.2f} by the clock", end="")
    print(f" ({usage.held_s / engine.gpu_s - 1:+.2%}); {usage.busy_s:.2f} of them busy")


if __name__ == "__main__":
    main()
