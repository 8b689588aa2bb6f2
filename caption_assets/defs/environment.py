"""What a deployment chooses by environment variables: CAPTION_ASSETS_<NAME>, the names being those of the settings."""

import json
import os
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from caption_assets.errors import ConfigError
from caption_assets.settings import (
    ALL_SETTINGS,
    ENVIRONMENT_PREFIX,
    Captions,
    EnhancedCaptions,
    PipelineSettings,
    PreviewSettings,
    Settings,
    WindowSettings,
    WorkerSettings,
    is_mapping,
    variables_of,
)

DATASET, OUTPUT, SOURCE_ROOT, AUTOMATION = (
    ENVIRONMENT_PREFIX + name for name in ("DATASET", "OUTPUT", "SOURCE_ROOT", "AUTOMATION")
)
# Read where they are needed, and no settings of a run.
_OTHERS = frozenset(ENVIRONMENT_PREFIX + name for name in ("GPU_LEASES", "RENDERS_ONLY"))


def settings_from_environment() -> PipelineSettings:
    """The pipeline of a deployment: the demo's, with what the environment sets.

    CAPTION_ASSETS_DATASET, CAPTION_ASSETS_OUTPUT, CAPTION_ASSETS_SOURCE_ROOT: where clips are read and results
    written (default: the demo's folders below the working directory). CAPTION_ASSETS_AUTOMATION: whether work is done
    as shards come. Every setting has a variable, too, which `settings` declares beside it. Raises ConfigError for a
    value that cannot be, and for a name that is none.
    """
    check_names()
    given = {"dataset": DATASET, "output": OUTPUT, "source_root": SOURCE_ROOT, "automation": AUTOMATION}
    chosen = {field: text for field, name in given.items() if (text := variable(name)) is not None}
    if (text := chosen.get("automation", "true").lower()) not in ("true", "false"):
        raise ConfigError(f"{AUTOMATION}={text!r}", "it is neither true nor false", "write one of them")
    return PipelineSettings(
        **chosen,  # type: ignore[arg-type]
        windows=WindowSettings(**from_environment(WindowSettings)),
        previews=PreviewSettings(**from_environment(PreviewSettings)),
        captions=(Captions(**from_environment(Captions)),),
        enhanced=(EnhancedCaptions(**from_environment(EnhancedCaptions)),),
        workers=WorkerSettings(**from_environment(WorkerSettings)),
    )


def variable(name: str) -> str | None:
    """The value of an environment variable; None where it is not set, or blank."""
    return os.environ.get(name) or None


def from_environment(settings: type[Settings]) -> Mapping[str, Any]:
    """The fields that the environment sets. Raises ConfigError for a value that cannot be."""
    chosen: dict[str, Any] = {}
    for field, names in variables_of(settings).items():
        name = next((name for name in names if variable(name)), None)
        if name is None:
            continue
        text = variable(name) or ""
        try:
            value = json.loads(text) if is_mapping(settings.model_fields[field]) else text
            chosen[field] = getattr(settings.model_validate({field: value}), field)
        except ValidationError as error:
            what = (settings.model_fields[field].description or "").rstrip(".")
            raise ConfigError(f"{name}={text!r}", error.errors()[0]["msg"], f"it sets {field}: {what}") from None
        except ValueError as error:
            raise ConfigError(f"{name}={text!r}", f"it is not JSON ({error})", 'write it as {"name": value}') from None
    return chosen


def check_names() -> None:
    """Raises ConfigError for a variable with our prefix that sets nothing: a misspelt choice is no choice."""
    known = {DATASET, OUTPUT, SOURCE_ROOT, AUTOMATION, *_OTHERS}
    known |= {name for settings in ALL_SETTINGS for names in variables_of(settings).values() for name in names}
    unknown = sorted(name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX) and name not in known)
    if unknown:
        fix = (
            "see docs/reference.md for their names, or take it out of the environment if it is meant for something else"
        )
        raise ConfigError(f"environment variable {unknown[0]}", "it is unknown", fix)
