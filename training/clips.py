"""Batches of scenes to train on, as arrays: the world's own scenes, sampled as the pipeline samples, and then varied.

Everything in a batch shares the number of frames and the pixel grid. What a viewer would still call the same (shades,
tilt, proportions, softness, noise, a shorter way) is spread wider here than in the world itself, so that the model
does not depend on one renderer's habits. No torch model and no GPU here: the batches are made in worker processes.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from fractions import Fraction

import numpy as np

from caption_assets.demo import world
from caption_assets.demo.facts import BACKGROUNDS, COLOURS, MOTIONS, SHAPES, Facts, write
from caption_assets.demo.structured import as_json
from caption_assets.models.families import FrameLimits
from caption_assets.models.requests import frame_size
from training.texts import caption_prompt, facts_prompt, noise_text

PATCH, MERGE = 14, 2
CELL = PATCH * MERGE
# Area limits of a frame. They leave room between them: what the rule has resized once, it leaves alone ever after.
LIMITS = FrameLimits(CELL, min_pixels=48 * CELL * CELL, max_pixels=72 * CELL * CELL)
TOKENS_PER_SECOND = 2

# Frames a clip, and how often a batch has that many. A batch always has about the same number of frames in all.
FRAME_COUNTS = dict(zip((4, 6, 8, 10, 12, 14, 16), (15, 13, 15, 12, 9, 6, 8), strict=True))
FRAME_COUNTS |= dict(zip((18, 20, 22, 26, 32, 44, 64, 90), (4, 3, 3, 4, 4, 3, 3, 1), strict=True))

# How often a scene of a kind is drawn (where it lasts for two events or not), and how often one is asked to have an
# orbit. Circling beside or before something else is the hardest to tell, and the world itself draws it seldom.
KIND_SHARES = {True: (0.22, 0.34, 0.22, 0.22), False: (0.5, 0.5)}
ORBIT_SHARES = {"one": 0.25, "two": 0.5, "one_sequence": 0.5, "two_sequence": 0.5}

MORE_SHADES: dict[str, tuple[tuple[int, int, int], ...]] = {
    "red": ((220, 20, 60), (178, 34, 34), (255, 50, 50)),
    "green": ((0, 200, 0), (46, 160, 67), (0, 100, 0), (120, 220, 120)),
    "blue": ((30, 144, 255), (0, 0, 130), (90, 140, 240)),
    "yellow": ((255, 215, 0), (250, 240, 100), (220, 210, 0)),
    "orange": ((255, 100, 0), (255, 150, 50)),
    "purple": ((186, 85, 211), (75, 0, 130), (128, 0, 255)),
    "white": ((225, 225, 230),),
    "black": ((40, 40, 40),),
    "gray": ((90, 90, 90), (169, 169, 169), (185, 185, 185)),
    "brown": ((165, 42, 42), (90, 50, 25), (160, 105, 65)),
    "pink": ((255, 40, 147), (255, 205, 220), (219, 112, 147)),
}
_SHADES = {word: np.array(world.SHADES[word] + MORE_SHADES[word], np.float32) for word in world.SHADES}


@dataclass
class Batch:
    """One batch; B clips of T frames of `grid` = (rows, columns) cells of 28 pixels. NumPy arrays, or tensors later.

    states (B, T, 2, 3): x, y, size in units of the shorter side, size 0 for no object; extent (2,): width and height
    in that unit. motion (B, T/2, 2): what each object does at each frame pair, or last did, as an index of MOTIONS;
    -1 for no object. form (B, 2, 4): tilt in radians, its change over the clip, proportion or inner radius, star tips.
    look (B, 4): edge softness in pixels, noise, gain, gamma. ids (B, S), positions (3, B, S), answer (B, S) True on
    the tokens to be predicted (captions and their end), video (B, S) True on video tokens.
    """

    grid: tuple[int, int]
    extent: np.ndarray
    states: np.ndarray
    motion: np.ndarray
    shape: np.ndarray
    colour: np.ndarray
    background: np.ndarray
    rgb: np.ndarray
    background_rgb: np.ndarray
    form: np.ndarray
    look: np.ndarray
    ids: np.ndarray
    positions: np.ndarray
    answer: np.ndarray
    video: np.ndarray

    def map(self, function) -> "Batch":
        """A batch with `function` applied to every array."""
        return Batch(*(function(getattr(self, f.name)) if f.name != "grid" else self.grid for f in fields(self)))


def make_batch(
    seed: int, index: int, frames: int, tokenizer, odds: Mapping[str, float], json_share: float = 0.0
) -> Batch:
    """Batch `index` of the run with `seed`, of about `frames` frames; the same for the same arguments.

    `odds` are those of the world's words (`world.sample_scene`). So many of the clips are to be told as JSON.
    """
    rng = np.random.default_rng((seed, index))
    words = random.Random(f"{seed}/{index}")
    counts = list(FRAME_COUNTS)
    weights = np.array(list(FRAME_COUNTS.values()), float)
    n = counts[rng.choice(len(counts), p=weights / weights.sum())]
    size = max(1, frames // n)
    width, height = _frame_size(rng)
    columns, rows = (side // CELL for side in frame_size(width, height, n, LIMITS))
    extent = np.array([width, height], np.float32) / min(width, height)
    arrays: dict[str, list] = {name: [] for name in (
        "states", "motion", "shape", "colour", "background", "rgb", "background_rgb", "form", "look")}  # fmt: skip
    texts = []
    for _ in range(size):
        scene, times, seconds = _scene(rng, width, height, n, odds)
        act = _act(rng, scene)
        _add_looks(arrays, rng, act, times, extent)
        texts.append((act.facts(), 2 * seconds / n))
    tokens = _tokens(words, texts, tokenizer, n // 2, rows, columns, json_share)
    return Batch(grid=(rows, columns), extent=extent, **{k: np.stack(v) for k, v in arrays.items()}, **tokens)


def _frame_size(rng: np.random.Generator) -> tuple[int, int]:
    common = ((16, 9), (4, 3), (1, 1), (9, 16), (3, 4), (2, 1), (1, 2))
    if rng.random() < 0.4:
        w, h = common[rng.integers(len(common))]
        aspect = w / h
    else:
        aspect = math.exp(rng.uniform(-math.log(2), math.log(2)))
    short = math.exp(rng.uniform(math.log(120), math.log(720)))
    return round(short * max(1, aspect) / 2) * 2, round(short * max(1, 1 / aspect) / 2) * 2


def _scene(
    rng: np.random.Generator, width: int, height: int, n: int, odds: Mapping[str, float]
) -> tuple[world.Scene, np.ndarray, float]:
    """A scene that the pipeline samples with `n` frames, the times of those frames, and its length in seconds."""
    seconds = rng.uniform(1.2, 2.4) if n == 4 else rng.uniform(n / 2 - 0.45, n / 2 + 0.45)
    rate = min(float(rng.choice([8, 10, 12, 15, 20, 24, 25, 30, 50, 60])), 383 / seconds)
    shares = KIND_SHARES[seconds > 3.4]
    kind = world.KINDS[rng.choice(len(shares), p=shares)]
    circling = rng.random() < ORBIT_SHARES[kind]
    size = {"width": width, "height": height, "frame_rate": Fraction(rate).limit_denominator(100)}
    for _ in range(50):
        scene = world.sample_scene(rng, **size, duration_s=seconds, windows=1, kind=kind, odds=odds)
        if not circling or any(event.turns for thing in scene.acts[0].objects for event in thing.events):
            break
    picks = np.linspace(0, scene.num_frames - 1, n).round()
    return scene, picks / float(scene.frame_rate), scene.duration_s


def _act(rng: np.random.Generator, scene: world.Scene) -> world.Act:
    """What happens in a scene; now and then with two objects that look alike, which the world does not have."""
    act = scene.acts[0]
    if len(act.objects) == 2 and rng.random() < 0.04:
        first, second = act.objects
        return replace(act, objects=(first, replace(second, shape=first.shape, colour=first.colour)))
    return act


def _paths(rng: np.random.Generator, act: world.Act, times: np.ndarray, extent: np.ndarray) -> list[np.ndarray]:
    """Each object's (x, y, size) at the times, (T, 3), told by the same words but freer than in the world itself."""
    paths = []
    for thing in act.objects:
        last = thing.events[-1]
        events = tuple(_varied(rng, event, times, hold_end=event is not last) for event in thing.events)
        path = np.array([replace(thing, events=events).state(float(t)) for t in times], np.float32)
        middle, dice = path.mean(0), rng.random()
        if dice < 0.3:  # a shorter way, a narrower orbit, more or less growth
            narrowest = 0.8 if any(event.turns for event in events) else 0.5
            path[:, :2] = middle[:2] + (path[:, :2] - middle[:2]) * rng.uniform(narrowest, 1.1)
            path[:, 2] = middle[2] * (path[:, 2] / middle[2]) ** rng.uniform(0.75, 1.6)
        elif dice < 0.42 and thing.events[0].turns:  # an oval orbit
            axis = rng.integers(2)
            path[:, axis] = middle[axis] + (path[:, axis] - middle[axis]) * rng.uniform(0.55, 1)
        elif dice < 0.45 and act.kind == "one":  # coming in from outside, or leaving
            wide = extent / 2 + (path[:, :2] - extent / 2) * rng.uniform(1.05, 1.5)
            if ((wide > 0) & (wide < extent)).all(1).mean() >= 0.6:
                path[:, :2] = wide
        path[:, 2] = (path[:, 2] * math.exp(rng.uniform(-0.3, 0.2))).clip(0.09, 0.6)
        path[:, :2] += rng.uniform(-0.02, 0.02, 2) + rng.normal(0, rng.choice([0, 0.002]), (len(times), 2))
        paths.append(path)
    if len(paths) == 2 and rng.random() < 0.25:  # crossing, one in front of the other for a while
        nearer = paths[1].copy()
        nearer[:, :2] += (paths[0][:, :2].mean(0) - nearer[:, :2].mean(0)) * rng.uniform(0.3, 1)
        apart = np.hypot(*(nearer - paths[0])[:, :2].T) / (nearer[:, 2] + paths[0][:, 2])
        if (apart > 0.5).mean() >= 0.5 and apart.min() > 0.15:
            paths[1] = nearer
    if act.kind == "two_sequence":  # each may be there for its own event only
        if rng.random() < 0.25:
            paths[1][times < act.objects[1].events[0].start_s, 2] = 0
        if rng.random() < 0.25:
            paths[0][times > act.objects[0].events[0].end_s, 2] = 0
    return paths


def _varied(rng: np.random.Generator, event: world.Event, times: np.ndarray, hold_end: bool) -> world.Event:
    """The event, or where it circles perhaps one with more or fewer revolutions, or on a smaller orbit.

    The smaller orbit lies within the larger and shares its start with it, or its end where another event follows.
    Revolutions stay between 0.6 and what is clear: 0.38 from frame to frame where the orbit is fastest.
    """
    if not event.turns:
        return event
    turns, radius = abs(event.turns), event.radius
    if rng.random() < 0.4:
        steps = (event.end_s - event.start_s) / np.diff(times).max()
        turns = min(max(0.6, turns * rng.uniform(0.6, 1.3)), 0.38 * steps / (1 + event.ease / 2))
    if rng.random() < 0.4:
        radius *= rng.uniform(0.45, 1)
    turns = math.copysign(turns, event.turns)
    held = event.angle + 2 * math.pi * event.turns * hold_end
    return replace(
        event,
        x1=event.x1 + (event.radius - radius) * math.cos(held),
        y1=event.y1 + (event.radius - radius) * math.sin(held),
        radius=radius,
        angle=held - 2 * math.pi * turns * hold_end,
        turns=turns,
    )


def _motions(thing: world.Object, times: np.ndarray) -> list[int]:
    """What an object does at each frame pair: the last event begun, still before the first."""
    words = []
    for time_s in times[::2]:
        begun = [event.motion for event in thing.events if event.start_s <= time_s]
        words.append(begun[-1] if begun else "standing still")
    return [MOTIONS.index(word) for word in words]


def _add_looks(
    arrays: dict[str, list], rng: np.random.Generator, act: world.Act, times: np.ndarray, extent: np.ndarray
) -> None:
    n = len(times)
    states, form = np.zeros((n, 2, 3), np.float32), np.zeros((2, 4), np.float32)
    motion, shape, colour = np.full((n // 2, 2), -1), np.full(2, -1), np.full(2, -1)
    rgb = np.zeros((2, 3), np.float32)
    paths = _paths(rng, act, times, extent)
    for j, thing in enumerate(act.objects):
        states[:, j], motion[:, j] = paths[j], _motions(thing, times)
        dice = rng.random()
        tilt = thing.tilt if dice < 0.75 else rng.uniform(-25, 25) if dice < 0.93 else rng.uniform(-180, 180)
        spin = rng.uniform(-60, 60) if rng.random() < 0.06 else 0.0
        proportion = {
            "circle": 1.0,
            "square": rng.uniform(0.93, 1.07),
            "triangle": rng.uniform(0.78, 1.05),
            "star": rng.uniform(0.33, 0.55),
        }[thing.shape]
        tips = 5 if rng.random() < 0.9 else rng.choice([4, 6, 7])
        form[j] = math.radians(tilt), math.radians(spin), proportion, tips
        shape[j], colour[j] = SHAPES.index(thing.shape), COLOURS.index(thing.colour)
        rgb[j] = _shade(rng, thing.colour)
    arrays["states"].append(states)
    arrays["motion"].append(motion)
    arrays["shape"].append(shape)
    arrays["colour"].append(colour)
    arrays["background"].append(BACKGROUNDS.index(act.background))
    arrays["rgb"].append(rgb)
    arrays["background_rgb"].append(_shade(rng, act.background))
    arrays["form"].append(form)
    noise = rng.uniform(0, 0.03) * (rng.random() < 0.8)
    look = rng.uniform(0.7, 3.0), noise, rng.uniform(0.93, 1.05), math.exp(rng.uniform(-0.12, 0.12))
    arrays["look"].append(np.array(look, np.float32))


def _shade(rng: np.random.Generator, word: str) -> np.ndarray:
    shades = _SHADES[word]
    mix = rng.dirichlet(np.full(len(shades), 0.25)).astype(np.float32)
    return np.clip(mix @ shades + rng.normal(0, 5, 3), 0, 255).astype(np.float32) / 255


def _tokens(
    words: random.Random,
    texts: list[tuple[Facts, float]],
    tokenizer,
    pairs: int,
    rows: int,
    columns: int,
    json_share: float,
) -> dict[str, np.ndarray]:
    """Token ids and 3-D positions, in the ways in which engines number them (see README.md, "positions")."""
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False)  # noqa: E731
    vision, cells = tokenizer.convert_tokens_to_ids("<|video_pad|>"), pairs * rows * columns
    head, tail = encode("<|im_start|>user\n<|vision_start|>"), encode("<|im_end|>\n<|im_start|>assistant\n")
    t, y, x = (a.ravel() for a in np.meshgrid(np.arange(pairs), np.arange(rows), np.arange(columns), indexing="ij"))
    # A batch is as long as its longest text, so that long prompts go together.
    long = words.random() < 0.2
    sequences = []
    for facts, interval in texts:
        caption = write(facts)
        start = list(head)
        if long and words.random() < 0.25:
            start = encode(f"<|im_start|>system\n{noise_text(words, 10)}<|im_end|>\n") + start
        if json_share and words.random() < json_share:
            prompt_text, caption = facts_prompt(words), as_json(facts)
        else:
            prompt_text = caption_prompt(words, caption, 50 if long else 20)
        middle = encode("<|vision_end|>" + prompt_text) + tail
        answer = encode(caption + "<|im_end|>")
        spacing = 0.083 if words.random() < 0.4 else interval * math.exp(words.uniform(-0.4, 0.4))
        times = np.floor(t * (TOKENS_PER_SECOND * spacing)).astype(np.int64)
        base = len(start)
        video = np.stack([times, y, x]) + base
        jump = words.randint(0, 20) if words.random() < 0.2 else 0
        after = (base + max(rows, columns) if words.random() < 0.5 else video.max() + 1) + jump
        prompt = np.arange(len(middle)) + after
        begin = max(prompt[-1], video.max()) + 1
        text = [np.tile(np.arange(base), (3, 1)), video, np.tile(prompt, (3, 1))]
        text.append(np.tile(np.arange(len(answer)) + begin, (3, 1)))
        sequences.append((start + [vision] * cells + middle + answer, np.concatenate(text, 1), len(answer)))
    longest = -(-max(len(ids) for ids, _, _ in sequences) // 16) * 16
    shape = (len(sequences), longest)
    out = {
        "ids": np.zeros(shape, np.int64),
        "positions": np.zeros((3, *shape), np.int64),
        "answer": np.zeros(shape, bool),
    }
    for row, (ids, positions, answer) in enumerate(sequences):
        out["ids"][row, : len(ids)] = ids
        out["positions"][:, row, : len(ids)] = positions
        out["answer"][row, len(ids) - answer : len(ids)] = True
    return out | {"video": out["ids"] == vision}
