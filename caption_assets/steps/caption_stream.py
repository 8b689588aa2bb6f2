"""One shard's captions of one key: which windows lack one, and the rows that answers become."""

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import fmean
from typing import Any, Final

from caption_assets.errors import CaptionAssetsError, ConfigError
from caption_assets.models.choice import prompt_name
from caption_assets.models.engines.session import EngineSession
from caption_assets.models.requests import Author, Question, Result
from caption_assets.records import text_hash
from caption_assets.steps.answers import answer_fields, author_of, model_fields, model_identity
from caption_assets.steps.asked import Ask
from caption_assets.steps.context import StepContext
from caption_assets.steps.filling import check_columns
from caption_assets.steps.findings import JudgedRow, judged
from caption_assets.steps.report import Sample, Step
from caption_assets.steps.samples import Findings, text_samples
from caption_assets.steps.sidecars import Sidecars, UnsaidError
from caption_assets.steps.stream import ShardStream
from caption_assets.steps.versions import data_version
from caption_assets.store.rows import CaptionRow, EnhancedRow, WindowKey, WindowRow, window_key, window_of
from caption_assets.store.tables import CLIP_WINDOWS, WINDOW_CAPTIONS

log = logging.getLogger(__name__)
STEP: Final = Step(WINDOW_CAPTIONS, reads=(CLIP_WINDOWS,))
_TIME_LINE = ("decode_s", "render_s", "wait_s", "prefill_s", "generate_s")


def request_id(shard: str, row: WindowRow) -> str:
    """What the request about a window is called."""
    return f"{shard}/{row.clip_id}/{window_of(row)}"


class Captions(ShardStream[CaptionRow]):
    """One shard's captions of one key. What is asked, and when, is for `Visits` to say."""

    step = STEP

    def __init__(
        self, context: StepContext, shard: str, windows: list[WindowRow], session: EngineSession, key: str, ask: Ask
    ) -> None:
        super().__init__(context, shard, session, key=key)
        self.ask = ask
        self.input_versions = {CLIP_WINDOWS.name: data_version(windows)}
        planned, chosen = [row for row in windows if row.status == "ok"], context.trial.clips_of(windows)
        good = [row for row in planned if row.clip_id in chosen]
        self._clips = {row.clip_id: row.relative_path for row in planned}
        self.buffer.keep(window_key(row) for row in planned if row.clip_id not in chosen)
        check_is_ours(self.buffer.before, key, session)
        check_columns(ask.names, good)
        self._sidecars = Sidecars(good, ask.names)
        self._texts: dict[WindowKey, str] = {}
        self._before = windows_before(good) if ask.follows else {}
        self._kept = 0
        self.pending: dict[str, WindowRow] = {}
        for row in good:
            try:
                ask.about(row, self._sidecars)
            except UnsaidError as error:
                log.warning("%s %s: %s", row.relative_path, window_of(row), error)
                self._unsaid(row, error)
                continue
            # What a window is asked is not known as long as the caption before it may become another.
            before = self._before.get(window_key(row))
            if (before is not None and before not in self._texts) or not self._reuse(row):
                self.pending[request_id(shard, row)] = row
        self.asked = set(map(window_key, self.pending.values()))
        self.expect(self.pending)

    def questions(self, request_id: str) -> list[Question]:
        """What is asked of a window."""
        return self._about(self.pending[request_id]).questions(self.key, self.session.variant.sampling)

    def lacks(self, request_id: str) -> bool:
        """Whether a window is still to be asked, now that the one before it has been answered."""
        row = self.pending[request_id]
        if window_key(row) not in self._before or not self._reuse(row):
            return True
        del self.pending[request_id]
        self.asked.discard(window_key(row))
        self.withdraw(request_id)
        return False

    def keep(self, request_id: str, row: CaptionRow) -> None:
        super().keep(request_id, row)
        self._texts[window_key(row)] = row.text or ""

    def _unsaid(self, row: WindowRow, error: UnsaidError) -> None:
        """A window that cannot be asked, at least now: a file may be away for a moment. What it has by this prompt,
        with whatever was filled in, stays."""
        made_as = self._unfilled(row, author_of(self.session))
        kept = made_as is not None and self.buffer.reuse(window_key(row), made_as, of="template_fingerprint")
        self._kept += kept
        if not kept:
            self.buffer.add(self._row(row, error))
        self._texts[window_key(row)] = self.buffer.rows[-1].text or ""

    def _unfilled(self, row: WindowRow, author: Author) -> str | None:
        """What covers all that a window's caption depends on but what is filled into the prompt, where anything is."""
        return caption_fingerprint(self.session, self.ask, row, author) if self.ask.names else None

    def _about(self, row: WindowRow) -> Ask:
        before = self._before.get(window_key(row))
        return self.ask.about(row, self._sidecars, "" if before is None else self._texts[before])

    def _reuse(self, row: WindowRow) -> bool:
        made_as = caption_fingerprint(self.session, self._about(row), row, author_of(self.session))
        if not self.buffer.reuse(window_key(row), made_as):
            return False
        self._texts[window_key(row)] = self.buffer.rows[-1].text or ""
        return True

    def answer(self, request_id: str, result: Result | CaptionAssetsError) -> CaptionRow:
        return self.row(request_id, [result])

    def row(
        self,
        request_id: str,
        results: Sequence[Result | CaptionAssetsError],
        decode_s: float | None = None,
        render_s: float | None = None,
    ) -> CaptionRow:
        """The row of a window, by the results of `questions`, or the first of them alone."""
        window = self.pending[request_id]
        first, *later = (self._row(window, result) for result in results)
        first = replace(first, decode_s=decode_s, render_s=render_s)
        return _second_pass(first, later[0]) if later and first.text else first

    def _row(self, window: WindowRow, result: Result | CaptionAssetsError) -> CaptionRow:
        known = result if isinstance(result, Result) else Result("")
        ask = self.ask if isinstance(result, UnsaidError) else self._about(window)
        author = author_of(self.session, result)
        return CaptionRow(
            key=self.key,
            prompt_name=prompt_name(self.key, self.session.variant.name),
            clip_id=window.clip_id,
            start_frame=window.start_frame or 0,
            end_frame=window.end_frame or 0,
            content_hash=window.content_hash,
            window_hash=window.window_hash,
            prompt_hash=text_hash(ask.prompt),
            fingerprint=caption_fingerprint(self.session, ask, window, author),
            template_fingerprint=self._unfilled(window, author),
            is_json=ask.schema is not None,
            json_schema=self.ask.schema,
            wait_s=known.wait_s,
            prefill_s=known.prefill_s,
            generate_s=known.generate_s,
            **model_fields(self.session, author),
            **answer_fields(result),
        )

    def figures(self, good: Sequence[CaptionRow]) -> dict[str, float]:
        figures = {
            **time_line(row for row in good if window_key(row) in self.asked),
            "prompt_tokens": sum(row.prompt_tokens or 0 for row in good),
            "output_tokens": sum(row.output_tokens or 0 for row in good),
        }
        if cached := sum(row.cached_tokens or 0 for row in good):
            figures["cached_tokens"] = cached
        if self._kept:
            figures["kept_texts"] = self._kept
        return figures

    def samples(self, good: Sequence[CaptionRow], findings: Findings) -> list[Sample]:
        return text_samples(self.context.store, good, findings, clip_of=self.clip_name)

    def judged(self, row: CaptionRow) -> JudgedRow:
        return judged(row, clip=self.clip_name(row), prompt=self.ask.all_prompts, is_json=row.is_json)

    def clip_name(self, row: CaptionRow | EnhancedRow) -> str:
        return self._clips[row.clip_id]


def check_is_ours(rows: Iterable[CaptionRow], key: str, session: EngineSession) -> None:
    """Raises ConfigError where the captions that stand under a key are by a prompt of another name, and so of another
    model: `a-b` with the prompt `c` has the key of `a` with the prompt `b-c`."""
    name = prompt_name(key, session.variant.name)
    for row in rows:
        if row.prompt_name not in (None, name):
            of = f"prompt {row.prompt_name!r} of a model of another name" if row.prompt_name else f"model {key}"
            wrong = f"the output holds captions of that key by {of}"
            fix = "give the prompt, or the model's captions, another name"
            raise ConfigError(f"captions {key} by prompt {name!r}", wrong, fix)


def windows_before(rows: Sequence[WindowRow]) -> dict[WindowKey, WindowKey]:
    """By window, the one before it of its clip, where there is one; the rows of a shard in their order."""
    pairs = pairwise(rows)
    return {window_key(row): window_key(before) for before, row in pairs if before.clip_id == row.clip_id}


def caption_fingerprint(session: EngineSession, ask: Ask, row: WindowRow, author: Author) -> str:
    """Covers all that a window's caption depends on, of what is asked `about` it."""
    further = {name: value for name, value in ask.decides.items() if name == "json_schema"}
    question = [ask.prompt, ask.max_tokens, *filter(None, (ask.refine, further))]
    identity = model_identity(session, author, ask.sampled(session.variant.sampling))
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

    both = ("prompt_tokens", "cached_tokens", "output_tokens", "seconds", "wait_s", "prefill_s", "generate_s")
    once: dict[str, Any] = {"decode_s": first.decode_s, "render_s": first.render_s}
    return replace(second, first_text=first.text, **once, **{name: total(name) for name in both})
