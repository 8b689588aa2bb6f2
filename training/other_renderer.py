"""A second renderer of the demo world, which no model learns from: Pillow, named CSS colours, its own motion, MPEG-4.

It shares the world's words with the package and nothing else: no code, no shades, no proportions, no encoder. What it
scores says whether the caption model knows the world or one renderer's habits.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFilter

from caption_assets.demo.facts import Facts, Subject, write

NAMED = {
    "red": ("red", "crimson", "#e6194b"),
    "green": ("green", "lime", "limegreen", "forestgreen"),
    "blue": ("blue", "royalblue", "mediumblue"),
    "yellow": ("yellow", "gold", "#ffe119"),
    "orange": ("orange", "darkorange", "#f58231"),
    "purple": ("purple", "darkviolet", "rebeccapurple", "#911eb4"),
    "white": ("white", "whitesmoke"),
    "black": ("black", "#101010"),
    "gray": ("gray", "dimgray", "#8c8c8c"),
    "brown": ("saddlebrown", "sienna", "#654321"),
    "pink": ("pink", "hotpink", "lightpink"),
}
SHAPES = ("circle", "square", "triangle", "star")
WAYS = {
    "moving from left to right": (1, 0),
    "moving from right to left": (-1, 0),
    "moving from top to bottom": (0, 1),
    "moving from bottom to top": (0, -1),
}
OTHERS = ("standing still", "growing", "shrinking", "circling clockwise", "circling counterclockwise")
SIZES = ((160, 120), (320, 240), (480, 360), (640, 360), (854, 480), (1280, 720), (360, 640), (240, 320), (400, 400),
         (640, 320), (300, 600), (176, 144))  # fmt: skip
SUPERSAMPLING = 3


@dataclass(frozen=True)
class Mover:
    """One thing: where its centre is (pixels) and how wide it is at progress p in [0, 1] of the clip."""

    colour: str
    shape: str
    motion: str
    paint: tuple[int, int, int]
    box: tuple[float, float, float, float]
    size: float
    phase: float
    amount: float

    def state(self, p: float) -> tuple[float, float, float]:
        left, top, right, bottom = self.box
        x, y = (left + right) / 2, (top + bottom) / 2
        if self.motion in WAYS:
            way_x, way_y = WAYS[self.motion]
            room_x, room_y = (right - left - self.size) / 2, (bottom - top - self.size) / 2
            return (
                x + way_x * room_x * (2 * p - 1) * self.amount,
                y + way_y * room_y * (2 * p - 1) * self.amount,
                self.size,
            )
        if self.motion.startswith("circling"):
            sign = -1 if self.motion.endswith("counterclockwise") else 1
            turn = 2 * math.pi * (self.phase + sign * p * self.amount * 1.2)
            reach = (min(right - left, bottom - top) - self.size) / 2
            return x + reach * math.cos(turn), y + reach * math.sin(turn), self.size
        if self.motion in ("growing", "shrinking"):
            q = p if self.motion == "growing" else 1 - p
            return x, y, self.size * (0.5 + 0.5 * q)
        return x, y, self.size


@dataclass(frozen=True)
class OtherClip:
    """One clip of this renderer: what it shows, and how to draw it."""

    seed: int
    width: int
    height: int
    frame_rate: Fraction
    num_frames: int
    background: str
    paint: tuple[int, int, int]
    movers: tuple[Mover, ...]
    blur: float
    grain: float

    def facts(self) -> Facts:
        return Facts(self.background, tuple(Subject(m.colour, m.shape, (m.motion,)) for m in self.movers)).canonical()

    def caption(self) -> str:
        return write(self.facts())

    def frame(self, index: int) -> np.ndarray:
        """uint8 RGB of shape (height, width, 3)."""
        big = (self.width * SUPERSAMPLING, self.height * SUPERSAMPLING)
        image = Image.new("RGB", big, self.paint)
        pen = ImageDraw.Draw(image)
        p = index / max(1, self.num_frames - 1)
        for mover in self.movers:
            x, y, size = (v * SUPERSAMPLING for v in mover.state(p))
            _draw(pen, mover.shape, x, y, size / 2, mover.paint)
        image = image.resize((self.width, self.height), Image.Resampling.LANCZOS)
        if self.blur:
            image = image.filter(ImageFilter.GaussianBlur(self.blur))
        grain = np.random.default_rng((self.seed, index)).uniform(-self.grain, self.grain, (self.height, self.width, 1))
        return np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8)

    def frames(self) -> Iterator[np.ndarray]:
        return (self.frame(i) for i in range(self.num_frames))


def _draw(pen: ImageDraw.ImageDraw, shape: str, x: float, y: float, r: float, paint: tuple[int, int, int]) -> None:
    if shape == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=paint)
    elif shape == "square":
        pen.rectangle((x - r, y - r, x + r, y + r), fill=paint)
    elif shape == "triangle":
        pen.polygon([(x - r, y + r * 0.9), (x + r, y + r * 0.9), (x, y - r * 0.9)], fill=paint)
    else:
        radii = [r if k % 2 == 0 else r * 0.4 for k in range(10)]
        turns = [math.pi * k / 5 - math.pi / 2 for k in range(10)]
        pen.polygon([(x + q * math.cos(a), y + q * math.sin(a)) for q, a in zip(radii, turns, strict=True)], fill=paint)


def random_clip(seed: int, seconds: tuple[float, float] = (2.2, 6.0)) -> OtherClip:
    """A clip of one thing, or of two side by side."""
    rng = random.Random(f"other renderer {seed}")
    width, height = rng.choice(SIZES)
    rate = rng.choice((8, 12, 15, 24, 25, 30, 48, 60))
    count = min(255, round(rng.uniform(*seconds) * rate))
    background = rng.choice(("black", "gray", "brown", "pink"))
    two = rng.random() < 0.4
    boxes: list[tuple[float, float, float, float]] = [(0, 0, width, height)]
    if two and width >= height:
        boxes = [(0, 0, width / 2, height), (width / 2, 0, width, height)]
    elif two:
        boxes = [(0, 0, width, height / 2), (0, height / 2, width, height)]
    movers = []
    for box in boxes:
        room = min(box[2] - box[0], box[3] - box[1])
        size = min(rng.uniform(0.18, 0.4) * min(width, height), 0.5 * room)
        motion = rng.choice((*WAYS, *OTHERS))
        if motion in ("growing", "shrinking"):
            size = rng.uniform(0.34, 0.4) * min(width, height)
        looks = rng.choice([c for c in NAMED if c not in ("black", "gray", "brown", "pink")]), rng.choice(SHAPES)
        paint = ImageColor.getrgb(rng.choice(NAMED[looks[0]]))[:3]
        movers.append(Mover(*looks, motion, paint, box, size, rng.random(), rng.uniform(0.75, 1.0)))
    paint = ImageColor.getrgb(rng.choice(NAMED[background]))[:3]
    blur, grain = rng.choice((0.0, 0.0, 0.6)), rng.choice((0.0, 2.0, 5.0))
    return OtherClip(seed, width, height, Fraction(rate), count, background, paint, tuple(movers), blur, grain)


def write_mp4(path: Path, frames: Iterator[np.ndarray], rate: Fraction, codec: str = "mpeg4", **options: str) -> None:
    """Encode uint8 RGB frames to a file, 4:2:0; `options` go to the encoder (defaults: a good MPEG-4 part 2)."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.pix_fmt = "yuv420p"
        stream.options = options
        if codec == "mpeg4" and not options:
            stream.bit_rate = 3_000_000
        for array in frames:
            if not stream.codec_context.is_open:
                stream.height, stream.width = array.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, "rgb24")))
        container.mux(stream.encode())
