"""Choosing a model: settings in; the row that is to run, its checkpoint and an engine for it out."""

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from caption_assets.errors import ConfigError, ModelError
from caption_assets.models.engines.base import CaptionEngine, EngineOptions, ServerOptions
from caption_assets.models.engines.select import create_engine
from caption_assets.models.engines.transformers import require_classes
from caption_assets.models.families import FAMILIES, Family
from caption_assets.models.gpus import visible_gpus
from caption_assets.models.seats import Seats, seats
from caption_assets.models.variants import (
    Sampling,
    Variant,
    caption_variant,
    own_variant,
    require_kind,
    text_variant,
)
from caption_assets.models.weights.checkpoints import Checkpoint, checkpoint_family, checkpoint_of
from caption_assets.models.weights.downloads import locate_config
from caption_assets.records import SampledFrames
from caption_assets.settings import (
    CaptionModelSettings,
    Captions,
    CaptionVariant,
    EnhancedCaptions,
    TextModelSettings,
    TextVariant,
)
from caption_assets.settings.variants import CAPTION_VARIANTS

_SAMPLING = tuple(field.name for field in fields(Sampling))
_PIXELS = ("min_pixels", "max_pixels", "video_pruning")
_GIB = 1 << 30
# Of names of files, with what comes before and behind a key in them.
_LONGEST_KEY = 100


@dataclass(frozen=True)
class ModelChoice:
    """A model as its settings choose it, for captions or for texts. Nothing is loaded before a session needs it."""

    settings: CaptionModelSettings | TextModelSettings

    @property
    def key(self) -> str:
        """The key that the model's texts stand under. Raises ConfigError for an invalid one."""
        key = self.settings.caption_key
        return self._row.name if key is None else _checked_key(key, f"caption key {key!r}")

    @property
    def identity(self) -> dict[str, Any]:
        """What of the choice decides its texts, by name; values that are not chosen are the row's. Nothing is loaded.

        Raises ConfigError for a precision that the row does not come in.
        """
        settings, row = self.settings, self._row
        own = settings.model_id or (settings.model_path and os.path.abspath(os.path.expanduser(settings.model_path)))
        chosen: dict[str, Any] = {
            "model": own or f"{row.model_id}@{row.revision}".removesuffix("@"),
            "precision": settings.precision if own else row.in_precision(settings.precision).precision,
            **({} if own else asdict(row.sampling)),
            **self._chosen_sampling,
        }
        for name in ("server_model", *_PIXELS):
            if value := getattr(settings, name, None):
                chosen[name] = value
        return chosen

    def check(self) -> None:
        """Raises ConfigError or ModelError for what cannot be on any machine."""
        settings = self.settings
        if settings.model_id is not None:
            self._own_checkpoint()
        elif settings.model_path is None and settings.engine == "transformers":
            require_classes(self._row.family, f"variant {self._row.name!r} with engine 'transformers'")

    def model(self) -> tuple[Variant, Checkpoint]:
        """The chosen row of the table as it is to run, and its checkpoint.

        Loads nothing; asks Hugging Face for the config of a model that is not in the table, if it is not here.
        Raises ConfigError for choices that do not go together, ModelError for a model that is unavailable.
        """
        self._refuse_what_does_nothing()
        row, checkpoint = self._row, self._own_checkpoint()
        if checkpoint is None:
            checkpoint = checkpoint_of(row)
        else:
            row = own_variant(row, self._own_family(checkpoint), checkpoint.model_id, checkpoint.revision)
        row = replace(row, name=self.key, sampling=replace(row.sampling, **self._chosen_sampling))
        if isinstance(self.settings, CaptionModelSettings):
            row = replace(row, **{name: getattr(self.settings, name) for name in _PIXELS})
        return row.in_precision(self.settings.precision), checkpoint

    def options(
        self, batch_size: int, encode_mp4: Callable[[SampledFrames], bytes] | None = None, *, several: bool = False
    ) -> EngineOptions:
        """How the model is to run. `batch_size` is how many requests run together; `encode_mp4` is for servers that
        take video files; `several` says that there is more than one question to a request. Raises as `model`."""
        settings = self.settings
        return EngineOptions(
            device=settings.device,
            precision=settings.precision,
            batch_size=batch_size,
            sampling=self.model()[0].sampling,
            tensor_parallel=settings.tensor_parallel,
            in_flight_bytes=round(settings.in_flight_gib * _GIB),
            stuck_s=settings.engine_timeout_s,
            trust_remote_code=settings.trust_remote_code,
            several=several,
            server=ServerOptions(
                settings.server_model, settings.server_video, settings.server_timeout_s, encode_mp4=encode_mp4
            ),
            vllm_args=settings.vllm_args,
        )

    def engine(self, options: EngineOptions) -> CaptionEngine:
        """An engine for the model, not started yet. Raises as `model`, and ModelError where no engine can run it."""
        variant, checkpoint = self.model()
        return create_engine(
            variant, checkpoint, options, engine=self.settings.engine, model_dir=self.settings.model_dir
        )

    def seats(self, cores: int) -> Seats:
        """Where engines for the model may run at once, on a CPU with so many cores. Raises as `seats.seats`."""
        settings = self.settings
        if settings.engine == "openai":
            return Seats()
        variant, _ = self.model()
        return seats(settings.gpus, variant, settings.precision, settings.device, settings.tensor_parallel, cores)

    @property
    def _row(self) -> Variant:
        if isinstance(self.settings, TextModelSettings):
            return text_variant(self.settings.model_variant)
        return caption_variant(self.settings.model_variant)

    @property
    def _chosen_sampling(self) -> dict[str, Any]:
        chosen = {name: getattr(self.settings, name) for name in _SAMPLING}
        return {name: value for name, value in chosen.items() if value is not None}

    def _refuse_what_does_nothing(self) -> None:
        """Raises ConfigError for a setting that needs another one."""
        settings, engine = self.settings, self.settings.engine
        if settings.server_model is not None and engine != "openai":
            asked, wrong = f"server_model {settings.server_model!r}", f"engine {engine!r} asks no server"
            raise ConfigError(asked, wrong, "choose engine openai, or leave it out")
        if settings.vllm_args and engine in ("openai", "transformers"):
            asked, wrong = f"vllm_args {', '.join(settings.vllm_args)}", f"engine {engine!r} is no vLLM of the run"
            raise ConfigError(asked, wrong, "choose engine vllm, or leave them out")
        if settings.model_family != "auto" and settings.model_id is None and settings.model_path is None:
            asked, wrong = f"model_family {settings.model_family!r}", "no model of your own is given"
            raise ConfigError(asked, wrong, "give it as model_id or model_path, or leave model_family at auto")

    def _own_checkpoint(self) -> Checkpoint | None:
        """The checkpoint that the user gives in place of the row's."""
        model_id, model_path = self.settings.model_id, self.settings.model_path
        if model_id is not None and model_path is not None:
            asked = f"model_id {model_id!r} and model_path {model_path!r}"
            raise ConfigError(asked, "they are two models", "give one of them")
        if model_path is not None:
            return checkpoint_of(self._row, model_path)
        if model_id is None:
            return None
        name, _, revision = model_id.partition("@")
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
            fix = "give owner/name or owner/name@revision; a folder is given as model_path"
            raise ConfigError(f"model_id {model_id!r}", "it is no Hugging Face id", fix)
        return Checkpoint(name, revision or "main")

    def _own_family(self, checkpoint: Checkpoint) -> Family:
        """The family of a model that the user gives: what its config says, or else what the user declares."""
        settings, row = self.settings, self._row
        declared = None if settings.model_family == "auto" else FAMILIES[settings.model_family]
        if checkpoint.folder is None and (declared or settings.engine == "openai"):
            return declared or row.family  # the engine looks again, once the model is here; a server's need not be
        family = checkpoint_family(locate_config(checkpoint, settings.model_dir), declared)
        if declared not in (None, family):
            asked, fix = f"model {checkpoint.model_id} of family {declared}", "leave model_family at auto"
            raise ModelError(asked, f"it is of family {family}", fix)
        require_kind(row, family, f"model {checkpoint.model_id}")
        return family


def prompt_key(key: str, name: str) -> str:
    """The key of a model's captions by the prompt of this name; "" is the model's own.

    Raises ConfigError for one that cannot stand in the output, or that stands there for captions of another variant.
    """
    if not name:
        return key
    whole, asked = f"{key}-{name}", f"prompt {name!r} of {key}"
    for variant in CAPTION_VARIANTS:
        if variant.startswith(f"{key}-") and f"{whole}-".startswith(f"{variant}-"):
            wrong = f"its captions would be called {whole}, which are those of variant {variant}"
            raise ConfigError(asked, wrong, "give the prompt another name")
    return _checked_key(whole, asked)


def prompt_name(key: str, model_key: str) -> str:
    """The inverse: the prompt's name in a `prompt_key`."""
    return key[len(model_key) + 1 :]


def check_keys(models: Sequence[Captions | EnhancedCaptions]) -> None:
    """Raises ConfigError for a key that cannot stand in the output, and for two that are told apart by nothing but
    their punctuation: neither Dagster's names nor people's eyes do that."""
    keys = [ModelChoice(model).key for model in models]
    pairs = zip(keys, models, strict=True)
    every = [prompt_key(key, name) for key, model in pairs for name in getattr(model, "asked", ("",))]
    twice = [key for key, count in Counter(map(identifier, every)).items() if count > 1]
    if twice:
        fix = "give one of them a caption_key of its own, or another name to its prompt"
        raise ConfigError(f"models {', '.join(keys)}", f"more than one of them is called {twice[0]}", fix)


def identifier(key: str) -> str:
    """A key as a name of Dagster's."""
    return re.sub(r"\W", "_", key)


def _checked_key(key: str, asked: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", key) or key.endswith("_enhanced") or len(key) > _LONGEST_KEY:
        fix = f"use at most {_LONGEST_KEY} letters, digits, '.', '_' and '-', and another end than _enhanced"
        raise ConfigError(asked, "it cannot stand in the output", fix)
    return key


def default_variant() -> CaptionVariant:
    """The caption variant where none is named: `qwen` with an NVIDIA GPU, else the embedded `demo`."""
    return "qwen" if visible_gpus() else "demo"


def default_text_variant(caption_variant: str) -> TextVariant:
    """The text variant where none is named: `demo_lm` for captions of `demo`, else `qwen_lm`."""
    return "demo_lm" if caption_variant == "demo" else "qwen_lm"
