"""What a run of the command is to do: what its flags say, then what the deployment's environment and file do."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click
from click.core import ParameterSource

from caption_assets.cli.flags import given_fields, parsed_as
from caption_assets.models.choice import default_text_variant, default_variant
from caption_assets.settings import (
    PIPELINE_PARTS,
    Captions,
    EnhancedCaptions,
    PipelineSettings,
)
from caption_assets.settings.environment import deployed_settings, from_environment

# By the names of the flags and by those of the settings.
_PLACES = {"roots": "dataset", "output_path": "output", "source_root": "source_root"}


def given_flags(context: click.Context) -> dict[str, Any]:
    """The values of the flags that were given, by the parameter's name."""
    return {
        name: value
        for name, value in context.params.items()
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT
    }


def run_settings(
    given: Mapping[str, Any], deployed: PipelineSettings | None = None, *, writes: bool = True
) -> PipelineSettings:
    """What the flags that were given say, on top of the settings of `deployed`, by default those of this deployment.

    A flag of a model is for each model of the deployment. One that chooses a variant leaves those of that variant, or
    takes it as a model of its own. Raises click.UsageError for what cannot be, and where nothing names a dataset and,
    for a command that `writes`, an output; ConfigError for what cannot be in the deployment.
    """
    deployed = deployed_settings() if deployed is None else deployed
    chosen = deployed.model_dump(exclude_unset=True)
    chosen |= {field: given[name] for name, field in _PLACES.items() if name in given}
    if "roots" in given:
        chosen["dataset"] = "\n".join(given["roots"])
    for flag, field in (("--dataset", "dataset"), ("--output-path", "output")):
        if field not in chosen and (writes or field == "dataset"):
            raise click.UsageError(f"Missing option '{flag}', and no settings of a deployment name it.")
    for name, of in PIPELINE_PARTS.items():
        chosen[name] = parsed_as(of, {**chosen.get(name, {}), **given_fields(given, of)})
    captions = _models(Captions, chosen.get("captions"), given, default_variant)
    first = captions[0].model_variant if captions else default_variant()
    texts = _models(EnhancedCaptions, chosen.get("enhanced"), given, lambda: default_text_variant(first))
    return PipelineSettings.model_validate({**chosen, "captions": captions, "enhanced": texts})


def _models(
    of: type[Any], deployed: Sequence[Mapping[str, Any]] | None, given: Mapping[str, Any], default: Callable[[], str]
) -> tuple[Any, ...]:
    flags = given_fields(given, of)
    own = [{}] if deployed is None else [from_environment(of)]
    each: Sequence[Mapping[str, Any]] = own if deployed is None else deployed
    if variant := flags.get("model_variant"):
        each = [model for model in each if model.get("model_variant") == variant] or own
    models = [{**model, **flags} for model in each]

    def usual(model: Mapping[str, Any]) -> dict[str, str]:
        """What a command has other than a deployment, where neither says it."""
        return {"gpus": "all"} | ({} if "model_variant" in model else {"model_variant": default()})

    return tuple(parsed_as(of, {**usual(m), **m}) for m in models)
