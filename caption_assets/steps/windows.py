"""Plan a shard's windows: probe every clip, cut it into windows, pick the frames that a model will see."""

import dataclasses
import hashlib
import json
import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from caption_assets.dataset import Dataset, path_id, split_duplicates
from caption_assets.errors import CaptionAssetsError, ClipError
from caption_assets.media.packed import pack
from caption_assets.media.windows import MIN_WINDOW_FRAMES, compute_windows
from caption_assets.records import Clip, VideoInfo, text_hash
from caption_assets.save_export import paths
from caption_assets.settings import WindowSettings
from caption_assets.steps.buffer import commit
from caption_assets.steps.context import StepContext
from caption_assets.steps.costs import charged
from caption_assets.steps.moves import Move, Moves
from caption_assets.steps.report import Outcomes, ShardReport, Step, Used, shard_report, windows_per_second
from caption_assets.steps.shards import each_shard
from caption_assets.steps.writer import FileWriter
from caption_assets.store.rows import WindowRow
from caption_assets.store.store import Store, Stored
from caption_assets.store.tables import CLIP_WINDOWS
from caption_assets.workers.tasks import PlannedWindow, PlanTask, plan_clip

log = logging.getLogger(__name__)
STEP: Final = Step(CLIP_WINDOWS, version=2, items="clips")
SOURCE: Final = "clips"
"""What the windows are made of: the version of the shard's listing stands under this name."""
# Of a file that breaks off: its windows are good, and this row says that there was more.
_DAMAGED = "damaged"


def window_shards(context: StepContext, dataset: Dataset, shards: Sequence[str], settings: WindowSettings) -> Outcomes:
    """Plans the clips of `shards` as `window_shard` does; yields how each shard ended."""

    moves = Moves(context.store, dataset)

    def begin(shard: str) -> _Planning:
        return _Planning(context, dataset, shard, settings, moves)

    yield from charged(context, STEP, each_shard(STEP, shards, begin, context.shards_at_once))


def window_shard(context: StepContext, dataset: Dataset, shard: str, settings: WindowSettings) -> ShardReport:
    """Plans the clips of `shard` that are new, have changed or were planned otherwise, and replaces the shard's table.

    A clip whose file and settings are those of its rows is not read. A clip that cannot be used is a row with its
    reason. A shard without clips has no rows, or those that it had: what was made of clips that are gone stays. Raises
    DatasetError for an unknown shard, ShardError where no clip has a window, StoreError.
    """
    planning = _Planning(context, dataset, shard, settings, Moves(context.store, dataset))
    planning.run()
    return planning.finish()


class _Planning:
    """One shard on its way."""

    def __init__(
        self, context: StepContext, dataset: Dataset, shard: str, settings: WindowSettings, moves: Moves
    ) -> None:
        began = time.perf_counter()
        self._used = Used()
        self._moves, self._moved = moves, list[Move]()
        self._context, self._shard, self._settings = context, shard, settings
        self._listing = dataset.listing(shard)
        moves.listed(shard, self._listing)
        self._before = context.store.read_table(CLIP_WINDOWS, shard)
        self._clips, self._duplicates = split_duplicates(self._listing.clips)
        listed, self._clips = self._clips, context.trial.first(self._clips)
        good = [clip for clip in self._clips if clip.clip_id not in self._duplicates]
        reads_all = context.trial.verify or not self._clips
        self._rows = [] if reads_all else reusable_rows(context.store, self._before.rows, good, settings)
        # Of those that a trial leaves, what there is stays, however it was planned; so does it in a shard without any.
        others = {clip.clip_id for clip in listed[len(self._clips) :]}
        self._others = [row for row in self._before.rows if row.clip_id in others or not listed]
        self._reused = sum(row.status == "ok" for row in self._rows)
        self._seconds = time.perf_counter() - began

    def run(self) -> None:
        seconds, rows = self._context.stopwatch(), self._rows
        shard, progress = self._shard, self._context.progress
        if self._listing.left_out:
            log.warning("shard %s: left out, as no clips: %s", shard, "; ".join(map(str, self._listing.left_out)))
        if not self._clips:
            log.warning("shard %s: %s", shard, self._finding)
        planned = {row.clip_id for row in rows}
        progress.start(STEP.name, shard, len(self._clips), reused=len(planned))
        known = planned | self._duplicates.keys()
        new = [clip for clip in self._clips if clip.clip_id not in known]
        taken = self._moves.taken(shard, new) if new else {}
        to_plan = []
        for clip in self._clips:
            if clip.clip_id in taken:
                self._duplicates[path_id(clip.relative_path)] = taken[clip.clip_id]
                clip = dataclasses.replace(clip, clip_id=path_id(clip.relative_path))
            if clip.clip_id in self._duplicates:
                wrong = f"its id is that of {self._duplicates[clip.clip_id]!r}"
                error = ClipError(f"clip {clip.relative_path!r}", wrong, "rename one of them")
                rows.append(_failed(_common(clip, self._settings), error, "duplicate_id"))
                progress.advance(STEP.name, shard)
            elif clip.clip_id not in planned:
                to_plan.append(clip)
        new_rows = _planned(self._context, shard, to_plan, self._settings, self._before)
        self._used = Used(len(to_plan), sum({row.clip_id: row.num_bytes or 0 for row in new_rows}.values()))
        rows += new_rows + self._others
        self._moved = self._moves.follow(shard, self._before.rows, rows)
        rows.sort(key=lambda row: (row.relative_path, row.start_frame or 0))
        for row in rows:
            if row.status != "ok":
                log.warning("%s: %s", row.relative_path, row.error)
        self._seconds += seconds()

    def finish(self) -> ShardReport:
        began, rows = time.perf_counter(), self._rows
        left = {row.clip_id for row in self._before.rows} - {row.clip_id for row in rows}
        done = commit(self._context.store, CLIP_WINDOWS, self._shard, rows, before=self._before, left=left)
        if self._moved:
            self._moves.settle(self._shard, self._moved, self._context.source_root)
        windows = [row for row in rows if row.status == "ok"]
        seconds = self._seconds + time.perf_counter() - began
        return shard_report(
            STEP,
            self._shard,
            rows,
            seconds=seconds,
            location=done.location,
            input_versions={SOURCE: self._listing.version},
            reused=self._reused,
            figures={
                "windows": len(windows),
                **windows_per_second(len(windows) - self._reused - len(self._others), seconds),
                "frames_picked": sum(len(row.frame_ids) for row in windows),
                "video_seconds": round(sum({r.clip_id: r.duration_s or 0.0 for r in windows}.values()), 3),
                **({"clips_moved_here": len(self._moved)} if self._moved else {}),
                "files_left_out": sum(len(left_out.names) for left_out in self._listing.left_out),
                **({} if self._clips else {"finding": self._finding}),
            },
            used=self._used,
        )

    @property
    def _finding(self) -> str:
        """What there is to say of a shard without clips."""
        return "it holds no clip" + ("; what was made of those that it had stays" if self._before.rows else "")


def probed_clips(rows: Iterable[WindowRow]) -> dict[str, bytes]:
    """What planning found out about the clips of a shard's rows, by location, where that was kept."""
    return {row.location: row.probed for row in rows if row.probed}


def reusable_rows(
    store: Store, before: Iterable[WindowRow], clips: Iterable[Clip], settings: WindowSettings
) -> list[WindowRow]:
    """The rows of clips that would be planned again just so. What failed is tried again."""
    known: dict[str, list[WindowRow]] = defaultdict(list)
    for row in before:
        known[row.clip_id].append(row)
    rows: list[WindowRow] = []
    for clip in clips:
        of_clip, fingerprint = known.get(clip.clip_id, []), _fingerprint(clip, settings)
        if not of_clip or not fingerprint or any(row.fingerprint != fingerprint for row in of_clip):
            continue
        if any(row.status == "failed" and row.error_kind != _DAMAGED for row in of_clip):
            continue
        if _files_are_there(store, of_clip):
            columns, sidecars = columns_of(clip), clip.sidecars
            rows += [dataclasses.replace(row, columns=columns, sidecars=sidecars) for row in of_clip]
    return rows


def columns_of(clip: Clip) -> str | None:
    """What else the dataset says of a clip, as its rows have it."""
    return json.dumps(clip.columns, sort_keys=True, default=str) if clip.columns else None


def _files_are_there(store: Store, rows: Iterable[WindowRow]) -> bool:
    """Whether the windows' files have the bytes that were written. Where a look takes a request, they are taken to."""
    kept = {row.mp4_path: row.mp4_bytes for row in rows if row.mp4_path}
    return None not in kept.values() and (not store.looks_cost_nothing or store.sizes(kept) == kept)


def _planned(
    context: StepContext, shard: str, clips: list[Clip], settings: WindowSettings, before: Stored[WindowRow]
) -> list[WindowRow]:
    """The rows of all clips; window files are written as they come."""
    store = context.store
    files = FileWriter(store, lambda rels: store.announce(CLIP_WINDOWS, shard, rels, before=before))
    fields = {clip.location: _common(clip, settings) for clip in clips}
    found: dict[str, list[WindowRow]] = {clip.location: [] for clip in clips}
    oddities: dict[str, list[Any]] = {}
    probed: dict[str, bytes | None] = {}
    for task, result in context.workers.run(plan_clip, [PlanTask(clip.location, settings) for clip in clips]):
        clip = task.location
        if isinstance(result, VideoInfo):
            fields[clip] |= _video_fields(result)
            probed[clip] = pack(result)
            oddities[clip] = _oddities(result)
            if result.note:
                log.warning("%s: %s", fields[clip]["relative_path"], result.note)
            frames = "1 frame" if result.num_frames == 1 else f"{result.num_frames} frames"
            short = f"it has {frames}, and a window needs {MIN_WINDOW_FRAMES}"
            if result.num_frames < MIN_WINDOW_FRAMES:
                found[clip].append(WindowRow(**fields[clip], status="skipped", error_kind="too_short", error=short))
            elif result.problem:
                found[clip].append(
                    WindowRow(**fields[clip], status="failed", error_kind=_DAMAGED, error=result.problem)
                )
            if settings.store_window_mp4:
                files.expect(_mp4_paths(fields[clip], settings))
            context.progress.advance(STEP.name, shard)
        elif isinstance(result, CaptionAssetsError):
            if "content_hash" not in fields[clip]:
                context.progress.advance(STEP.name, shard)
            found[clip].append(_failed(fields[clip], result))
        else:
            row = _window_row(fields[clip], oddities[clip], result)
            found[clip].append(row)
            if row.mp4_path is not None and isinstance(result.mp4, bytes):
                files.add(row.mp4_path, result.mp4)
    files.finish()
    for clip, (first, *_) in ((clip, rows) for clip, rows in found.items() if rows):
        found[clip][0] = dataclasses.replace(first, probed=probed.get(clip))
    return [row for rows in found.values() for row in rows]


def _mp4_paths(fields: Mapping[str, Any], settings: WindowSettings) -> list[str]:
    """The files that a clip's windows may have."""
    windows = compute_windows(fields["clip_frames"], settings.window_size, settings.remainder_threshold)
    return [paths.window_mp4(fields["clip_id"], window.start_frame, window.end_frame) for window in windows]


def _oddities(info: VideoInfo) -> list[Any]:
    """What else tells the pictures of a clip, where its bytes and its frames' numbers do not: the rule for them has
    changed, and that for most clips has not."""
    crop = dataclasses.astuple(info.crop)
    if any(crop) or info.note or info.pixel_format == "pal8":
        return [info.display_width, info.display_height, *crop]
    return []


def _window_row(fields: Mapping[str, Any], oddities: list[Any], planned: PlannedWindow) -> WindowRow:
    window, picks, mp4 = planned.window, planned.picks, planned.mp4
    seen = [fields["content_hash"], window.start_frame, window.end_frame, picks.frame_ids, picks.times_s, *oddities]
    own: dict[str, Any] = {
        "start_frame": window.start_frame,
        "end_frame": window.end_frame,
        "start_s": planned.start_s,
        "end_s": planned.end_s,
        "frame_ids": picks.frame_ids,
        "times_s": picks.times_s,
        "window_hash": hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:32],
    }
    if isinstance(mp4, ClipError):
        return _failed({**fields, **own}, mp4)
    if mp4 is not None:
        own["mp4_path"] = paths.window_mp4(fields["clip_id"], window.start_frame, window.end_frame)
        own["mp4_bytes"] = len(mp4)
    return WindowRow(**fields, **own)


def _failed(fields: Mapping[str, Any], error: CaptionAssetsError, kind: str | None = None) -> WindowRow:
    return WindowRow(**fields, status="failed", error_kind=kind or error.kind, error=str(error))


def _common(clip: Clip, settings: WindowSettings) -> dict[str, Any]:
    return {
        "clip_id": clip.clip_id,
        "relative_path": clip.relative_path,
        "location": clip.location,
        "stamp": clip.stamp,
        "columns": columns_of(clip),
        "sidecars": clip.sidecars,
        "window_size": settings.window_size,
        "remainder_threshold": settings.remainder_threshold,
        "sampling_fps": settings.sampling_fps,
        "fingerprint": _fingerprint(clip, settings),
    }


def _fingerprint(clip: Clip, settings: WindowSettings) -> str:
    """Empty where nothing tells whether the file has changed: such a clip is always planned anew."""
    if clip.stamp is None:
        return ""
    planned = [STEP.version, clip.relative_path, clip.location, clip.stamp, settings.model_dump()]
    return text_hash(json.dumps(planned))


def _video_fields(info: VideoInfo) -> dict[str, Any]:
    return {
        "width": info.width,
        "height": info.height,
        "display_width": info.display_width,
        "display_height": info.display_height,
        "rotation": info.rotation,
        "frame_rate": float(info.frame_rate),
        "duration_s": info.duration_s,
        "clip_frames": info.num_frames,
        "codec": info.codec,
        "pixel_format": info.pixel_format,
        "audio_codec": info.audio_codec,
        "num_bytes": info.num_bytes,
        "content_hash": info.content_hash,
    }
