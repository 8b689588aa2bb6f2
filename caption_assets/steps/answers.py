"""The part of a text's row that comes from the engine."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from statistics import fmean
from typing import Any

from caption_assets.errors import CaptionAssetsError
from caption_assets.models.confidence import Confidence, lowest_tenth
from caption_assets.models.engines.session import EngineSession
from caption_assets.models.requests import Author, Result
from caption_assets.models.variants import Sampling
from caption_assets.store.rows import CaptionRow, EnhancedRow


def author_of(session: EngineSession, result: Result | CaptionAssetsError | None = None) -> Author:
    """Who wrote an answer: whom it names, or else the session's model. Raises ModelError where that is not known."""
    return (result.author if isinstance(result, Result) else None) or session.author()


def model_fields(session: EngineSession, author: Author) -> dict[str, Any]:
    """Who wrote it, and what ran that. The engine has been started, unless nothing was asked of it."""
    fields = {
        "model_id": author.model_id,
        "model_revision": author.revision,
        "server_model": author.server_model,
    }
    if not session.started:
        return fields
    info = session.info
    return fields | {"precision": info.precision, "engine": info.engine, "engine_version": info.engine_version}


def model_identity(session: EngineSession, author: Author, sampling: Sampling | None = None) -> list[Any]:
    """What, with the same request, gives the same text; part of every fingerprint. `sampling` is that of the request,
    where it has its own."""
    variant, checkpoint = session.variant, session.checkpoint
    identity = [
        variant.name,
        checkpoint.model_id,
        checkpoint.revision,
        variant.precision,
        _stated(sampling or variant.sampling),
    ]
    # The limits of a row of the table are told by its model.
    limits = (variant.frames if variant.is_own else None, variant.min_pixels, variant.max_pixels)
    if limits != (None, None, None):
        identity.append(repr(limits))
    if variant.video_pruning:
        identity.append(f"video_pruning={variant.video_pruning}")
    if author.server_model:
        identity += [author.model_id, author.server_model, *author.manner]
    return identity


def _stated(sampling: Sampling) -> str:
    """Its values, those that came later only where they are not as they were: older captions stay what they are."""
    later = {"top_k", "presence_penalty", "seed"}
    values = {field.name: getattr(sampling, field.name) for field in fields(sampling)}
    kept = [f"{name}={value!r}" for name, value in values.items() if name not in later or value]
    return f"Sampling({', '.join(kept)})"


def answer_fields(result: Result | CaptionAssetsError) -> dict[str, Any]:
    """What became of it: an engine's result, or the error that kept the request from it. A blank text is a failure."""
    if isinstance(result, CaptionAssetsError):
        return {"status": "failed", "error_kind": result.kind, "error": str(result)}
    fields: dict[str, Any] = {
        "finish_reason": result.finish_reason,
        "prompt_tokens": result.prompt_tokens,
        "output_tokens": result.output_tokens,
        "cached_tokens": result.cached_tokens,
        "seconds": result.seconds,
        **(asdict(result.confidence) if result.confidence else {}),
    }
    if not result.outcome.ok:
        return fields | {
            "status": result.outcome.status,
            "error_kind": result.outcome.kind,
            "error": result.outcome.message,
        }
    if not (result.text or "").strip():
        return fields | {"status": "failed", "error_kind": "empty_text", "error": "the model answered with no text"}
    return fields | {"text": result.text}


def confidence_figures(rows: Sequence[CaptionRow | EnhancedRow]) -> dict[str, float]:
    """The mean of each score over a shard's texts, the mean of its lowest tenth, and how many texts have none."""
    figures: dict[str, float] = {}
    for name in (field.name for field in fields(Confidence)):
        known = [value for row in rows if (value := getattr(row, name)) is not None]
        if known:
            figures |= {name: round(fmean(known), 4), f"{name}_lowest_tenth": round(lowest_tenth(known), 4)}
    if without := sum(row.mean_logprob is None for row in rows):
        figures["texts_without_logprobs"] = without
    return figures
