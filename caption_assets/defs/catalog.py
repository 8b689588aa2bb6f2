"""What the catalog says of an asset besides what it makes: who answers for it, where its code is, how fresh it is."""

import inspect
import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from caption_assets.settings import PipelineSettings
from caption_assets.steps.report import Step

_TAG = re.compile(r"[^A-Za-z0-9._-]")
_LONGEST_TAG = 63


def catalog(settings: PipelineSettings, step: Step, keys: Sequence[str]) -> dict[str, Any]:
    """Arguments of `dg.asset`."""
    own = dict(zip(("caption_key", "text_key"), keys, strict=False)) | {"step": step.name}
    tags = {f"caption_assets/{name}": _TAG.sub("_", value)[:_LONGEST_TAG] for name, value in own.items()}
    return {**deployment(settings), "tags": tags | dict(settings.tags)}


def deployment(settings: PipelineSettings) -> dict[str, Any]:
    """What the deployment says of all its assets, as arguments of `dg.asset`."""
    hours = settings.fresh_within_hours
    return {
        "owners": list(settings.owners),
        "tags": dict(settings.tags),
        "freshness_policy": None if hours is None else dg.FreshnessPolicy.time_window(timedelta(hours=hours)),
    }


def code_reference(body: Callable[..., Any]) -> dict[str, dg.MetadataValue]:
    """The metadata that leads to an asset's code, which is the function `body`."""
    line = inspect.getsourcelines(body)[1]
    place = dg.LocalFileCodeReference(
        file_path=inspect.getsourcefile(body) or "", line_number=line, label=body.__name__
    )
    return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[place])}
