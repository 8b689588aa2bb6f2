"""The pipeline as a Dagster component: `build_defs` for a `defs.yaml`."""

from typing import Any

import dagster as dg
from dagster.components import Scaffolder, ScaffoldRequest, scaffold_component
from pydantic import BaseModel, ValidationError

from caption_assets.defs.build import build_defs
from caption_assets.errors import ConfigError
from caption_assets.settings import PipelineSettings
from caption_assets.settings.file import problems

# What no Python literal begins with.
_TEXT = "text: "


def _rendered(context: dg.ResolutionContext, value: Any) -> Any:
    """A value with the templates in it rendered. Texts stay texts, which the settings read by themselves: Dagster would
    have any that looks like a Python literal as that, so that neither a folder "2024" nor GPUs "0,2" could be named."""
    if isinstance(value, dict):
        return {name: _rendered(context.at_path(name), part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rendered(context.at_path(k), part) for k, part in enumerate(value)]
    if not isinstance(value, str) or not any(mark in value for mark in ("{{", "{%")):
        return value
    found = context.resolve_value(value)
    if found is None or isinstance(found, dict | list):
        return found
    return str(context.resolve_value(f"{_TEXT}{value}")).removeprefix(_TEXT)


class CaptionPipelineScaffolder(Scaffolder):
    """Writes a `defs.yaml` with what most people set; the pipeline is called as its folder."""

    def scaffold(self, request: ScaffoldRequest) -> None:
        attributes = {
            "name": request.target_path.name,
            "dataset": "/path/to/clips",
            "output": "/path/to/output",
            "captions": [{"model_variant": "demo"}],
            "enhanced": [{"model_variant": "demo_lm"}],
        }
        scaffold_component(request, attributes)


@dg.scaffold_with(CaptionPipelineScaffolder)
class CaptionPipeline(dg.Component):
    """Windows, previews, captions and enhanced captions of a dataset of video clips, shard by shard.

    Its attributes are those of `PipelineSettings`. Instances with different names stand side by side.
    """

    def __init__(self, settings: PipelineSettings) -> None:
        self.settings = settings

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        return PipelineSettings

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> "CaptionPipeline":
        """`attributes` as they are in the file, with templates in them rendered."""
        given = {} if attributes is None else attributes.model_dump(exclude_unset=True)
        rendered = _rendered(context.resolution_context.at_path("attributes"), given)
        try:
            return cls(PipelineSettings.model_validate(rendered))
        except ValidationError as error:
            raise ConfigError(f"attributes of {context.path}", problems(error)) from None

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        return build_defs(self.settings)
