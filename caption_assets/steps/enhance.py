"""Rewrite a shard's captions with a text model."""

import json
import logging
import time
from collections.abc import Iterator
from typing import Any, Final

from caption_assets.errors import ShardError
from caption_assets.layout.store import Store
from caption_assets.models.engine import EngineSession
from caption_assets.models.prompts import enhance_prompt
from caption_assets.models.requests import enhance_request
from caption_assets.records import CaptionRow, EnhancedRow, text_hash
from caption_assets.settings import EnhanceSettings
from caption_assets.steps.answers import answer_fields, model_fields
from caption_assets.steps.report import Progress, Sample, ShardReport, shard_report, windows_per_second
from caption_assets.steps.rows import RowBuffer, render_documents, window_key

log = logging.getLogger(__name__)
ASSET: Final = "enhanced_captions"
_VERSION = 1  # goes up when equal settings give other texts
_SAMPLES = 8


def enhance_shard(
    store: Store,
    shard: str,
    caption_key: str,
    session: EngineSession,
    settings: EnhanceSettings,
    progress: Progress | None = None,
    *,
    source_root: str | None = None,
) -> ShardReport:
    """Enhances the captions of variant `caption_key` that have no enhanced text of this model and prompt yet.

    Reads the shard's `window_captions`; writes the table of the enhancer's key and the layout's documents. A window
    without a caption is a skipped row. Raises as `caption_shard` does.
    """
    started = time.perf_counter()
    progress = progress or Progress()
    key = session.variant.name
    prompt = enhance_prompt(settings.prompt_variant, settings.prompt_text)
    captions = store.read_rows("window_captions", shard, caption_key)
    if not captions:
        wrong = f"it has no captions of {caption_key!r}"
        raise ShardError(f"{ASSET} of shard {shard!r}", wrong, "materialize window_captions for it first")
    progress.start(ASSET, shard, len(captions))
    previous = {window_key(row): row for row in store.read_rows(ASSET, shard, key)}

    buffer: RowBuffer[EnhancedRow] = RowBuffer(store, ASSET, shard, key)
    pending: dict[str, CaptionRow] = {}
    reused = 0
    for row in captions:
        old = previous.get(window_key(row))
        if row.status != "ok" or not row.text:
            fields: dict[str, Any] = {
                "status": "skipped",
                "error_kind": "no_caption",
                "error": f"no caption: {row.error}",
            }
            buffer.add(EnhancedRow(**_of(row, key), **fields))
        elif old and old.status == "ok" and old.fingerprint == _fingerprint(row, session, prompt, settings):
            buffer.keep(old)
            reused += 1
        else:
            pending[f"{row.clip_id}/{row.start_frame}_{row.end_frame}"] = row
    progress.advance(ASSET, shard, len(buffer.rows))

    with buffer:
        for enhanced in _enhanced(pending, session, prompt, settings):
            buffer.add(enhanced)
            progress.advance(ASSET, shard)
            if enhanced.status != "ok":
                where = f"{enhanced.clip_id} {enhanced.start_frame}_{enhanced.end_frame}"
                log.warning("no enhanced caption of %s: %s", where, enhanced.error)

    table = buffer.commit()
    render_documents(store, shard, source_root)
    good = [row for row in buffer.rows if row.status == "ok"]
    texts = {window_key(row): row.text or "" for row in captions}
    seconds = time.perf_counter() - started
    return shard_report(
        ASSET,
        shard,
        buffer.rows,
        seconds=seconds,
        table=store.url(table),
        reused=reused,
        figures={
            "variant": key,
            "captions_of": caption_key,
            **windows_per_second(len(pending), seconds),
            "engine_seconds": round(sum(row.seconds for row in good), 3),
            "times_longer": round(
                sum(len(row.text or "") for row in good) / max(1, sum(len(texts[window_key(row)]) for row in good)),
                2,
            ),
            "cut_off_texts": sum(row.finish_reason == "length" for row in good),
        },
        samples=[Sample(row.clip_id, f"{row.start_frame}_{row.end_frame}", row.text or "") for row in good[:_SAMPLES]],
    )


def _enhanced(
    pending: dict[str, CaptionRow], session: EngineSession, prompt: str, settings: EnhanceSettings
) -> Iterator[EnhancedRow]:
    """One row for every pending caption, in the order in which they end."""
    if not pending:
        return
    requests = (
        enhance_request(request_id, prompt, row.text or "", settings.max_output_tokens)
        for request_id, row in pending.items()
    )
    for result in session.generate(requests):
        row = pending[result.request_id]
        yield EnhancedRow(
            **_of(row, session.variant.name),
            prompt_hash=text_hash(prompt),
            fingerprint=_fingerprint(row, session, prompt, settings),
            **model_fields(session),
            **answer_fields(result),
        )


def _of(row: CaptionRow, key: str) -> dict[str, Any]:
    return {
        "key": key,
        "caption_key": row.key,
        "caption_hash": text_hash(row.text or ""),
        "clip_id": row.clip_id,
        "start_frame": row.start_frame,
        "end_frame": row.end_frame,
    }


def _fingerprint(row: CaptionRow, session: EngineSession, prompt: str, settings: EnhanceSettings) -> str:
    variant, source = session.variant, session.source
    model = [variant.name, source.model_id, source.revision, variant.precision, repr(variant.sampling)]
    caption = [row.key, row.clip_id, row.start_frame, row.end_frame, text_hash(row.text or "")]
    return text_hash(json.dumps([_VERSION, caption, model, prompt, settings.max_output_tokens]))
