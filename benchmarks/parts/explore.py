"""Alternatives to what is built in."""

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from benchmarks.parts.measure import CORES, compare
from benchmarks.parts.sides import (
    Plan,
    caption_tasks,
    in_sequence,
    model_size,
    our_previews,
    ours,
    ours_here,
    preview_tasks,
)
from caption_assets.media.decode import decode_frames
from caption_assets.media.pixels import RgbConverter
from caption_assets.workers.local import Workers
from caption_assets.workers.tasks import CaptionTask


def in_threads(function: Callable[[CaptionTask], object], tasks: Sequence[CaptionTask]) -> None:
    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(function, tasks))


def _decode_only(plan: Plan, *, threads: int = 1, whole: bool = False) -> int:
    info = dataclasses.replace(plan.info, keyframe_ids=None) if whole else plan.info
    ids = sorted({frame_id for item in plan.planned for frame_id in item.picks.frame_ids})
    return sum(1 for _ in decode_frames(plan.path, info, ids, threads=threads))


def explore(plans: Sequence[Plan], runs: int) -> None:
    """Alternatives to what is built in."""
    decode = {
        "one thread": partial(_decode_only, threads=1),
        "one thread, everything decoded": partial(_decode_only, whole=True),
        "threads as decoders like": partial(_decode_only, threads=0),
    }
    compare("decoding alone", {n: partial(in_sequence, f, plans) for n, f in decode.items()}, runs)
    captions, previews = caption_tasks(plans, previews=False), preview_tasks(plans)
    one_thread, all_threads, as_they_like = (
        [dataclasses.replace(task, threads=threads) for task in caption_tasks(plans, previews=True)]
        for threads in (1, CORES, 0)
    )
    with Workers(CORES) as workers:
        workers.start()

        def in_two() -> None:
            ours(workers, captions)
            our_previews(workers, previews)

        ways: dict[str, Callable[[], object]] = {
            "processes, one decoder thread each": lambda: ours(workers, one_thread),
            "processes, decoder threads as they like": lambda: ours(workers, as_they_like),
            "threads, one decoder thread each": lambda: in_threads(ours_here, one_thread),
            "one clip at a time, all threads": lambda: in_sequence(ours_here, all_threads),
            "processes, a decode for captions and one for previews": in_two,
            "processes, caption inputs alone": lambda: ours(workers, captions),
            "processes, previews alone": lambda: our_previews(workers, previews),
        }
        compare("how work is spread", ways, runs)
    conversions(plans, runs)


def conversions(plans: Sequence[Plan], runs: int) -> None:
    """Ways from a decoded frame to RGB at the model's size."""
    import cv2
    from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

    work = []
    for plan in plans:
        ids = plan.planned[0].picks.frame_ids
        frames = [frame for _, frame in decode_frames(plan.path, plan.info, ids)]
        work.append((model_size(plan.info, len(ids)), frames))
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
