"""What a user chooses for the whole pipeline: the dataset, the captioning model, the text model."""

from contextlib import AbstractContextManager

import dagster as dg
from pydantic import Field

from caption_assets.dataset import Dataset, open_dataset
from caption_assets.models.choice import ModelChoice
from caption_assets.models.engines.session import EngineSession
from caption_assets.models.variants import Variant
from caption_assets.models.weights.checkpoints import Checkpoint
from caption_assets.settings import CaptionModelSettings, ModelSettings, QualitySettings, TextModelSettings
from caption_assets.steps import model_session


class ClipDataset(dg.ConfigurableResource):
    """The dataset: a folder or fsspec URL whose sub-folders are the shards."""

    root: str = Field(description="Folder or fsspec URL whose sub-folders are the shards of clips.")

    def dataset(self) -> Dataset:
        return open_dataset(self.root)


class _Model(dg.ConfigurableResource, ModelSettings):
    """A `ModelChoice` as a resource."""

    @property
    def choice(self) -> ModelChoice:
        raise NotImplementedError

    @property
    def key(self) -> str:
        return self.choice.key

    def model(self) -> tuple[Variant, Checkpoint]:
        return self.choice.model()

    def session(self, batch_size: int) -> AbstractContextManager[EngineSession]:
        return model_session(self.choice.settings, batch_size)


class Quality(dg.ConfigurableResource, QualitySettings):
    """What rules have against captions and enhanced captions."""


class CaptionModel(_Model, CaptionModelSettings):
    """The vision-language model that captions windows, and the GPU it runs on."""

    @property
    def choice(self) -> ModelChoice:
        return ModelChoice(self)


class TextModel(_Model, TextModelSettings):
    """The text model that enhances captions, and the GPU it runs on."""

    @property
    def choice(self) -> ModelChoice:
        return ModelChoice(self)
