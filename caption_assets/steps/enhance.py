"""Rewrite captions with a text model."""

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final

from caption_assets.errors import CaptionAssetsError
from caption_assets.models.contexts import ContextError
from caption_assets.models.engines.session import EngineSession
from caption_assets.models.prompts import enhance_prompt
from caption_assets.models.requests import Author, Request, Result, enhance_request
from caption_assets.models.templates import places
from caption_assets.records import text_hash
from caption_assets.settings import EnhanceSettings
from caption_assets.steps.adopted import adopt_captions
from caption_assets.steps.answers import answer_fields, author_of, model_fields, model_identity
from caption_assets.steps.caption_stream import windows_before
from caption_assets.steps.context import StepContext
from caption_assets.steps.costs import charged
from caption_assets.steps.filling import check_columns, fill, known_of
from caption_assets.steps.findings import JudgedRow, flagged, judged
from caption_assets.steps.report import Outcomes, Sample, Step
from caption_assets.steps.samples import Findings, text_samples
from caption_assets.steps.shards import is_empty
from caption_assets.steps.sidecars import Sidecars, UnsaidError
from caption_assets.steps.stream import ShardStream
from caption_assets.steps.streams import ShardStreams
from caption_assets.steps.versions import data_version
from caption_assets.store.earlier import move_earlier
from caption_assets.store.rows import FLAGGED, CaptionRow, EnhancedRow, WindowRow, window_key
from caption_assets.store.tables import CAPTION_FINDINGS, CLIP_WINDOWS, ENHANCED_CAPTIONS, WINDOW_CAPTIONS

log = logging.getLogger(__name__)
STEP: Final = Step(ENHANCED_CAPTIONS, reads=(WINDOW_CAPTIONS,), items="captions")


def enhance_shards(
    context: StepContext,
    shards: Sequence[str],
    caption_key: str,
    session: EngineSession,
    settings: EnhanceSettings,
) -> Outcomes:
    """Enhances the captions of variant `caption_key` that have no enhanced text of this model and prompt yet.

    Reads the shards' `window_captions`, and where a shard has none, those that another tool has put into its documents
    (`adopt_captions`); writes the tables of the text model's key and the layout's documents. A window without a caption
    is a skipped row, and so is one whose caption has a finding of severity error, unless that is to be included; a text
    that was made before that was found stays, and its row says so. The prompt may name what is known of the window, as
    those of captions may. Yields and raises as `caption_shards` does.
    """
    prompt = enhance_prompt(settings.prompt_variant, settings.prompt_text)

    def open_shard(shard: str) -> ShardStream[EnhancedRow]:
        move_earlier(context.store, shard)
        captions = context.store.read_table(WINDOW_CAPTIONS, shard, caption_key)
        if not captions.rows and not is_empty(captions):
            captions = adopt_captions(context.store, shard, caption_key, captions)
        if not captions.rows and not is_empty(captions):
            raise STEP.not_ready(shard, f"it has no captions of {caption_key!r}")
        stream = _Enhanced(context, shard, caption_key, captions.rows, session, settings, prompt)
        stream.unchanged.append({(WINDOW_CAPTIONS.name, caption_key): captions.looked.stamp})
        return stream

    session.when_ready.append(partial(context.progress.ready, STEP.name))
    streams = ShardStreams(STEP, shards, open_shard, session, at_once=context.shards_at_once)
    yield from charged(context, STEP, streams.outcomes(), session)


class _Enhanced(ShardStream[EnhancedRow]):
    """One shard's captions of one variant."""

    step = STEP

    def __init__(
        self,
        context: StepContext,
        shard: str,
        caption_key: str,
        captions: list[CaptionRow],
        session: EngineSession,
        settings: EnhanceSettings,
        prompt: str,
    ) -> None:
        super().__init__(context, shard, session, caption_key)
        self._settings, self._caption_key = settings, caption_key
        windows = context.store.read_committed(CLIP_WINDOWS, shard)
        self._prompts = EnhancePrompts(prompt, windows, captions)
        check_columns(self._prompts.names, (row for row in windows if row.status == "ok"))
        self._kept = 0
        self._clips = {row.clip_id: row.relative_path for row in windows}
        self._texts = {window_key(row): row.text or "" for row in captions}
        self._pending: dict[str, CaptionRow] = {}
        author = author_of(session)
        known = context.store.read_committed(CAPTION_FINDINGS, shard, caption_key)
        findings = {window_key(row): row for row in known}
        self._flagged = {window_key(row): why for row in captions if (why := flagged(row, findings))}
        self.input_versions = {WINDOW_CAPTIONS.name: data_version(captions, self._flagged)}
        chosen = context.trial.clips_of(windows) if context.trial.limit else {row.clip_id for row in captions}
        self.buffer.keep(window_key(row) for row in captions if row.clip_id not in chosen)
        captions = [row for row in captions if row.clip_id in chosen]
        for row in captions:
            why = self._flagged.get(window_key(row), "")
            if row.status != "ok" or not row.text:
                self._skip(row, "no_caption", f"no caption: {row.error}")
                continue
            asked = self._prompts.about(row)
            if self._reuse(row, asked, author):
                # A text that is there stays, whatever has been found since in what it was made of.
                self.buffer.change_last(caption_finding=why)
            elif why and not settings.include_flagged:
                self._skip(row, FLAGGED, f"its caption has a finding: {why}", caption_finding=why)
            elif isinstance(asked, UnsaidError):
                log.warning("%s %s_%s: %s", self.clip_name(row), *window_key(row)[1:], asked)
                self.buffer.add(self._row(row, asked))
            else:
                self._pending[f"{shard}/{row.clip_id}/{row.start_frame}_{row.end_frame}"] = row
        self.asked = set(map(window_key, self._pending.values()))
        self.wait_for(self._pending, of=len(captions))

    def _reuse(self, row: CaptionRow, asked: str | UnsaidError, author: Author) -> bool:
        """Takes over the text that is there, if it was made so; where what the prompt names is not known of the window,
        at least now, one that was made by the same prompt, whatever was filled in."""
        if isinstance(asked, str):
            made_as = enhanced_fingerprints(self.session, self._settings, asked, row, author)
            return any(self.buffer.reuse(window_key(row), each) for each in made_as)
        unfilled, _ = enhanced_fingerprints(self.session, self._settings, self._prompts.template, row, author)
        kept = self.buffer.reuse(window_key(row), unfilled, of="template_fingerprint")
        self._kept += kept
        return kept

    def _skip(self, row: CaptionRow, kind: str, why: str, caption_finding: str = "") -> None:
        self.buffer.add(
            EnhancedRow(**self._of(row), status="skipped", error_kind=kind, error=why, caption_finding=caption_finding)
        )

    def requests(self) -> Iterator[Request]:
        if not self._pending:
            return
        context, max_tokens = self.start_engine().context, self._settings.max_output_tokens
        for request_id, row in self._pending.items():
            asked = self._prompts.about(row)
            assert isinstance(asked, str)  # or it would not be pending
            request = enhance_request(request_id, asked, row.text or "", max_tokens)
            try:
                context.require_room(f"caption of {request_id}", request.messages[0]["content"], max_tokens)
            except ContextError as error:
                self.unasked(request_id, error)
                continue
            yield request

    def answer(self, request_id: str, result: Result | CaptionAssetsError) -> EnhancedRow:
        return self._row(self._pending[request_id], result)

    def _row(self, caption: CaptionRow, result: Result | CaptionAssetsError) -> EnhancedRow:
        author, template = author_of(self.session, result), self._prompts.template
        asked = self._prompts.about(caption)
        prompt = asked if isinstance(asked, str) else template
        made_as = partial(enhanced_fingerprints, self.session, self._settings, row=caption, author=author)
        return EnhancedRow(
            **self._of(caption),
            caption_finding=self._flagged.get(window_key(caption), ""),
            prompt_hash=text_hash(prompt),
            fingerprint=made_as(prompt=prompt)[0],
            template_fingerprint=made_as(prompt=template)[0] if self._prompts.names else None,
            **model_fields(self.session, author),
            **answer_fields(result),
        )

    def figures(self, good: Sequence[EnhancedRow]) -> dict[str, float | str]:
        before = sum(len(self._texts[window_key(row)]) for row in good)
        after = sum(len(row.text or "") for row in good)
        kept = {"kept_texts": self._kept} if self._kept else {}
        return {"captions_of": self._caption_key, "times_longer": round(after / max(1, before), 2), **kept}

    def samples(self, good: Sequence[EnhancedRow], findings: Findings) -> list[Sample]:
        return text_samples(self.context.store, good, findings, clip_of=self.clip_name, captions=self._texts)

    def clip_name(self, row: CaptionRow | EnhancedRow) -> str:
        return self._clips.get(row.clip_id, row.clip_id)

    def judged(self, row: EnhancedRow) -> JudgedRow:
        caption = self._texts[window_key(row)]
        return judged(row, clip=self.clip_name(row), prompt=self._prompts.template, caption=caption)

    def _of(self, row: CaptionRow) -> dict[str, Any]:
        return {
            "key": self.key,
            "caption_key": row.key,
            "caption_hash": text_hash(row.text or ""),
            "clip_id": row.clip_id,
            "start_frame": row.start_frame,
            "end_frame": row.end_frame,
        }


class EnhancePrompts:
    """What is asked about each caption of a shard: the prompt, with what it names filled in for the caption's window.
    The caption before is that of the captions which are enhanced."""

    def __init__(self, template: str, windows: Iterable[WindowRow], captions: Iterable[CaptionRow]) -> None:
        self.template, self.names = template, places(template)
        good = [row for row in windows if row.status == "ok"] if self.names else []
        self._windows, self._before = {window_key(row): row for row in good}, windows_before(good)
        self._texts = {window_key(row): row.text or "" for row in captions}
        self._sidecars = Sidecars(good, self.names)

    def about(self, row: CaptionRow) -> str | UnsaidError:
        """What is asked about a caption, or why it cannot be."""
        if not self.names:
            return self.template
        if (window := self._windows.get(window_key(row))) is None:
            wrong = "its window is no longer one of the clip's"
            return UnsaidError(f"prompt with {{{self.names[0]}}}", wrong, "caption the windows again")
        before = self._before.get(window_key(row))
        try:
            known = known_of(window, self.names, self._sidecars, self._texts.get(before, "") if before else "")
        except UnsaidError as error:
            return error
        return fill(self.template, known)


def enhanced_fingerprints(
    session: EngineSession, settings: EnhanceSettings, prompt: str, row: CaptionRow, author: Author
) -> tuple[str, str]:
    """What covers all that the enhanced text of a caption depends on: as it is written now, and as earlier versions
    wrote it, where it was another for another clip id."""
    asked = [model_identity(session, author), prompt, settings.max_output_tokens]
    caption, window = text_hash(row.text or ""), [row.clip_id, row.start_frame, row.end_frame]
    made_as = ([STEP.version, of, *asked] for of in ([row.key, caption], [row.key, *window, caption]))
    now, earlier = (text_hash(json.dumps(each)) for each in made_as)
    return now, earlier
