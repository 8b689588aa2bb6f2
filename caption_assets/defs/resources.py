"""What a user chooses for the whole pipeline: the dataset, the captioning model, the text model."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import get_args

import dagster as dg
from pydantic import Field

from caption_assets.dataset import Dataset, open_dataset
from caption_assets.errors import ConfigError, ModelError
from caption_assets.media.mp4 import sampled_mp4
from caption_assets.models.engines.base import EngineOptions, EngineSession, ModelSource, ServerOptions, VideoForm
from caption_assets.models.engines.select import EngineName, create_engine
from caption_assets.models.variants import (
    Family,
    Precision,
    Variant,
    caption_variant,
    own_variant,
    text_variant,
)
from caption_assets.models.weights.checkpoints import model_source, source_family
from caption_assets.settings import CaptionModelSettings, ModelSettings, TextModelSettings

_SAMPLING = ("temperature", "top_p", "repetition_penalty")
_GIB = 1 << 30


class ClipDataset(dg.ConfigurableResource):
    """The dataset: a folder or fsspec URL whose sub-folders are the shards."""

    root: str = Field(description="Folder or fsspec URL whose sub-folders are the shards of clips.")

    def dataset(self) -> Dataset:
        return open_dataset(self.root)


class _Model(dg.ConfigurableResource, ModelSettings):
    @property
    def _row(self) -> Variant:
        raise NotImplementedError

    @property
    def key(self) -> str:
        """The key that the model's texts stand under. Raises ConfigError for one that cannot be."""
        if self.caption_key is None:
            return self._row.name
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", self.caption_key) or self.caption_key.endswith("_enhanced"):
            fix = "use letters, digits, '.', '_' and '-', and another end than _enhanced"
            raise ConfigError(f"caption key {self.caption_key!r}", "it cannot stand in the output", fix)
        return self.caption_key

    def model(self) -> tuple[Variant, ModelSource]:
        """The chosen row of the table as it is to run, and where its weights are.

        Loads nothing; asks Hugging Face for the config of a model that is not in the table, if it is not here.
        Raises ConfigError for a choice that there is not, ModelError for a model that cannot be had.
        """
        _one_of("precision", self.precision, [name for name in get_args(Precision) if name != "nvfp4"])
        row = self._row
        source = self._own_source()
        if source is None:
            source = model_source(row)
        else:
            row = own_variant(row, self._family(row, source), source.model_id, source.revision)
        sampling = {name: getattr(self, name) for name in _SAMPLING if getattr(self, name) is not None}
        row = replace(row, name=self.key, sampling=replace(row.sampling, **sampling))
        return row.in_precision(self.precision), source

    @contextmanager
    def session(self, batch_size: int) -> Iterator[EngineSession]:
        """A session of the chosen model, closed with the block. No weights are loaded before they are needed.

        Raises ConfigError and ModelError as `model` does, and ModelError where no engine can run it.
        """
        engine: EngineName = _one_of("engine", self.engine, get_args(EngineName))  # type: ignore[assignment]
        video: VideoForm = _one_of("server_video", self.server_video, get_args(VideoForm))  # type: ignore[assignment]
        variant, source = self.model()
        options = EngineOptions(
            device=self.device,
            precision=self.precision,
            batch_size=batch_size,
            sampling=variant.sampling,
            tensor_parallel=self.tensor_parallel,
            in_flight_bytes=round(self.in_flight_gib * _GIB),
            trust_remote_code=self.trust_remote_code,
            server=ServerOptions(self.server_model, video, self.server_timeout_s, encode_mp4=sampled_mp4),
            vllm_args=self.vllm_args,
        )
        session = EngineSession(
            variant, source, create_engine(variant, source, options, engine=engine, model_dir=self.model_dir)
        )
        try:
            yield session
        finally:
            session.close()

    def _own_source(self) -> ModelSource | None:
        """The weights of a model that the user gives in place of the row's."""
        if self.model_id is not None and self.model_path is not None:
            asked = f"model_id {self.model_id!r} and model_path {self.model_path!r}"
            raise ConfigError(asked, "they are two models", "give one of them")
        if self.model_path is not None:
            return model_source(self._row, self.model_path)
        if self.model_id is None:
            return None
        model_id, _, revision = self.model_id.partition("@")
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", model_id):
            fix = "give owner/name or owner/name@revision; a folder is given as model_path"
            raise ConfigError(f"model_id {self.model_id!r}", "it is no Hugging Face id", fix)
        return ModelSource(model_id, revision or "main")

    def _family(self, row: Variant, source: ModelSource) -> Family:
        """The family of a model that the user gives: what its config says, or else what the user says."""
        told: Family | None = None
        if self.model_family != "auto":
            told = self.model_family
        if source.folder is None and (told or self.engine == "openai"):
            return told or row.family  # the engine looks again, once the model is here; a server's need not be
        family = source_family(source, self.model_dir, told)
        if told not in (None, family):
            raise ModelError(f"model {source.model_id} of family {told}", f"it is of family {family}", "say so")
        if (family == "text") != row.is_text:
            need = "a text model" if row.is_text else "a vision-language model"
            raise ModelError(f"model {source.model_id}", f"it is of family {family}", f"give {row.name} {need}")
        return family


class CaptionModel(_Model, CaptionModelSettings):
    """The vision-language model that captions windows, and the GPU it runs on."""

    @property
    def _row(self) -> Variant:
        return caption_variant(self.model_variant)


class TextModel(_Model, TextModelSettings):
    """The text model that enhances captions, and the GPU it runs on."""

    @property
    def _row(self) -> Variant:
        return text_variant(self.model_variant)


def _one_of(field: str, value: str, choices: Sequence[str]) -> str:
    if value not in choices:
        raise ConfigError(f"{field} {value!r}", "there is no such one", f"choose one of {', '.join(choices)}")
    return value
