"""What a user chooses for the whole pipeline: the dataset, the captioning model, the text model."""

from contextlib import AbstractContextManager
from typing import Any, ClassVar

import dagster as dg
from dagster._core.definitions.definition_config_schema import DefinitionConfigSchema
from pydantic import Field

from caption_assets.dataset import Dataset
from caption_assets.defs.config import checked
from caption_assets.errors import CaptionAssetsError
from caption_assets.models.choice import ModelChoice
from caption_assets.models.engines.session import EngineSession
from caption_assets.models.variants import Variant
from caption_assets.models.weights.checkpoints import Checkpoint
from caption_assets.settings import (
    CaptionModelSettings,
    CheckSettings,
    DatasetSettings,
    ModelSettings,
    QualitySettings,
    TextModelSettings,
    part,
)
from caption_assets.steps import model_session
from caption_assets.steps.sharding import dataset_for
from caption_assets.store.tables import ENHANCED_CAPTIONS, WINDOW_CAPTIONS


class _Checked(dg.ConfigurableResource):
    """A resource whose config refuses what its settings do."""

    @property
    def _config_schema(self) -> Any:
        """Where Dagster takes the schema of a resource from; it has no other way to give one."""
        return DefinitionConfigSchema(checked(super()._config_schema.as_field(), type(self).model_fields))


class ClipDataset(_Checked, DatasetSettings):
    """The dataset: a folder or fsspec URL whose sub-folders are the shards, or one of another kind."""

    root: str = Field(description="The dataset, by its path or URL; of several, a line each.")
    output: str = Field(description="Output root, which keeps how many shards a shard size makes.")

    def dataset(self) -> Dataset:
        return dataset_for(self.root, part(self, DatasetSettings), self.output)


class _Model(_Checked, ModelSettings):
    """A `ModelChoice` as a resource."""

    asked_by: ClassVar[str]

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Says what cannot be at the start of a run, before a step has a slot of a pool or an engine is started."""
        if not _is_asked(context, self.asked_by):
            return
        try:
            with self.session(1):
                pass
        except CaptionAssetsError as error:
            if context.log is not None:
                context.log.error(str(error))
            raise dg.Failure(str(error), allow_retries=False) from None

    @property
    def choice(self) -> ModelChoice:
        raise NotImplementedError

    @property
    def key(self) -> str:
        return self.choice.key

    def model(self) -> tuple[Variant, Checkpoint]:
        return self.choice.model()

    def session(self, batch_size: int, *, several: bool = False) -> AbstractContextManager[EngineSession]:
        return model_session(self.choice.settings, batch_size, several=several)


class Quality(_Checked, QualitySettings):
    """What rules have against captions and enhanced captions."""


class Checks(_Checked, CheckSettings):
    """From when on a shard does not pass the checks of its assets."""


class CaptionModel(_Model, CaptionModelSettings):
    """The vision-language model that captions windows, and the GPU it runs on."""

    asked_by: ClassVar[str] = WINDOW_CAPTIONS.name

    @property
    def choice(self) -> ModelChoice:
        return ModelChoice(self)


class TextModel(_Model, TextModelSettings):
    """The text model that enhances captions, and the GPU it runs on."""

    asked_by: ClassVar[str] = ENHANCED_CAPTIONS.name

    @property
    def choice(self) -> ModelChoice:
        return ModelChoice(self)


def _is_asked(context: dg.InitResourceContext, table: str) -> bool:
    """Whether a step of the run, or whatever else runs, writes a table of this name."""
    run = context.run
    if run is None:
        return False
    steps = run.step_keys_to_execute or [key.to_python_identifier() for key in run.asset_selection or ()]
    return not steps or any(table in step for step in steps)
