"""Scenes to pixels, with NumPy and OpenCV: anti-aliased shapes, mild noise, the same bytes for the same scene."""

import math
from collections.abc import Iterator

import cv2
import numpy as np

from caption_assets.demo.scene import Object, Scene

_STAR_TIPS = 5


def frames(scene: Scene) -> Iterator[np.ndarray]:
    """Every frame of a scene in order: uint8 RGB arrays of shape (height, width, 3)."""
    noise = _noise(scene)
    for index in range(scene.num_frames):
        yield _draw(scene, index, noise)


def frame(scene: Scene, index: int) -> np.ndarray:
    """One frame of a scene, numbered from 0, equal to that of `frames`."""
    return _draw(scene, index, _noise(scene))


def pick(scene: Scene, indices: "list[int] | tuple[int, ...] | np.ndarray") -> np.ndarray:
    """Some frames of a scene: uint8 RGB of shape (len(indices), height, width, 3)."""
    noise = _noise(scene)
    return np.stack([_draw(scene, int(index), noise) for index in indices])


def _draw(scene: Scene, index: int, noise: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    time_s = float(index / scene.frame_rate)
    act = next((a for a in scene.acts if a.start_frame <= index <= a.end_frame), scene.acts[-1])
    image = np.empty((scene.height, scene.width, 3), np.uint8)
    image[:] = act.background_rgb
    for thing in act.objects:
        _paint(image, thing, *thing.state(time_s))
    if scene.noise > 0:
        # One noise field a scene, shifted at random from frame to frame: new noise at the price of a copy.
        dy, dx = np.random.default_rng((scene.seed, index)).integers(0, 64, 2)
        for apply, field in zip((cv2.add, cv2.subtract), noise, strict=True):
            apply(image, np.ascontiguousarray(field[dy : dy + scene.height, dx : dx + scene.width]), dst=image)
    return image


def _noise(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """What to add and what to subtract: uint8 fields, 64 pixels larger than the frame on both axes."""
    rng = np.random.default_rng(scene.seed)
    grain = rng.standard_normal((scene.height + 64, scene.width + 64, 3), np.float32) * scene.noise
    steps = np.clip(np.round(grain), -127, 127).astype(np.int8)
    return np.maximum(steps, 0).astype(np.uint8), np.maximum(-steps, 0).astype(np.uint8)


def _paint(image: np.ndarray, thing: Object, x: float, y: float, size: float) -> None:
    """Blend one object into the image; coverage falls from 1 to 0 over one pixel about its edge."""
    height, width = image.shape[:2]
    unit = min(height, width)
    radius = 0.5 * size * unit
    reach = radius * (1.5 if thing.shape == "square" else 1.2) + 2
    left, right = max(0, math.floor(x * unit - reach)), min(width, math.ceil(x * unit + reach))
    top, bottom = max(0, math.floor(y * unit - reach)), min(height, math.ceil(y * unit + reach))
    if left >= right or top >= bottom:
        return
    px = np.arange(left, right, dtype=np.float32)[None, :] + 0.5 - x * unit
    py = np.arange(top, bottom, dtype=np.float32)[:, None] + 0.5 - y * unit
    turn = math.radians(thing.tilt)
    u, v = px * math.cos(turn) + py * math.sin(turn), py * math.cos(turn) - px * math.sin(turn)
    cover = np.clip(0.5 - _distance(thing, u, v, radius), 0, 1)[..., None]
    part = image[top:bottom, left:right]
    part[:] = np.round(part + cover * (np.array(thing.rgb, np.float32) - part)).astype(np.uint8)


def _distance(thing: Object, u: np.ndarray, v: np.ndarray, radius: float) -> np.ndarray:
    """Signed distance in pixels to the shape's edge, negative inside, exact along straight edges."""
    if thing.shape == "circle":
        return np.hypot(u, v) - radius
    if thing.shape == "square":
        return np.maximum(np.abs(u), np.abs(v)) - radius
    if thing.shape == "triangle":
        # Equilateral, base as wide as the object is large, centred on the middle of its height.
        half = radius * math.sqrt(3) / 2
        return np.maximum(v - half, (np.abs(u) * math.sqrt(3) - (v + half)) / 2)
    # Star: fold the plane into half a point, then measure the distance to that point's one edge.
    sector = 2 * math.pi / _STAR_TIPS
    angle = np.arctan2(u, -v)
    angle = np.abs((angle + sector / 2) % sector - sector / 2)
    length = np.hypot(u, v)
    a, b = length * np.cos(angle), length * np.sin(angle)
    notch_a, notch_b = thing.inner * radius * math.cos(sector / 2), thing.inner * radius * math.sin(sector / 2)
    da, db = notch_a - radius, notch_b
    return ((a - radius) * -db + b * da) / -math.hypot(da, db)
