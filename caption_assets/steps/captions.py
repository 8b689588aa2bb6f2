"""Caption windows: decode ahead, ask the engine, keep what it answers."""

import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Final

from caption_assets.errors import CaptionAssetsError, ClipError, ShardError
from caption_assets.models.engines.base import EngineSession, Request, Result
from caption_assets.models.prompts import caption_prompt, stage2_prompt, with_caption
from caption_assets.models.requests import frame_size
from caption_assets.models.variants import FrameLimits
from caption_assets.records import FramePicks, Window, text_hash
from caption_assets.settings import CaptionSettings
from caption_assets.steps.answers import answer_fields, model_fields, model_identity
from caption_assets.steps.report import Progress
from caption_assets.steps.rows import window_key, window_of
from caption_assets.steps.stream import Outcomes, ShardStream, stream_shards
from caption_assets.store.rows import CaptionRow, WindowRow
from caption_assets.store.store import Store
from caption_assets.store.tables import CLIP_WINDOWS
from caption_assets.workers.base import ClipWorkers
from caption_assets.workers.tasks import CaptionTask, Prepared, WantedFrames, caption_clip, caption_workers

ASSET: Final = "window_captions"
_VERSION = 1  # goes up when equal settings give other texts
_TIME_LINE = ("decode_s", "render_s", "wait_s", "prefill_s", "generate_s")


def caption_shards(
    store: Store,
    shards: Sequence[str],
    session: EngineSession,
    settings: CaptionSettings,
    workers: ClipWorkers,
    progress: Progress | None = None,
    *,
    source_root: str | None = None,
) -> Outcomes:
    """Captions the windows that have no caption of this model, prompt and sampling yet; yields each shard's outcome.

    Reads the shards' `clip_windows`; writes the tables of the variant's key and the layout's documents. Captions of
    other variants stay. A window that cannot be decoded or captioned is a row with its reason. A shard's error is a
    ShardError where no window has a caption, or a StoreError. Raises ConfigError for an unknown prompt variant,
    ModelError where the engine does not start.
    """
    prompt = caption_prompt(settings.prompt_variant, settings.prompt_text)
    refine = stage2_prompt(settings.stage2_prompt_text) if settings.generate_stage2_caption else None
    listener = progress or Progress()

    def open_shard(shard: str) -> ShardStream[CaptionRow]:
        windows = [row for row in store.read_rows(CLIP_WINDOWS, shard) if row.status == "ok"]
        if not windows:
            fix = "materialize clip_windows for it first"
            raise ShardError(f"{ASSET} of shard {shard!r}", "it has no windows", fix)
        return _Captions(store, shard, windows, session, settings, (prompt, refine), workers, listener, source_root)

    yield from stream_shards(shards, open_shard, session)


class _Captions(ShardStream[CaptionRow]):
    """One shard's windows. With a second pass, a window's first answer leads to its second question."""

    asset = ASSET

    def __init__(
        self,
        store: Store,
        shard: str,
        windows: list[WindowRow],
        session: EngineSession,
        settings: CaptionSettings,
        prompts: tuple[str, str | None],
        workers: ClipWorkers,
        progress: Progress,
        source_root: str | None,
    ) -> None:
        super().__init__(store, shard, session, progress, source_root)
        self._settings, self._workers = settings, workers
        self._prompt, self._refine = prompts
        self._clips = {row.clip_id: row.relative_path for row in windows}
        self._pending = {
            self._request_id(row): row
            for row in windows
            if not self.buffer.reuse(window_key(row), self._fingerprint(row))
        }
        self._first: dict[str, CaptionRow] = {}
        self._second: deque[tuple[WindowRow, str]] = deque()
        self._decoding: dict[str, tuple[float, float]] = {}
        self.wait_for(self._pending, of=len(windows))

    def requests(self) -> Iterator[Request]:
        yield from self._ask((row, self._prompt) for row in self._pending.values())

    def more_requests(self) -> Iterator[Request]:
        while self._second:
            ready = [self._second.popleft() for _ in range(len(self._second))]
            yield from self._ask(ready)

    def _ask(self, questions: Iterable[tuple[WindowRow, str]]) -> Iterator[Request]:
        """A request for each window and its prompt, decoded and prepared in the workers, ahead of the engine."""
        by_source: dict[str, list[tuple[WindowRow, str]]] = {}
        for row, prompt in questions:
            by_source.setdefault(row.location, []).append((row, prompt))
        if not by_source:
            return
        info = self.engine()
        assert info.frame_limits is not None, "a vision-language engine states its frame limits"
        limits, tasks, left = info.frame_limits, [], {}
        threads = max(1, self._workers.processes // len(by_source))
        for source, asked in by_source.items():
            wanted = self._wanted(asked, limits)
            left[source] = {self._request_id(row) for row, _ in asked if window_of(row) in wanted}
            if wanted:
                row = asked[0][0]
                prompts = {window_of(row): (self._request_id(row), prompt) for row, prompt in asked}
                tasks.append(
                    CaptionTask(
                        source,
                        row.content_hash or "",
                        tuple(wanted.values()),
                        prompts,
                        self._settings.max_output_tokens,
                        info.prepare,
                        threads=threads,
                    )
                )
        # Prepared windows are large: a batch can form while another runs, and no further.
        at_once = caption_workers(self._workers.processes)
        ahead = 2 * self._settings.batch_size
        for task, made in self._workers.run(caption_clip, tasks, at_once=at_once, in_flight=ahead):
            if isinstance(made, CaptionAssetsError):
                for request_id in left[task.location]:
                    self.unasked.put((request_id, made))
                continue
            assert isinstance(made, Prepared)
            left[task.location].discard(made.request_id)
            if isinstance(made.request, CaptionAssetsError):
                self.unasked.put((made.request_id, made.request))
                continue
            self._decoding[made.request_id] = made.decode_s, made.render_s
            yield made.request

    def _wanted(self, asked: list[tuple[WindowRow, str]], limits: FrameLimits) -> dict[Window, WantedFrames]:
        """What to decode, by window; a window whose frames no model takes is left out and told."""
        wanted = {}
        for row, _ in asked:
            try:
                size = frame_size(row.display_width or 0, row.display_height or 0, len(row.frame_ids), limits)
            except ClipError as error:
                self.unasked.put((self._request_id(row), error))
                continue
            wanted[window_of(row)] = WantedFrames(window_of(row), FramePicks(row.frame_ids, row.times_s), size)
        return wanted

    def answer(self, request_id: str, result: Result | CaptionAssetsError) -> CaptionRow | None:
        window = self._pending[request_id]
        decode_s, render_s = self._decoding.pop(request_id, (None, None))
        known = result if isinstance(result, Result) else Result(request_id)
        row = CaptionRow(
            key=self.key,
            clip_id=window.clip_id,
            start_frame=window.start_frame or 0,
            end_frame=window.end_frame or 0,
            content_hash=window.content_hash,
            window_hash=window.window_hash,
            prompt_hash=text_hash(self._prompt),
            fingerprint=self._fingerprint(window),
            decode_s=decode_s,
            render_s=render_s,
            wait_s=known.wait_s,
            prefill_s=known.prefill_s,
            generate_s=known.generate_s,
            **model_fields(self.session),
            **answer_fields(result),
        )
        first = self._first.pop(request_id, None)
        if first is not None:
            row = _second_pass(first, row)
        elif self._refine is not None and row.text:
            self._first[request_id] = row
            self._second.append((window, with_caption(self._refine, row.text)))
            return None
        return row

    def figures(self, good: Sequence[CaptionRow]) -> dict[str, float]:
        asked = {window_key(row) for row in self._pending.values()}
        return {
            **time_line(row for row in good if window_key(row) in asked),
            "prompt_tokens": sum(row.prompt_tokens or 0 for row in good),
            "output_tokens": sum(row.output_tokens or 0 for row in good),
        }

    def clip_name(self, row: CaptionRow) -> str:
        return self._clips[row.clip_id]

    def _request_id(self, row: WindowRow) -> str:
        return f"{self.shard}/{row.clip_id}/{window_of(row)}"

    def _fingerprint(self, row: WindowRow) -> str:
        asked = [self._prompt, self._settings.max_output_tokens, *([self._refine] if self._refine else [])]
        return text_hash(json.dumps([_VERSION, row.window_hash, model_identity(self.session), *asked]))


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

    def total(name: str) -> float | None:
        values = [getattr(row, name) for row in (first, second)]
        return None if None in values else sum(values)

    both = ("prompt_tokens", "output_tokens", "seconds", *_TIME_LINE)
    return replace(second, first_text=first.text, **{name: total(name) for name in both})  # type: ignore[arg-type]
