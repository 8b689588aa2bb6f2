"""What a deployment chooses, by a file of settings and by CAPTION_ASSETS_<NAME>, the names being those of the settings.

Read when the code location loads, so that whoever asks for a shard, a person, a schedule or a backfill, gets the same.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from caption_assets.errors import ConfigError
from caption_assets.settings import (
    ALL_SETTINGS,
    ENVIRONMENT_PREFIX,
    PIPELINE_PARTS,
    Captions,
    EnhancedCaptions,
    ExportSettings,
    PipelineSettings,
    Settings,
    is_mapping,
    variables_of,
)
from caption_assets.settings.file import problem_within, problems, read_settings, unambiguous

SETTINGS = ENVIRONMENT_PREFIX + "SETTINGS"
_FILE = Path("caption_assets.yaml")
_SCALARS = (
    "dataset",
    "output",
    "source_root",
    "automation",
    "fresh_within_hours",
    "failure_webhook",
    "review_url",
    "windows_per_run",
    "executor",
)
_PLAIN = {name: ENVIRONMENT_PREFIX + name.upper() for name in _SCALARS}
_LISTS: Mapping[str, type[Settings]] = {"captions": Captions, "enhanced": EnhancedCaptions, "exports": ExportSettings}
# What there is of each where neither says more.
_DEFAULTS: Mapping[str, list[dict[str, Any]]] = {"captions": [{}], "enhanced": [{}], "exports": []}
# Formats of exports, with commas: in place of those of the file.
_EXPORT = ENVIRONMENT_PREFIX + "EXPORT"
# Read where they are needed, and no settings of a run; in words, those that a deployment may set. What can be wrong in
# one, `defs.build` has it read as it loads.
_OTHERS: Mapping[str, str] = {
    ENVIRONMENT_PREFIX + name: about
    for name, about in {
        "GPU_LEASES": "Folder of the locks by which runs share GPUs; what uses the same GPUs must have the same.",
        "GPU_RUN_TAGS": "Tags of runs that ask a model, as JSON by name: what Kubernetes is to give them, say.",
        "CORES": "Cores that a process takes for its own, where it may have fewer than it sees; Ray's are known.",
        "REVIEW_TOKEN": "What `caption-assets review --serve` wants of those who read it from elsewhere.",
        "RENDERS_ONLY": "",
    }.items()
}
SECRETS = frozenset(ENVIRONMENT_PREFIX + name for name in ("REVIEW_TOKEN", "FAILURE_WEBHOOK", "GPU_RUN_TAGS"))
"""Variables that are shown to nobody: whoever has a webhook's address can write there, and pods' tags may have keys."""


def deployed_settings() -> PipelineSettings:
    """The pipeline of this deployment: the demo's, with what the file sets, with what the environment sets.

    The file is that of CAPTION_ASSETS_SETTINGS, or else `caption_assets.yaml` in the working directory, if there is
    one. CAPTION_ASSETS_DATASET, CAPTION_ASSETS_OUTPUT and CAPTION_ASSETS_SOURCE_ROOT say where clips are read and
    results written, CAPTION_ASSETS_AUTOMATION whether work is asked for as shards come. Every setting has a variable,
    too, which `settings` declares beside it, and which is for each model of the file. Raises ConfigError for a value
    that cannot be, and for a name that is none.
    """
    check_names()
    chosen = _from_file()
    for name, variable_name in _PLAIN.items():
        if text := variable(variable_name):
            chosen[name] = text
    for name, of in PIPELINE_PARTS.items():
        chosen[name] = {**chosen.get(name, {}), **from_environment(of)}
    if formats := variable(_EXPORT):
        chosen["exports"] = [{"format": name.strip()} for name in formats.split(",") if name.strip()]
    for name, each in _LISTS.items():
        chosen[name] = [{**entry, **from_environment(each)} for entry in chosen.get(name, _DEFAULTS[name])]
    try:
        return PipelineSettings.model_validate(chosen)
    except ValidationError as error:
        raise ConfigError("the environment's settings", problems(error), "see docs/reference.md for values") from None


def deployment_variables() -> Iterator[tuple[str, str, Any, str]]:
    """Of a deployment as a whole: each variable, its name in the file of settings ("" for none), its default, and what
    it says.
    """
    yield SETTINGS, "", None, f"The file of settings; by default `{_FILE}` in the working directory, if there is one."
    for name, variable_name in _PLAIN.items():
        field = PipelineSettings.model_fields[name]
        yield variable_name, name, field.default, field.description or ""
    yield _EXPORT, "", None, "Formats of exports, with commas, in place of those of the file."
    yield from ((name, "", None, about) for name, about in _OTHERS.items() if about)


def has_file() -> bool:
    """Whether the deployment has a file of settings."""
    return variable(SETTINGS) is not None or _FILE.is_file()


def _from_file() -> dict[str, Any]:
    if named := variable(SETTINGS):
        return read_settings(Path(named).expanduser())
    return read_settings(_FILE) if _FILE.is_file() else {}


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
            value = (
                json.loads(text, object_pairs_hook=unambiguous) if is_mapping(settings.model_fields[field]) else text
            )
            chosen[field] = getattr(settings.model_validate({field: value}), field)
        except ValidationError as error:
            what = (settings.model_fields[field].description or "").rstrip(".")
            raise ConfigError(f"{name}={text!r}", problem_within(error), f"it sets {field}: {what}") from None
        except ValueError as error:
            raise ConfigError(f"{name}={text!r}", f"it is not JSON ({error})", 'write it as {"name": value}') from None
    return chosen


def check_names() -> None:
    """Raises ConfigError for a variable with our prefix that sets nothing: a misspelt choice is no choice."""
    known = {SETTINGS, _EXPORT, *_PLAIN.values(), *_OTHERS}
    every: tuple[type[Settings], ...] = (*ALL_SETTINGS, *_LISTS.values())
    known |= {name for settings in every for names in variables_of(settings).values() for name in names}
    unknown = sorted(name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX) and name not in known)
    if unknown:
        fix = (
            "see docs/reference.md for their names, or take it out of the environment if it is meant for something else"
        )
        raise ConfigError(f"environment variable {unknown[0]}", "it is unknown", fix)
