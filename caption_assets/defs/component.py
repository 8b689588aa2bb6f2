"""The pipeline as a Dagster component: `build_defs` for a `defs.yaml`."""

import dagster as dg
from dagster.components import Scaffolder, ScaffoldRequest, scaffold_component
from pydantic import BaseModel, ValidationError

from caption_assets.defs.build import build_defs
from caption_assets.errors import ConfigError
from caption_assets.settings import PipelineSettings
from caption_assets.settings.file import problems


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
        rendered = context.resolution_context.at_path("attributes").resolve_value(given)
        try:
            return cls(PipelineSettings.model_validate(rendered))
        except ValidationError as error:
            raise ConfigError(f"attributes of {context.path}", problems(error)) from None

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        return build_defs(self.settings)
