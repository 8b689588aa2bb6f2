"""Caption windows: decode ahead, ask the engine, keep what it answers; and preview them on the way, where asked for."""

import json
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Final, Self

from caption_assets.errors import CaptionAssetsError
from caption_assets.media.previews import check_ffmpeg
from caption_assets.models.engines.base import EngineInfo
from caption_assets.models.engines.session import EngineSession
from caption_assets.models.prompts import caption_prompt, stage2_prompt, with_caption
from caption_assets.models.requests import Author, Request, Result
from caption_assets.records import FramePicks, Window, text_hash
from caption_assets.settings import CaptionSettings, PreviewSettings
from caption_assets.steps.answers import answer_fields, author_of, model_fields, model_identity
from caption_assets.steps.beside import PreviewsBeside
from caption_assets.steps.context import StepContext
from caption_assets.steps.findings import Text, judged
from caption_assets.steps.preparing import Preparers
from caption_assets.steps.previews import STEP as PREVIEWS
from caption_assets.steps.previews import ShardPreviews
from caption_assets.steps.report import Ended, Outcomes, Sample, Step
from caption_assets.steps.samples import Findings, text_samples
from caption_assets.steps.shards import is_empty
from caption_assets.steps.stream import ShardStream
from caption_assets.steps.streams import ShardStreams
from caption_assets.steps.versions import data_version
from caption_assets.steps.windows import probed_clips
from caption_assets.store.rows import CaptionRow, EnhancedRow, WindowRow, window_key, window_of
from caption_assets.store.tables import CLIP_WINDOWS, WINDOW_CAPTIONS
from caption_assets.workers.tasks import CaptionTask, Prepared, WantedFrames, caption_clip

STEP: Final = Step(WINDOW_CAPTIONS, reads=(CLIP_WINDOWS,))
_TIME_LINE = ("decode_s", "render_s", "wait_s", "prefill_s", "generate_s")


def caption_shards(
    context: StepContext,
    shards: Sequence[str],
    session: EngineSession,
    settings: CaptionSettings,
    previews: PreviewSettings | None = None,
) -> Outcomes:
    """Captions the windows that have no caption of this model, prompt and sampling yet; yields how each shard ended.

    Reads the shards' `clip_windows`; writes the tables of the variant's key and the layout's documents. Captions of
    other variants stay. A window that cannot be decoded or captioned is a row with its reason. With `previews`, the
    shards' previews are made as `preview_shard` makes them, from the same decoding, and each shard has an outcome for
    both. A shard's error is a ShardError where no window has a caption, or a StoreError. Raises ConfigError for a
    prompt text that is blank and for previews without an ffmpeg, ModelError where the engine does not start.
    """
    asked = Asked.by(settings)
    preparers = Preparers(context.workers.processes, session)
    if previews is not None:
        check_ffmpeg()

    def open_shard(shard: str) -> ShardStream[CaptionRow]:
        windows = context.store.read_table(CLIP_WINDOWS, shard)
        if not any(row.status == "ok" for row in windows.rows) and not is_empty(windows):
            raise STEP.not_ready(shard, "it has no windows")
        beside = None if previews is None else PreviewsBeside(ShardPreviews(context, shard, windows, previews))
        stream = _Captions(context, shard, windows.rows, session, asked, preparers, beside)
        stream.unchanged.append({(CLIP_WINDOWS.name, None): windows.looked.stamp})
        return stream

    fails_with = () if previews is None else (PREVIEWS,)
    yield from ShardStreams(STEP, shards, open_shard, session, fails_with, context.shards_at_once).outcomes()


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked about every window: `prompt`, and with a second pass `refine`."""

    settings: CaptionSettings
    prompt: str
    refine: str | None

    @classmethod
    def by(cls, settings: CaptionSettings) -> Self:
        """Raises ConfigError for a prompt text that is blank."""
        refine = stage2_prompt(settings.stage2_prompt_text) if settings.generate_stage2_caption else None
        return cls(settings, caption_prompt(settings.prompt_variant, settings.prompt_text), refine)


class _Captions(ShardStream[CaptionRow]):
    """One shard's windows. With a second pass, a window's first answer leads to its second question."""

    step = STEP

    def __init__(
        self,
        context: StepContext,
        shard: str,
        windows: list[WindowRow],
        session: EngineSession,
        asked: Asked,
        preparers: Preparers,
        previews: PreviewsBeside | None,
    ) -> None:
        super().__init__(context, shard, session)
        # Of both threads, and never changed.
        self._asked_for, self._preparers = asked, preparers
        self._previews = previews
        self.input_versions = {CLIP_WINDOWS.name: data_version(windows)}
        planned, chosen = [row for row in windows if row.status == "ok"], context.trial.clips_of(windows)
        good = [row for row in planned if row.clip_id in chosen]
        self._clips = {row.clip_id: row.relative_path for row in planned}
        self._probed = probed_clips(windows)
        self._rows = {self._request_id(row): row for row in good}
        self._locations = list(dict.fromkeys(row.location for row in good))
        # Written by one thread and read by the other, an entry at a time.
        self._second: deque[tuple[WindowRow, str]] = deque()
        self._preparing: dict[str, tuple[float, float]] = {}
        # Of the answering thread.
        self._first: dict[str, CaptionRow] = {}
        author = author_of(session)
        self.buffer.keep(window_key(row) for row in planned if row.clip_id not in chosen)
        pending = [
            row
            for row in good
            if not self.buffer.reuse(window_key(row), caption_fingerprint(session, asked, row, author))
        ]
        self._pending = {self._request_id(row): row for row in pending}
        self.wait_for(self._pending, of=len(good))

    # In the asking thread.

    @property
    def works_beside(self) -> bool:
        return self._previews is not None and self._previews.to_make

    def requests(self) -> Iterator[Request]:
        yield from self._ask([(row, self._asked_for.prompt) for row in self._pending.values()], self._previews)
        if self._previews is not None:
            self._previews.complete()

    def more_requests(self) -> Iterator[Request]:
        while self._second:
            yield from self._ask([self._second.popleft() for _ in range(len(self._second))], None)

    def _ask(self, questions: list[tuple[WindowRow, str]], previews: PreviewsBeside | None) -> Iterator[Request]:
        """A request for each window and its prompt, decoded and prepared in the workers, ahead of the engine."""
        tasks = self._tasks(questions, previews)
        if not tasks:
            return
        left = {task.location: {request_id for request_id, _ in task.questions.values()} for task in tasks}
        # Prepared windows are large: for each engine, a batch can form while another runs, and no further.
        preparers = self._preparers
        in_flight = 2 * self._asked_for.settings.batch_size * preparers.engines
        run = self.context.workers.run(caption_clip, tasks, at_once=preparers.at_once, in_flight=in_flight)
        asked_at = time.monotonic()
        for task, made in run:
            if isinstance(made, Prepared):
                left[task.location].discard(made.request_id)
                if isinstance(made.request, CaptionAssetsError):
                    self.unasked(made.request_id, made.request)
                    continue
                self._preparing[made.request_id] = made.decode_s, made.render_s
                made_at = time.monotonic()
                yield made.request
                taken_at = time.monotonic()
                preparers.waited(made_at - asked_at, taken_at - made_at)
                asked_at = taken_at
                continue
            if isinstance(made, CaptionAssetsError):
                for request_id in left[task.location]:
                    self.unasked(request_id, made)
            if previews is not None:
                previews.settle(task.location, made)

    def _tasks(self, questions: list[tuple[WindowRow, str]], previews: PreviewsBeside | None) -> list[CaptionTask]:
        by_location: dict[str, list[tuple[WindowRow, str]]] = {}
        for row, prompt in questions:
            by_location.setdefault(row.location, []).append((row, prompt))
        info = self.start_engine() if questions else None
        rows = {row.location: row for row in self._rows.values()}
        tasks = []
        for location in self._locations:
            asked = by_location.get(location, [])
            wanted = self._wanted(asked, info) if info is not None else {}
            asked = [(row, prompt) for row, prompt in asked if window_of(row) in wanted]
            windows = previews.pending(location) if previews is not None else ()
            if not wanted and not windows:
                continue
            tasks.append(
                CaptionTask(
                    location=location,
                    content_hash=rows[location].content_hash or "",
                    probed=self._probed.get(location),
                    wanted=tuple(wanted.values()),
                    questions={window_of(row): (self._request_id(row), prompt) for row, prompt in asked},
                    max_tokens=self._asked_for.settings.max_output_tokens,
                    prepare=info.prepare if info is not None else None,
                    previews=windows,
                    preview_settings=previews.settings if previews is not None else None,
                )
            )
        threads = max(1, self._preparers.at_once() // max(1, len(tasks)))
        return [replace(task, threads=threads) for task in tasks]

    def _wanted(self, asked: list[tuple[WindowRow, str]], info: EngineInfo) -> dict[Window, WantedFrames]:
        """What to decode, by window; a window that the model cannot take is left out and said to fail."""
        wanted: dict[Window, WantedFrames] = {}
        if info.frame_limits is None:
            return wanted
        max_tokens = self._asked_for.settings.max_output_tokens
        for row, prompt in asked:
            name, shown, count = (
                f"window {window_of(row)}",
                (row.display_width or 0, row.display_height or 0),
                len(row.frame_ids),
            )
            try:
                size = info.context.frame_size(name, prompt, max_tokens, shown, count, info.frame_limits)
            except CaptionAssetsError as error:
                self.unasked(self._request_id(row), error)
                continue
            wanted[window_of(row)] = WantedFrames(window_of(row), FramePicks(row.frame_ids, row.times_s), size)
        return wanted

    # In the answering thread.

    def answer(self, request_id: str, result: Result | CaptionAssetsError) -> CaptionRow | None:
        window, asked = self._pending[request_id], self._asked_for
        decode_s, render_s = self._preparing.pop(request_id, (None, None))
        known = result if isinstance(result, Result) else Result(request_id)
        author = author_of(self.session, result)
        row = CaptionRow(
            key=self.key,
            clip_id=window.clip_id,
            start_frame=window.start_frame or 0,
            end_frame=window.end_frame or 0,
            content_hash=window.content_hash,
            window_hash=window.window_hash,
            prompt_hash=text_hash(asked.prompt),
            fingerprint=caption_fingerprint(self.session, asked, window, author),
            decode_s=decode_s,
            render_s=render_s,
            wait_s=known.wait_s,
            prefill_s=known.prefill_s,
            generate_s=known.generate_s,
            **model_fields(self.session, author),
            **answer_fields(result),
        )
        first = self._first.pop(request_id, None)
        if first is not None:
            row = _second_pass(first, row)
        elif asked.refine is not None and row.text:
            self._first[request_id] = row
            self._second.append((window, with_caption(asked.refine, row.text)))
            return None
        return row

    def figures(self, good: Sequence[CaptionRow]) -> dict[str, float]:
        asked = {window_key(row) for row in self._pending.values()}
        return {
            **time_line(row for row in good if window_key(row) in asked),
            "prompt_tokens": sum(row.prompt_tokens or 0 for row in good),
            "output_tokens": sum(row.output_tokens or 0 for row in good),
        }

    def samples(self, good: Sequence[CaptionRow], findings: Findings) -> list[Sample]:
        return text_samples(self.context.store, good, findings, clip_of=self.clip_name)

    def judged(self, row: CaptionRow) -> Text:
        asked = self._asked_for
        prompt = asked.prompt if asked.refine is None else f"{asked.prompt}\n\n{asked.refine}"
        return judged(row, clip=self.clip_name(row), prompt=prompt)

    def clip_name(self, row: CaptionRow | EnhancedRow) -> str:
        return self._clips[row.clip_id]

    def finish(self) -> Iterator[Ended]:
        if self._previews is not None:
            # First: the documents that are rendered for the captions then have the previews, too.
            yield self._previews.finish(self.shard, self.seconds if self._pending else None)
            self.unchanged.append(self._previews.unchanged)
        yield from super().finish()

    def give_up(self, error: CaptionAssetsError) -> Iterator[Ended]:
        if self._previews is not None:
            yield self._previews.give_up(self.shard, error)
        yield from super().give_up(error)

    def save(self) -> None:
        if self._previews is not None:
            self._previews.save()
        super().save()

    def _request_id(self, row: WindowRow) -> str:
        return f"{self.shard}/{row.clip_id}/{window_of(row)}"


def caption_fingerprint(session: EngineSession, asked: Asked, row: WindowRow, author: Author) -> str:
    """Covers all that a window's caption depends on."""
    question = [asked.prompt, asked.settings.max_output_tokens, *([asked.refine] if asked.refine else [])]
    identity = model_identity(session, author)
    return text_hash(json.dumps([STEP.version, row.window_hash, identity, *question]))


def time_line(rows: Iterable[CaptionRow]) -> dict[str, float]:
    """Where the time of a window goes, on average, in seconds; what is not known is left out."""
    figures = {}
    rows = list(rows)
    for name in _TIME_LINE:
        known = [value for row in rows if (value := getattr(row, name)) is not None]
        if known:
            figures[f"mean_{name}"] = round(fmean(known), 4)
    return figures


def _second_pass(first: CaptionRow, second: CaptionRow) -> CaptionRow:
    """The row after both passes: tokens and times of both. Where the second gave nothing, the window failed."""

    def total(name: str) -> Any:
        values = [getattr(row, name) for row in (first, second)]
        return None if None in values else sum(values)

    both = ("prompt_tokens", "output_tokens", "seconds", *_TIME_LINE)
    return replace(second, first_text=first.text, **{name: total(name) for name in both})
