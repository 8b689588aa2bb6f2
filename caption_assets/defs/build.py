"""Everything put together."""

import json
import os
from collections.abc import Mapping
from typing import Any

import dagster as dg
from pydantic import ValidationError

from caption_assets.defs.assets import ASSETS
from caption_assets.defs.io_manager import SaveExportIOManager
from caption_assets.defs.jobs import caption_shards
from caption_assets.defs.resources import CaptionModel, ClipDataset, TextModel
from caption_assets.defs.sensors import missing_shards, register_new_shards
from caption_assets.errors import ConfigError
from caption_assets.settings import CaptionModelSettings, ModelSettings, TextModelSettings
from caption_assets.steps import Progress

DEMO_DATASET = "demo/clips"
DEMO_OUTPUT = "demo/output"

# What is of the machine and its servers rather than of one model: the text model takes it from the other's variables.
SHARED = frozenset(
    ["engine", "device", "tensor_parallel", "model_dir", "trust_remote_code", "in_flight_gib", "server_timeout_s"]
)


def build_defs(resource_overrides: Mapping[str, object] | None = None) -> dg.Definitions:
    """The Dagster definitions, with resources from the environment unless overridden.

    CAPTION_ASSETS_DATASET, CAPTION_ASSETS_OUTPUT, CAPTION_ASSETS_SOURCE_ROOT: where clips are read and results
    written (default: the demo's folders below the working directory). CAPTION_ASSETS_VARIANT and
    CAPTION_ASSETS_ENHANCER choose the models; every other setting of theirs has a variable of its name,
    CAPTION_ASSETS_DEVICE and CAPTION_ASSETS_ENHANCER_PRECISION for example. Backfills over several shards cannot
    change resources in the UI, so this is where a deployment chooses. Raises ConfigError for a value that cannot be.
    """
    return dg.Definitions(
        assets=ASSETS,
        jobs=[caption_shards],
        sensors=[register_new_shards],
        schedules=[missing_shards],
        resources={**default_resources(), **(resource_overrides or {})},
    )


def default_resources() -> dict[str, object]:
    """The resources that the environment asks for."""
    return {
        "clips": ClipDataset(root=_env("CAPTION_ASSETS_DATASET") or DEMO_DATASET),
        "save_export": SaveExportIOManager(
            output_path=_env("CAPTION_ASSETS_OUTPUT") or DEMO_OUTPUT, source_root=_env("CAPTION_ASSETS_SOURCE_ROOT")
        ),
        "caption_model": CaptionModel(**_from_environment(CaptionModelSettings)),
        "text_model": TextModel(**_from_environment(TextModelSettings)),
        "progress": Progress(),
    }


def variables(settings: type[ModelSettings], field: str) -> list[str]:
    """The environment variables that set a model's `field`; the first that is there counts."""
    if field in ("model_variant", "algorithm"):
        return ["CAPTION_ASSETS_VARIANT" if field == "model_variant" else "CAPTION_ASSETS_ENHANCER"]
    own, shared = f"CAPTION_ASSETS_ENHANCER_{field.upper()}", f"CAPTION_ASSETS_{field.upper()}"
    if settings is CaptionModelSettings:
        return [shared]
    return [own, shared] if field in SHARED else [own]


def _from_environment(settings: type[ModelSettings]) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for field in settings.model_fields:
        variable = next((name for name in variables(settings, field) if _env(name)), None)
        if variable is None:
            continue
        text = _env(variable)
        try:
            value = json.loads(text or "") if field == "vllm_args" else text
            chosen[field] = getattr(settings.model_validate({field: value}), field)
        except ValidationError as error:
            what = (settings.model_fields[field].description or "").rstrip(".")
            raise ConfigError(f"{variable}={text!r}", error.errors()[0]["msg"], f"it sets {field}: {what}") from None
        except ValueError as error:
            raise ConfigError(
                f"{variable}={text!r}", f"it is not JSON ({error})", 'write it as {"name": value}'
            ) from None
    return chosen


def _env(name: str) -> str | None:
    return os.environ.get(name) or None
