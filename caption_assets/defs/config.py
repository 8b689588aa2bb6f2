"""The config of an asset: its settings, with the pipeline's as defaults, which the launchpad then shows."""

from typing import Any

import dagster as dg
from pydantic import create_model

from caption_assets.settings import Settings


def config_class(settings: Settings) -> type[Any]:
    """A config class with the fields of `settings`, and their values for defaults."""
    of = type(settings)
    chosen: type[Any] = create_model(f"{of.__name__}Config", __base__=(dg.Config, of), __doc__=of.__doc__)
    for name, field in chosen.model_fields.items():
        field.default = getattr(settings, name)
    chosen.model_rebuild(force=True)
    return chosen
