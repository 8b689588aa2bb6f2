"""Caption a shard's windows: decode ahead, ask the engine, keep what it answers."""

import json
import logging
import time
from collections.abc import Iterator
from itertools import groupby
from typing import Final

from caption_assets.errors import CaptionAssetsError, ShardError
from caption_assets.layout.store import Store
from caption_assets.media.jobs import DecodeJob, WantedFrames, decode_clip
from caption_assets.media.workers import WorkerPool
from caption_assets.models.engine import EngineSession, Request, Result
from caption_assets.models.prompts import caption_prompt
from caption_assets.models.requests import caption_request, frame_size
from caption_assets.models.variants import FrameLimits
from caption_assets.records import CaptionRow, FramePicks, WindowRow, text_hash
from caption_assets.settings import CaptionSettings
from caption_assets.steps.answers import answer_fields, model_fields
from caption_assets.steps.pool import run_jobs
from caption_assets.steps.report import Progress, Sample, ShardReport, shard_report, windows_per_second
from caption_assets.steps.rows import RowBuffer, render_documents, window_key, window_of

log = logging.getLogger(__name__)
ASSET: Final = "window_captions"
_VERSION = 1  # goes up when equal settings give other texts
_SAMPLES = 8


def caption_shard(
    store: Store,
    shard: str,
    session: EngineSession,
    settings: CaptionSettings,
    pool: WorkerPool,
    progress: Progress | None = None,
    *,
    source_root: str | None = None,
) -> ShardReport:
    """Captions the windows that have no caption of this model, prompt and sampling yet.

    Reads the shard's `clip_windows`; writes the table of the variant's key and the layout's documents. Captions of
    other variants stay. A window that cannot be decoded or captioned is a row with its reason. Raises ConfigError for
    an unknown prompt variant, ModelError where the engine does not start, ShardError where no window has a caption,
    StoreError.
    """
    started = time.perf_counter()
    progress = progress or Progress()
    key = session.variant.name
    prompt = caption_prompt(settings.prompt_variant, settings.prompt_text)
    windows = [row for row in store.read_rows("clip_windows", shard) if row.status == "ok"]
    if not windows:
        raise ShardError(f"{ASSET} of shard {shard!r}", "it has no windows", "materialize clip_windows for it first")
    progress.start(ASSET, shard, len(windows))
    previous = {window_key(row): row for row in store.read_rows(ASSET, shard, key)}

    buffer: RowBuffer[CaptionRow] = RowBuffer(store, ASSET, shard, key)
    pending: dict[str, WindowRow] = {}
    for row in windows:
        old = previous.get(window_key(row))
        if old and old.status == "ok" and old.fingerprint == _fingerprint(row, session, prompt, settings):
            buffer.keep(old)
        else:
            pending[_request_id(row)] = row
    reused = len(buffer.rows)
    progress.advance(ASSET, shard, reused)

    with buffer:
        for caption in _captioned(pending, session, prompt, settings, pool):
            buffer.add(caption)
            progress.advance(ASSET, shard)
            if caption.status != "ok":
                where = f"{caption.clip_id} {caption.start_frame}_{caption.end_frame}"
                log.warning("no caption of %s: %s", where, caption.error)

    table = buffer.commit()
    render_documents(store, shard, source_root)
    names = {row.clip_id: row.relative_path for row in windows}
    good = [row for row in buffer.rows if row.status == "ok"]
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
            **windows_per_second(len(pending), seconds),
            "engine_seconds": round(sum(row.seconds for row in good), 3),
            "prompt_tokens": sum(row.prompt_tokens or 0 for row in good),
            "output_tokens": sum(row.output_tokens or 0 for row in good),
            "cut_off_texts": sum(row.finish_reason == "length" for row in good),
        },
        samples=[
            Sample(names[row.clip_id], f"{row.start_frame}_{row.end_frame}", row.text or "") for row in good[:_SAMPLES]
        ],
    )


def _captioned(
    pending: dict[str, WindowRow],
    session: EngineSession,
    prompt: str,
    settings: CaptionSettings,
    pool: WorkerPool,
) -> Iterator[CaptionRow]:
    """One row for every pending window, in the order in which they end."""
    if not pending:
        return
    limits = session.info.frame_limits
    assert limits is not None, "a vision-language engine states its frame limits"
    jobs = [
        _decode_job(source, list(group), limits) for source, group in groupby(pending.values(), lambda row: row.source)
    ]
    undecoded: list[tuple[WindowRow, CaptionAssetsError]] = []

    def requests() -> Iterator[Request]:
        """Decodes ahead of the engine: a batch can form while another runs. Frames are large, so no further."""
        by_source = groupby(pending.values(), lambda row: row.source)
        left = {source: {window_of(row): row for row in rows} for source, rows in by_source}
        for job, decoded in run_jobs(pool, decode_clip, jobs, in_flight=2 * settings.batch_size):
            if isinstance(decoded, CaptionAssetsError):
                undecoded.extend((window, decoded) for window in left[job.source].values())
                continue
            window, frames = decoded
            request_id = _request_id(left[job.source].pop(window))
            yield caption_request(request_id, prompt, frames, settings.max_output_tokens)

    def row(window: WindowRow, result: Result | CaptionAssetsError) -> CaptionRow:
        return CaptionRow(
            key=session.variant.name,
            clip_id=window.clip_id,
            start_frame=window.start_frame or 0,
            end_frame=window.end_frame or 0,
            content_hash=window.content_hash,
            window_hash=window.window_hash,
            prompt_hash=text_hash(prompt),
            fingerprint=_fingerprint(window, session, prompt, settings),
            **model_fields(session),
            **answer_fields(result),
        )

    for result in session.generate(requests()):
        yield row(pending[result.request_id], result)
    for window, error in undecoded:
        yield row(window, error)


def _decode_job(source: str, rows: list[WindowRow], limits: FrameLimits) -> DecodeJob:
    wanted = []
    for row in rows:
        size = frame_size(row.display_width or 0, row.display_height or 0, len(row.frame_ids), limits)
        wanted.append(WantedFrames(window_of(row), FramePicks(row.frame_ids, row.times_s), size))
    return DecodeJob(source, rows[0].content_hash or "", tuple(wanted))


def _request_id(row: WindowRow) -> str:
    return f"{row.clip_id}/{window_of(row)}"


def _fingerprint(row: WindowRow, session: EngineSession, prompt: str, settings: CaptionSettings) -> str:
    variant, source = session.variant, session.source
    model = [variant.name, source.model_id, source.revision, variant.precision, repr(variant.sampling)]
    return text_hash(json.dumps([_VERSION, row.window_hash, model, prompt, settings.max_output_tokens]))
