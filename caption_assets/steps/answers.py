"""The part of a caption's row that comes from the engine."""

from typing import Any

from caption_assets.errors import CaptionAssetsError
from caption_assets.models.engines.base import EngineSession, Result


def model_fields(session: EngineSession) -> dict[str, Any]:
    """Who wrote it."""
    info, source = session.info, session.source
    return {
        "model_id": source.model_id,
        "model_revision": source.revision,
        "precision": info.precision,
        "engine": info.engine,
        "engine_version": info.engine_version,
    }


def model_identity(session: EngineSession) -> list[str]:
    """What, with the same request, gives the same text; part of every fingerprint."""
    variant, source = session.variant, session.source
    return [variant.name, source.model_id, source.revision, variant.precision, repr(variant.sampling)]


def answer_fields(result: Result | CaptionAssetsError) -> dict[str, Any]:
    """What became of it: an engine's result, or the error that kept the request from it. A blank text is a failure."""
    if isinstance(result, CaptionAssetsError):
        return {"status": "failed", "error_kind": result.kind, "error": str(result)}
    fields: dict[str, Any] = {
        "finish_reason": result.finish_reason,
        "prompt_tokens": result.prompt_tokens,
        "output_tokens": result.output_tokens,
        "seconds": result.seconds,
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
