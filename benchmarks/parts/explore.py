"""Alternatives to what is built in."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from benchmarks.parts.measure import CORES, compare
from benchmarks.parts.sides import (
    SETTINGS,
    drain,
    in_sequence,
    model_size,
    ours_both,
    ours_captions,
    planned,
)
from caption_assets.media.decode import decode_frames
from caption_assets.media.pixels import RgbConverter
from caption_assets.media.previews import render_previews
from caption_assets.settings import PreviewSettings
from caption_assets.workers.local import Workers


def ours_two_passes(path: str) -> Iterator[Any]:
    """The same with a decode of its own for each."""
    yield from ours_captions(path)
    info, windows, _ = planned(path)
    yield from render_previews(path, info, windows, SETTINGS)


def ours_previews(path: str) -> Iterator[Any]:
    info, windows, _ = planned(path)
    yield from render_previews(path, info, windows, SETTINGS)


def in_threads(function: Callable[[str], Any], paths: Sequence[str]) -> None:
    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(lambda path: sum(1 for _ in function(path)), paths))


def _decode_only(path: str, *, threads: int = 1, skip: bool = True, restart: bool = True) -> int:
    info, _, picks = planned(path)
    if not skip:
        info = dataclasses.replace(info, frames_in_order=True)
    if not restart:
        info = dataclasses.replace(info, keyframe_ids=None)
    ids = sorted({frame_id for pick in picks for frame_id in pick.frame_ids})
    return sum(1 for _ in decode_frames(path, info, ids, threads=threads))


def explore(paths: Sequence[str], runs: int) -> None:
    """Alternatives to what is built in."""
    decode = {
        "one thread": partial(_decode_only, threads=1),
        "one thread, groups decoded to their end": partial(_decode_only, threads=1, restart=False),
        "one thread, everything decoded": partial(_decode_only, threads=1, skip=False),
        "threads as decoders like": partial(_decode_only, threads=0),
        "threads as decoders like, everything decoded": partial(_decode_only, threads=0, skip=False),
    }
    compare("decoding alone", {n: partial(in_sequence, f, paths) for n, f in decode.items()}, runs)
    with Workers(CORES) as workers:
        workers.start()
        ways: dict[str, Callable[[], object]] = {
            "processes, one decoder thread each": lambda: drain(workers, ours_both, paths),
            "processes, decoder threads as they like": lambda: drain(workers, partial(ours_both, threads=0), paths),
            "threads, one decoder thread each": lambda: in_threads(ours_both, paths),
            "one clip at a time, all threads": lambda: in_sequence(
                partial(ours_both, threads=0, settings=PreviewSettings(num_cpus_per_worker=CORES)), paths
            ),
            "processes, a decode for captions and one for previews": lambda: drain(workers, ours_two_passes, paths),
            "processes, caption inputs alone": lambda: drain(workers, ours_captions, paths),
            "processes, caption inputs alone, smallest clips first": lambda: drain(workers, ours_captions, paths[::-1]),
            "processes, previews alone": lambda: drain(workers, ours_previews, paths),
        }
        compare("how work is spread", ways, runs)
    conversions(paths, runs)


def conversions(paths: Sequence[str], runs: int) -> None:
    """Ways from a decoded frame to RGB at the model's size."""
    import cv2
    from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

    work = []
    for path in paths:
        info, _, picks = planned(path)
        work.append((model_size(info), [f for _, f in decode_frames(path, info, picks[0].frame_ids)]))
    exact = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT

    def swscale(flags: int) -> None:
        for (width, height), frames in work:
            reformatter = VideoReformatter()
            for frame in frames:
                reformatter.reformat(
                    frame, width, height, "rgb24", interpolation=flags, dst_color_range=ColorRange.JPEG
                ).to_ndarray()

    def rgb_first() -> None:
        for size, frames in work:
            reformatter = VideoReformatter()
            for frame in frames:
                rgb = reformatter.reformat(frame, format="rgb24", dst_color_range=ColorRange.JPEG).to_ndarray()
                shrinks = size[0] <= frame.width
                cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)

    def built_in() -> None:
        for size, frames in work:
            converter, out = RgbConverter(size), np.empty((size[1], size[0], 3), np.uint8)
            for frame in frames:
                converter.into(frame, out)

    ways = {
        "scaled by swscale, colours by a matrix (built in)": built_in,
        "swscale all the way, area": lambda: swscale(Interpolation.AREA),
        "swscale all the way, area, exact": lambda: swscale(Interpolation.AREA | exact),
        "swscale all the way, bicubic, exact": lambda: swscale(Interpolation.BICUBIC | exact),
        "swscale to RGB, then OpenCV's resize": rgb_first,
    }
    compare(f"{sum(len(frames) for _, frames in work)} frames to RGB at the model's size", ways, runs)
