"""What a user chooses for the whole pipeline: the dataset, the captioning model, the text model."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import dagster as dg
from pydantic import Field

from caption_assets.dataset import Dataset
from caption_assets.models.engine import EngineOptions, EngineSession
from caption_assets.models.select import EngineName, create_engine
from caption_assets.models.variants import Variant, caption_variant, enhance_variant
from caption_assets.models.weights import model_source


class ClipDataset(dg.ConfigurableResource):
    """The dataset: a folder or fsspec URL whose sub-folders are the shards."""

    root: str = Field(description="Folder or fsspec URL whose sub-folders are the shards of clips.")

    def dataset(self) -> Dataset:
        return Dataset(self.root)


class _Model(dg.ConfigurableResource):
    engine: str = Field(default="auto", description="Engine: auto, transformers, vllm or openai.")
    device: str = Field(default="auto", description="Device: auto, cpu, cuda, or one GPU as cuda:<n>.")
    precision: str = Field(default="auto", description="Precision: auto (bf16 on a GPU, fp32 on a CPU) or fp32.")
    model_path: str | None = Field(
        default=None, description="Folder or Hugging Face id (owner/name@revision) to load instead."
    )
    model_dir: str | None = Field(
        default=None, description="Folder for downloaded weights; Hugging Face's cache by default."
    )
    temperature: float | None = Field(default=None, ge=0, le=2, description="Overrides the variant's; 0 is greedy.")
    top_p: float | None = Field(default=None, gt=0, le=1, description="Overrides the variant's.")
    repetition_penalty: float | None = Field(default=None, gt=0, le=4, description="Overrides the variant's.")

    def variant(self) -> Variant:
        raise NotImplementedError

    @contextmanager
    def session(self, batch_size: int) -> Iterator[EngineSession]:
        """A session of the chosen model, closed with the block. Nothing is loaded before it is needed.

        Raises ConfigError for an unknown variant, ModelError where no engine can run it.
        """
        chosen = {name: getattr(self, name) for name in ("temperature", "top_p", "repetition_penalty")}
        variant = self.variant()
        sampling = replace(variant.sampling, **{name: value for name, value in chosen.items() if value is not None})
        variant = replace(variant, sampling=sampling)
        source = model_source(variant, self.model_path)
        if self.model_path is not None:
            variant = replace(variant, frames=None)  # another checkpoint states its own
        options = EngineOptions(self.device, self.precision, batch_size, sampling)
        engine: EngineName = self.engine  # type: ignore[assignment]
        session = EngineSession(
            variant, source, create_engine(variant, source, options, engine=engine, model_dir=self.model_dir)
        )
        try:
            yield session
        finally:
            session.close()


class CaptionModel(_Model):
    """The vision-language model that captions windows, and the GPU it runs on."""

    model_variant: str = Field(default="demo", description="Variant of the captioning model; also the caption key.")

    def variant(self) -> Variant:
        return caption_variant(self.model_variant)


class TextModel(_Model):
    """The text model that enhances captions, and the GPU it runs on."""

    algorithm: str = Field(default="demo_lm", description="Enhancement algorithm: demo_lm, qwen_lm, qwen2.5 or qwen3.")

    def variant(self) -> Variant:
        return enhance_variant(self.algorithm)
