"""What a deployment chooses by environment variables: CAPTION_ASSETS_<NAME>, the names being those of the settings."""

import json
import os
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from caption_assets.errors import ConfigError
from caption_assets.settings import (
    ENVIRONMENT_PREFIX,
    CaptionModelSettings,
    CaptionSettings,
    EnhanceSettings,
    ModelSettings,
    PreviewSettings,
    TextModelSettings,
    WindowSettings,
    WorkerSettings,
    env_of,
    is_shared,
    settings_fields,
)

C = TypeVar("C", bound=type[BaseModel])

DATASET, OUTPUT, SOURCE_ROOT = (ENVIRONMENT_PREFIX + name for name in ("DATASET", "OUTPUT", "SOURCE_ROOT"))
_SETTINGS = (
    WindowSettings,
    PreviewSettings,
    CaptionSettings,
    EnhanceSettings,
    CaptionModelSettings,
    TextModelSettings,
    WorkerSettings,
)
# Read where they are needed, and no settings of a run.
_OTHERS = frozenset(ENVIRONMENT_PREFIX + name for name in ("GPU_LEASES", "RENDERS_ONLY"))


def variable(name: str) -> str | None:
    """The value of an environment variable; None where it is not set, or blank."""
    return os.environ.get(name) or None


def variables(settings: type[BaseModel], field: str) -> tuple[str, ...]:
    """The environment variables that set a field; the first that is there counts."""
    own = dict(settings_fields(settings, env_of))[field]
    info = settings.model_fields[field]
    if issubclass(settings, TextModelSettings) and field in ModelSettings.model_fields and is_shared(info):
        return env_of(info, text=True), own
    return (own,)


def from_environment(settings: type[BaseModel]) -> Mapping[str, Any]:
    """The fields that the environment sets. Raises ConfigError for a value that cannot be."""
    chosen: dict[str, Any] = {}
    for field, info in settings.model_fields.items():
        name = next((name for name in variables(settings, field) if variable(name)), None)
        if name is None:
            continue
        text = variable(name) or ""
        try:
            value = json.loads(text) if field == "vllm_args" else text
            chosen[field] = getattr(settings.model_validate({field: value}), field)
        except ValidationError as error:
            what = (info.description or "").rstrip(".")
            raise ConfigError(f"{name}={text!r}", error.errors()[0]["msg"], f"it sets {field}: {what}") from None
        except ValueError as error:
            raise ConfigError(f"{name}={text!r}", f"it is not JSON ({error})", 'write it as {"name": value}') from None
    return chosen


def check_names() -> None:
    """Raises ConfigError for a variable with our prefix that sets nothing: a misspelt choice is no choice."""
    known = {DATASET, OUTPUT, SOURCE_ROOT, *_OTHERS}
    known |= {name for settings in _SETTINGS for field in settings.model_fields for name in variables(settings, field)}
    unknown = sorted(name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX) and name not in known)
    if unknown:
        fix = "docs/dagster.md has their names; take it out of the environment if it is not meant for this project"
        raise ConfigError(f"environment variable {unknown[0]}", "there is no such setting", fix)


def defaults_from_environment(config: C) -> C:
    """Gives a config class the defaults that the environment sets; a class decorator."""
    chosen = from_environment(config)
    fields: Any = config.model_fields  # type: ignore[call-overload]
    for name, value in chosen.items():
        fields[name].default = value
    if chosen:
        config.model_rebuild(force=True)
    return config
