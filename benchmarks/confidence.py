"""What confidence is worth: how well a model's log-probabilities tell its right captions from wrong ones.

    python -m benchmarks.confidence [--scenes 500] [--demo FOLDER] [--out scores.json]
    python -m benchmarks.confidence --parts hard --engine vllm --out vllm.json
    python -m benchmarks.confidence --compare scores.json vllm.json

`benchmarks.trust` runs all of it at once, on many cores.

Scenes of the demo world, of 2 to 4 seconds, drawn at the model's rate of frames; seeds that training does not use. The
captions are greedy, in float32 on the CPU (vLLM takes a GPU where it was built for one, and the `--dtype` that is asked
for), and judged by what the scene shows. With `--skewed` the scenes are those of the world's second language, in which
some words are rare. AUROC of each score, for

- planted: the true caption of a scene against that with one wrong fact, of every kind that fits it;
- hard: the model's own captions, right against wrong ones, of scenes with noise, blur, low contrast and small objects;
- falls: the true caption with its own video, against the same with the frames reversed (where that changes what is
  true), with objects of other colours, and with another scene's video: how often the score falls, and its median;
- language: the same captions without any video, for `planted` and `hard`: what the language alone knows.
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from caption_assets.demo import draw, world
from caption_assets.demo.facts import BACKGROUNDS, COLOURS, MOTIONS, SHAPES, Facts, Subject, compare, read, write
from caption_assets.models.chat import chat_prompt
from caption_assets.models.confidence import Confidence, confidence_of
from caption_assets.models.engines.base import EngineOptions
from caption_assets.models.engines.select import create_engine
from caption_assets.models.engines.session import EngineSession
from caption_assets.models.engines.transformers import TransformersEngine
from caption_assets.models.families import FrameLimits
from caption_assets.models.prompts import caption_prompt
from caption_assets.models.requests import Request, caption_request, frame_size
from caption_assets.models.variants import caption_variant
from caption_assets.models.weights.checkpoints import checkpoint_of
from caption_assets.quality.calibration import auroc, auroc_interval, kendall_tau
from caption_assets.records import FramePicks, SampledFrames

SEED, MOST_TOKENS = 970_000, 64
SCORES = tuple(field.name for field in fields(Confidence))
SIZES = ((160, 120), (224, 192), (192, 224), (320, 180))
PARTS = ("planted", "hard", "falls")
_FEW = 4
_REVERSED = {
    "moving from left to right": "moving from right to left",
    "moving from top to bottom": "moving from bottom to top",
    "growing": "shrinking",
    "circling clockwise": "circling counterclockwise",
}
_REVERSED |= {back: forth for forth, back in _REVERSED.items()}


@dataclass(frozen=True)
class Case:
    """A scene and its frames, uint8 RGB (T, H, W, 3), at these times in seconds."""

    name: str
    scene: world.Scene
    frames: np.ndarray
    times: tuple[float, ...]

    @property
    def facts(self) -> Facts:
        return self.scene.facts()


def sampled_scene(seed: int, number: int, odds: Mapping[str, float]) -> world.Scene:
    width, height = SIZES[number % len(SIZES)]
    rng = np.random.default_rng((seed, number))
    kind = ("one", "two", "one_sequence", "two_sequence")[number % 4]
    seconds = 4.0 if number % 4 > 1 else 2.0 + number % 3 / 2
    size = {"width": width, "height": height, "frame_rate": Fraction(24)}
    return world.sample_scene(rng, **size, duration_s=seconds, kind=kind, odds=odds)


def case(name: str, scene: world.Scene) -> Case:
    n = max(4, 2 * round(scene.duration_s))
    picks = np.linspace(0, scene.num_frames - 1, n).round().astype(int)
    times = tuple(float((pick - picks[0]) / scene.frame_rate) for pick in picks)
    return Case(name, scene, draw.pick(scene, picks), times)


def hard_case(number: int, scene: world.Scene, seed: int) -> Case:
    """The scene with smaller objects, less contrast, blur and noise; how much of each is drawn."""
    rng = np.random.default_rng((seed, 1, number))
    made = case(f"hard-{number}", smaller(scene, float(rng.uniform(0.45, 1.0))))
    contrast, blur, noise = rng.uniform(0.35, 1.0), rng.uniform(0.0, 2.0), rng.uniform(0.0, 40.0)
    frames = made.frames.astype(np.float32)
    frames = frames.mean() + contrast * (frames - frames.mean())
    frames = np.stack([cv2.GaussianBlur(frame, (0, 0), 0.3 + blur) for frame in frames])
    frames += rng.normal(0, noise, frames.shape)
    return replace(made, frames=frames.clip(0, 255).astype(np.uint8))


def smaller(scene: world.Scene, factor: float) -> world.Scene:
    def thing(one: world.Object) -> world.Object:
        events = (replace(event, size0=event.size0 * factor, size1=event.size1 * factor) for event in one.events)
        return replace(one, events=tuple(events))

    acts = (replace(act, objects=tuple(map(thing, act.objects))) for act in scene.acts)
    return replace(scene, acts=tuple(acts))


def recoloured(scene: world.Scene, rng: np.random.Generator) -> world.Scene:
    """The same scene, each object in another colour."""

    def thing(one: world.Object) -> world.Object:
        word = str(rng.choice([colour for colour in COLOURS if colour != one.colour]))
        return replace(one, colour=word, rgb=world.SHADES[word][0])

    acts = (replace(act, objects=tuple(map(thing, act.objects))) for act in scene.acts)
    return replace(scene, acts=tuple(acts))


def planted(facts: Facts, rng: np.random.Generator) -> Iterator[tuple[str, str]]:
    """Captions with one wrong fact, by its kind."""

    def other(words: Sequence[str], word: str) -> str:
        return str(rng.choice([w for w in words if w != word]))

    at = int(rng.integers(len(facts.subjects)))
    one = facts.subjects[at]

    def having(**change: Any) -> str:
        subjects = list(facts.subjects)
        subjects[at] = replace(one, **change)
        return write(Facts(facts.background, tuple(subjects), facts.in_turn))

    yield "colour", having(colour=other(COLOURS, one.colour))
    yield "shape", having(shape=other(SHAPES, one.shape))
    # What happens one after the other is never standing still, nor twice the same.
    words = [word for word in MOTIONS if word not in one.motions[1:] and (len(facts.subjects) < 2 or not facts.in_turn)]
    if facts.in_turn or len(one.motions) > 1:
        words = [word for word in MOTIONS if word != "standing still" and word not in one.motions[1:]]
    yield "motion", having(motions=(other(words, one.motions[0]), *one.motions[1:]))
    yield "background", write(replace(facts, background=other(BACKGROUNDS, facts.background)))
    if len(one.motions) > 1:
        yield "order", having(motions=one.motions[::-1])
    elif facts.in_turn:
        yield "order", write(replace(facts, subjects=facts.subjects[::-1]))


def backwards(facts: Facts) -> Facts:
    """What is true of a scene that runs backwards."""
    subjects = tuple(
        Subject(s.colour, s.shape, tuple(_REVERSED.get(motion, motion) for motion in s.motions[::-1]))
        for s in facts.subjects
    )
    return Facts(facts.background, subjects[::-1] if facts.in_turn else subjects, facts.in_turn).canonical()


def request_of(made: Case, limits: FrameLimits) -> Request:
    """As the captions step asks: the default prompt, frames in the model's size."""
    height, width = made.frames.shape[1:3]
    size = frame_size(width, height, len(made.frames), limits)
    frames = np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in made.frames])
    picks = FramePicks(tuple(range(len(frames))), made.times)
    return caption_request(made.name, caption_prompt("default"), SampledFrames(frames, picks), MOST_TOKENS)


class Reader:
    """Scores any text under a model, given a video or none, by one pass over the prompt and one over its texts."""

    def __init__(self, folder: str | None) -> None:
        self.variant = caption_variant("demo")
        self.checkpoint = checkpoint_of(self.variant, folder)
        self.engine = TransformersEngine(self.variant, self.checkpoint, EngineOptions("cpu"))
        limits = self.engine.start().frame_limits
        assert limits is not None
        self.limits = limits

    def scores(self, made: Case | None, texts: Sequence[str]) -> list[Confidence]:
        """The confidence that the model would have in each text as its caption; without a case, from words alone."""
        import torch

        engine = self.engine
        inputs = self._prompt(made)
        tokens = [engine._tokenizer.encode(text, add_special_tokens=False) for text in texts]
        longest = max(map(len, tokens))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in tokens])
        with torch.inference_mode():
            before = engine._model(**inputs, use_cache=True)
            cache, length = before.past_key_values, inputs["input_ids"].shape[1]
            cache.batch_repeat_interleave(len(texts))
            jump = 0 if before.rope_deltas is None else int(before.rope_deltas)  # what the video's positions leave out
            places = (torch.arange(longest) + length + jump).expand(3, len(texts), longest)
            after = engine._model(input_ids=ids, position_ids=places, past_key_values=cache, use_cache=True)
        first = before.logits[:, -1:].expand(len(texts), 1, -1)
        logprobs = torch.cat([first, after.logits[:, :-1]], dim=1).log_softmax(dim=2)
        values = logprobs.gather(2, ids[..., None])[..., 0]
        found = []
        for text, row, scores in zip(texts, tokens, values.tolist(), strict=True):
            pieces = [(engine._tokenizer.decode([token]), score) for token, score in zip(row, scores, strict=False)]
            confidence = confidence_of(text, pieces)
            assert confidence is not None
            found.append(confidence)
        return found

    def _prompt(self, made: Case | None) -> Any:
        engine = self.engine
        if made is not None:
            request = request_of(made, self.limits)
            return engine._inputs([request], [chat_prompt(engine._processor, engine._family, request.messages)])
        text = {"role": "user", "content": [{"type": "text", "text": caption_prompt("default")}]}
        prompt = engine._processor.apply_chat_template([text], tokenize=False, add_generation_prompt=True)
        return engine._processor(text=[prompt], return_tensors="pt")


def captioned(
    cases: Sequence[Case], folder: str | None, engine: str = "transformers", dtype: str = "float32"
) -> dict[str, dict[str, Any]]:
    """The model's own caption of every case, with its confidence, whether it is right, and whether what it should say
    has a word that is rare in the world's second language; by name."""
    variant, device = caption_variant("demo"), "cpu"
    checkpoint = checkpoint_of(variant, folder)
    if engine == "vllm":
        from caption_assets.models.engines.vllm.launch import built_for_cpus

        device = "cpu" if built_for_cpus() else "cuda"
    vllm_args = {"kv_cache_memory_bytes": 1 << 28, "dtype": dtype}
    options = EngineOptions(device, sampling=variant.sampling, vllm_args=vllm_args)
    session = EngineSession(variant, checkpoint, create_engine(variant, checkpoint, options, engine=engine))
    by_name = {made.name: made for made in cases}
    found = {}
    try:
        info = session.start()
        assert info.frame_limits is not None
        prepare = info.prepare or (lambda request: request)
        requests = [prepare(request_of(made, info.frame_limits)) for made in cases]
        for result in session.generate(requests):
            assert result.text is not None, result.outcome
            assert result.confidence is not None
            facts = by_name[result.request_id].facts
            right, rare = compare(read(result.text), facts)["all"], any(word in write(facts) for word in world.SKEWED)
            said = {"text": result.text, "right": right, "rare": rare}
            found[result.request_id] = {**said, **asdict(result.confidence)}
    finally:
        session.close()
    return found


def planted_part(reader: Reader, scenes: Mapping[str, world.Scene]) -> dict[str, Any]:
    """Scores of true captions and of those with one wrong fact: lists by kind of fact, "true" for the former."""
    with_video: dict[str, list[dict[str, float]]] = {}
    without: dict[str, list[dict[str, float]]] = {}
    for name, scene in scenes.items():
        made = case(name, scene)
        wrong = dict(planted(made.facts, np.random.default_rng((SEED, 2, scene.seed))))
        for kind, text in wrong.items():
            same = compare(read(text), made.facts)
            # What is told in turn is told in another order, too, where one of it is another thing.
            more = {name for name, right in same.items() if not right} - {"all", "order", kind}
            assert not more, f"{text!r} is wrong in more than its {kind}"
            assert not same[kind], f"{text!r} is right about its {kind}"
        texts = {"true": write(made.facts), **wrong}
        for into, video in ((with_video, made), (without, None)):
            for kind, confidence in zip(texts, reader.scores(video, list(texts.values())), strict=True):
                into.setdefault(kind, []).append(asdict(confidence))
    return {"video": with_video, "language": without}


def falls_part(reader: Reader, scenes: Mapping[str, world.Scene]) -> dict[str, Any]:
    """Scores of true captions with their own video and with a wrong one: pairs by what is wrong."""
    pairs: dict[str, list[list[dict[str, float]]]] = {}
    cases = [case(name, scene) for name, scene in scenes.items()]
    for number, made in enumerate(cases):
        text = write(made.facts)
        (own,) = reader.scores(made, [text])
        colours = recoloured(made.scene, np.random.default_rng((SEED, 3, made.scene.seed)))
        wrong = {"colours": case(made.name, colours)}
        if backwards(made.facts) != made.facts:
            wrong["reversed"] = replace(made, frames=made.frames[::-1].copy())
        others = (cases[(number + k) % len(cases)] for k in range(1, len(cases)))
        if other := next((other for other in others if other.facts != made.facts), None):
            wrong["another"] = other
        for kind, video in wrong.items():
            (score,) = reader.scores(video, [text])
            pairs.setdefault(kind, []).append([asdict(own), asdict(score)])
    return pairs


def areas(good: Sequence[dict[str, float]], bad: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    """AUROC of every score with its 95 % interval."""
    found = {}
    for name in SCORES:
        values, marks = [row[name] for row in [*good, *bad]], [True] * len(good) + [False] * len(bad)
        found[name] = [round(value, 4) for value in (auroc(values, marks), *auroc_interval(values, marks))]
    return found


def apart(reader: Reader, cases: Sequence[Case], found: dict[str, dict[str, Any]]) -> float:
    """How far scores by `reader` are at most from those that the engine gives for the same captions."""
    return max(
        abs(getattr(confidence, name) - found[made.name][name])
        for made in cases
        for confidence in reader.scores(made, [found[made.name]["text"]])
        for name in SCORES
    )


def summary(results: dict[str, Any]) -> dict[str, Any]:
    """The figures of whichever parts there are."""
    figures: dict[str, Any] = {}
    for source, kinds in results.get("planted", {}).items():
        wrong = {kind: rows for kind, rows in kinds.items() if kind != "true"}
        figures[f"planted, {source}"] = {
            "all": areas(kinds["true"], [row for rows in wrong.values() for row in rows]),
            **{f"{kind} ({len(rows)})": areas(kinds["true"], rows) for kind, rows in wrong.items()},
        }
    if "hard" in results:
        rows = list(results["hard"].values())
        figures["hard"] = of_errors(rows)
        for name, rare in (("with a rare word", True), ("without", False)):
            figures[f"hard, {name}"] = of_errors([row for row in rows if row["rare"] is rare])
    if "apart" in results:
        figures["furthest from the engine's own scores"] = round(results["apart"], 6)
    if "falls" in results:
        figures["falls"] = {
            f"{kind} ({len(pairs)})": {
                name: {
                    "falls": round(float(np.mean([wrong[name] < own[name] for own, wrong in pairs])), 4),
                    "median": [round(float(np.median([pair[k][name] for pair in pairs])), 3) for k in (0, 1)],
                }
                for name in SCORES
            }
            for kind, pairs in results["falls"].items()
        }
    return figures


def of_errors(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How well the scores tell right captions from wrong ones, of a model's own."""
    good, bad = ([row for row in rows if row["right"] is mark] for mark in (True, False))
    figures: dict[str, Any] = {"right": len(good), "wrong": len(bad)}
    if good and bad:
        figures["video"] = areas(good, bad)
        if all("language" in row for row in rows):
            figures["language"] = areas([row["language"] for row in good], [row["language"] for row in bad])
    return figures


def lines(figures: dict[str, Any], title: str = "") -> Iterator[str]:
    """The figures as text, a line for all scores of one kind."""
    for name, value in figures.items():
        whole = f"{title}, {name}" if title else name
        if isinstance(value, dict) and SCORES[0] not in value:
            yield from lines(value, whole)
        else:
            yield f"{whole:40s} {json.dumps(value)}"


def compared(first: Path, second: Path) -> dict[str, Any]:
    """Two results of the hard part by different engines: equal texts, and Kendall's tau of each score over all."""
    one, other = (json.loads(path.read_text())["hard"] for path in (first, second))
    return agreement(one, other)


def agreement(one: dict[str, dict[str, Any]], other: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The same of two results of `captioned`."""
    names = sorted(one.keys() & other.keys())
    same = [name for name in names if one[name]["text"] == other[name]["text"]]
    taus = {
        label: {
            score: round(kendall_tau([one[n][score] for n in chosen], [other[n][score] for n in chosen]), 4)
            for score in SCORES
        }
        for label, chosen in (("all", names), ("equal texts", same))
    }
    apart = {score: max(abs(one[n][score] - other[n][score]) for n in same) for score in SCORES} if same else {}
    return {"cases": len(names), "equal texts": len(same), "tau": taus, "furthest apart": apart}


def run(
    numbers: Sequence[int],
    parts: Sequence[str],
    demo: str | None,
    skewed: bool = False,
    engine: str = "transformers",
    dtype: str = "float32",
) -> dict[str, Any]:
    """All scores of the scenes of these numbers."""
    odds = world.SKEWED if skewed else {}
    scenes = {f"scene-{number}": sampled_scene(SEED, number, odds) for number in numbers}
    results: dict[str, Any] = {}
    if "hard" in parts:
        cases = [hard_case(number, scene, SEED) for number, scene in zip(numbers, scenes.values(), strict=True)]
        results["hard"] = captioned(cases, demo, engine, dtype)
        few = cases[:_FEW]
    if engine != "transformers":
        return results
    reader = Reader(demo)
    if "hard" in results:
        results["apart"] = apart(reader, few, results["hard"])
    for row in results.get("hard", {}).values():
        (confidence,) = reader.scores(None, [row["text"]])
        row["language"] = asdict(confidence)
    for part, work in (("planted", planted_part), ("falls", falls_part)):
        if part in parts:
            results[part] = work(reader, scenes)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=500)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--engine", choices=["transformers", "vllm"], default="transformers")
    parser.add_argument("--dtype", default="float32", help="of the weights in vLLM")
    parser.add_argument("--skewed", action="store_true", help="scenes of the world's second language")
    parser.add_argument("--demo", help="another checkpoint of the caption model")
    parser.add_argument("--out", type=Path, help="write all scores to this file")
    parser.add_argument("--compare", type=Path, nargs=2, help="two such files")
    args = parser.parse_args()
    if args.compare:
        print(json.dumps(compared(*args.compare), indent=1))
        return
    began = time.perf_counter()
    results = run(range(args.scenes), args.parts, args.demo, args.skewed, args.engine, args.dtype)
    if args.out:
        args.out.write_text(json.dumps(results | {"figures": summary(results)}))
    for line in lines(summary(results)):
        print(line)
    print(f"{args.scenes} scenes in {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
