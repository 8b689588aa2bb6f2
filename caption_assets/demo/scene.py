"""Scenes of the demo world: scripts of what one or two shapes do on a plain background, and what is true of them.

A scene is a script, not pixels: `draw` turns it into frames. Lengths are in units of the frame's shorter side, so that
(x, y) runs over [0, width/short] x [0, height/short] with y downwards; times are seconds of the clip.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

from caption_assets.demo.facts import Facts, Subject, compare, read, write


@dataclass(frozen=True, slots=True)
class Event:
    """One motion of an object from `start_s` to `end_s`.

    The centre goes from (`x0`, `y0`) to (`x1`, `y1`) and the size (across) from `size0` to `size1`; where `turns` is
    not 0, the centre circles instead with `radius` about (`x1`, `y1`), starting at `angle` (radians, y downwards),
    `turns` revolutions, positive clockwise. `ease` in [0, 1] blends steady speed into a slow start and end.
    """

    motion: str
    start_s: float
    end_s: float
    x0: float
    y0: float
    x1: float
    y1: float
    size0: float
    size1: float
    radius: float = 0.0
    angle: float = 0.0
    turns: float = 0.0
    ease: float = 0.0

    def state(self, time_s: float) -> tuple[float, float, float]:
        """(x, y, size) at a time; before its start and after its end the event holds its first and last state."""
        u = min(max((time_s - self.start_s) / (self.end_s - self.start_s), 0.0), 1.0)
        u = (1 - self.ease) * u + self.ease * u * u * (3 - 2 * u)
        size = self.size0 + u * (self.size1 - self.size0)
        if self.turns:
            angle = self.angle + 2 * math.pi * self.turns * u
            return self.x1 + self.radius * math.cos(angle), self.y1 + self.radius * math.sin(angle), size
        return self.x0 + u * (self.x1 - self.x0), self.y0 + u * (self.y1 - self.y0), size


@dataclass(frozen=True, slots=True)
class Object:
    """A coloured shape and its events in order. `tilt` is in degrees clockwise, `inner` a star's inner radius."""

    shape: str
    colour: str
    rgb: tuple[int, int, int]
    events: tuple[Event, ...]
    tilt: float = 0.0
    inner: float = 0.45

    def state(self, time_s: float) -> tuple[float, float, float]:
        """(x, y, size) at a time."""
        begun = [e for e in self.events if e.start_s <= time_s]
        return (begun[-1] if begun else self.events[0]).state(time_s)


@dataclass(frozen=True, slots=True)
class Act:
    """What happens from `start_frame` to `end_frame`, both inclusive. In sequences the second object acts last."""

    start_frame: int
    end_frame: int
    kind: str
    background: str
    background_rgb: tuple[int, int, int]
    objects: tuple[Object, ...]

    def facts(self) -> Facts:
        """What is true of this act."""
        subjects = tuple(Subject(o.colour, o.shape, tuple(e.motion for e in o.events)) for o in self.objects)
        return Facts(self.background, subjects, self.kind == "two_sequence").canonical()


@dataclass(frozen=True, slots=True)
class Scene:
    """A whole clip. `noise` is the standard deviation of the pixel noise in 8-bit steps, drawn from `seed`."""

    seed: int
    width: int
    height: int
    frame_rate: Fraction
    num_frames: int
    noise: float
    acts: tuple[Act, ...]

    @property
    def duration_s(self) -> float:
        return float(self.num_frames / self.frame_rate)

    def act(self, start_s: float = 0.0, end_s: float | None = None) -> Act:
        """The act that fills most of [start_s, end_s] (the whole clip by default)."""
        end_s = self.duration_s if end_s is None else end_s

        def overlap(act: Act) -> float:
            first, last = float(act.start_frame / self.frame_rate), float((act.end_frame + 1) / self.frame_rate)
            return min(last, end_s) - max(first, start_s)

        return max(self.acts, key=overlap)

    def facts(self, start_s: float = 0.0, end_s: float | None = None) -> Facts:
        """What is true of the part from `start_s` to `end_s`."""
        return self.act(start_s, end_s).facts()

    def caption(self, start_s: float = 0.0, end_s: float | None = None) -> str:
        """The true caption of the part from `start_s` to `end_s` (the whole clip by default)."""
        return write(self.facts(start_s, end_s))


def score(caption: str, scene: Scene, start_s: float = 0.0, end_s: float | None = None) -> dict[str, bool]:
    """Which attributes a caption gets right about a part of a scene: see `facts.compare`."""
    return compare(read(caption), scene.facts(start_s, end_s))
