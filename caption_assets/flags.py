"""Command-line flags made from the settings' fields, under the names that NeMo Curator's example script has."""

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args

import annotated_types
import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from caption_assets.models.prompts import CAPTION_PROMPTS, ENHANCE_PROMPTS
from caption_assets.models.variants import CAPTION_VARIANTS, ENHANCE_VARIANTS, FAMILIES
from caption_assets.settings import (
    CaptionModelSettings,
    CaptionSettings,
    EnhanceSettings,
    ModelSettings,
    PreviewSettings,
    TextModelSettings,
    WindowSettings,
)

F = TypeVar("F", bound=Callable[..., Any])

# flag -> (settings, field). `--enhance-captioning-prompt-variant` is spelled so in the original.
FLAGS: Mapping[str, tuple[type[BaseModel], str]] = {
    "--captioning-window-size": (WindowSettings, "window_size"),
    "--captioning-remainder-threshold": (WindowSettings, "remainder_threshold"),
    "--captioning-sampling-fps": (WindowSettings, "sampling_fps"),
    "--captioning-min-sampled-frames": (WindowSettings, "min_sampled_frames"),
    "--captioning-max-sampled-frames": (WindowSettings, "max_sampled_frames"),
    "--store-window-mp4": (WindowSettings, "store_window_mp4"),
    "--max-frame-pixels": (WindowSettings, "max_frame_pixels"),
    "--max-clip-seconds": (WindowSettings, "max_clip_seconds"),
    "--max-clip-frames": (WindowSettings, "max_clip_frames"),
    "--max-decode-seconds": (WindowSettings, "max_decode_seconds"),
    "--max-window-bytes": (WindowSettings, "max_window_bytes"),
    "--preview-target-fps": (PreviewSettings, "target_fps"),
    "--preview-target-height": (PreviewSettings, "target_height"),
    "--preview-compression-level": (PreviewSettings, "compression_level"),
    "--preview-quality": (PreviewSettings, "quality"),
    "--preview-num-cpus-per-worker": (PreviewSettings, "num_cpus_per_worker"),
    "--preview-verbose": (PreviewSettings, "verbose"),
    "--captioning-prompt-variant": (CaptionSettings, "prompt_variant"),
    "--captioning-prompt-text": (CaptionSettings, "prompt_text"),
    "--captioning-stage2-caption": (CaptionSettings, "generate_stage2_caption"),
    "--captioning-stage2-prompt-text": (CaptionSettings, "stage2_prompt_text"),
    "--captioning-batch-size": (CaptionSettings, "batch_size"),
    "--captioning-max-output-tokens": (CaptionSettings, "max_output_tokens"),
    "--enhance-captioning-prompt-variant": (EnhanceSettings, "prompt_variant"),
    "--enhance-captions-prompt-text": (EnhanceSettings, "prompt_text"),
    "--enhance-captions-batch-size": (EnhanceSettings, "batch_size"),
    "--enhance-captions-max-output-tokens": (EnhanceSettings, "max_output_tokens"),
}
_ALIASES = {"--enhance-captioning-prompt-variant": ("--enhance-captions-prompt-variant",)}
_PROMPTS = {CaptionSettings: tuple(CAPTION_PROMPTS), EnhanceSettings: tuple(ENHANCE_PROMPTS)}

_CAPTION = (CaptionModelSettings,)
_TEXT = (TextModelSettings,)
_BOTH = (CaptionModelSettings, TextModelSettings)

# flag -> (the models that it is for, field).
MODEL_FLAGS: Mapping[str, tuple[tuple[type[ModelSettings], ...], str]] = {
    "--captioning-algorithm": (_CAPTION, "model_variant"),
    "--captioning-use-fp8-weights": (_CAPTION, "precision"),
    "--model-id": (_CAPTION, "model_id"),
    "--model-path": (_CAPTION, "model_path"),
    "--model-family": (_CAPTION, "model_family"),
    "--caption-key": (_CAPTION, "caption_key"),
    "--vllm-args": (_CAPTION, "vllm_args"),
    "--enhance-captions-algorithm": (_TEXT, "algorithm"),
    "--enhance-captions-use-fp8-weights": (_TEXT, "precision"),
    "--enhance-model-id": (_TEXT, "model_id"),
    "--enhance-model-path": (_TEXT, "model_path"),
    "--enhance-caption-key": (_TEXT, "caption_key"),
    "--enhance-vllm-args": (_TEXT, "vllm_args"),
    "--engine": (_BOTH, "engine"),
    "--device": (_BOTH, "device"),
    "--tensor-parallel": (_BOTH, "tensor_parallel"),
    "--model-dir": (_BOTH, "model_dir"),
    "--trust-remote-code": (_BOTH, "trust_remote_code"),
    "--in-flight-gib": (_BOTH, "in_flight_gib"),
    "--server-model": (_CAPTION, "server_model"),
    "--enhance-server-model": (_TEXT, "server_model"),
    "--server-video": (_CAPTION, "server_video"),
    "--server-timeout-s": (_BOTH, "server_timeout_s"),
}
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "model_variant": tuple(CAPTION_VARIANTS),
    "algorithm": tuple(ENHANCE_VARIANTS),
    "model_family": FAMILIES,
    "engine": ("auto", "vllm", "transformers", "openai"),
    "server_video": ("auto", "jpeg", "png", "images", "mp4"),
}
_HELP = {
    "model_variant": "Model variant for captions; by default qwen where there is a GPU, else demo.",
    "algorithm": "Text model for enhanced captions; by default demo_lm with the demo model, else qwen_lm.",
    "precision": "Quantize the weights to FP8 as they are loaded (Qwen; needs a GPU of the Ada generation or newer).",
}


class _Json(click.ParamType):
    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            parsed = json.loads(value) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(f"{value!r} is not JSON ({error}).", param, ctx)
        if not isinstance(parsed, dict):
            self.fail(f'{value!r} is not of the form {{"name": value}}.', param, ctx)
        return parsed


def model_flags(command: F) -> F:
    """Adds every flag of `MODEL_FLAGS` to a click command."""
    for flag, (models, name) in reversed(list(MODEL_FLAGS.items())):
        field = models[0].model_fields[name]
        about: dict[str, Any] = {"help": _HELP.get(name, field.description), "default": field.default}
        if name in ("model_variant", "algorithm"):
            about["default"] = None  # depends on the machine, and on the other model
        if name == "precision":
            about |= {"is_flag": True, "flag_value": "fp8"}
        elif name in _CHOICES:
            about |= {"type": click.Choice(_CHOICES[name]), "show_default": True}
        elif name == "vllm_args":
            about |= {"type": _Json(), "metavar": "JSON"}
        elif field.annotation is bool:
            about |= {"is_flag": True}
        else:
            about |= {"type": _click_type(field), "show_default": True}
        command = click.option(flag, _parameter(flag), **about)(command)
    return command


def models_from(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of the captioning model and of the text model that the parsed flags ask for."""
    caption, text = (
        {name: values[_parameter(flag)] for flag, (models, name) in MODEL_FLAGS.items() if model in models}
        for model in _BOTH
    )
    return caption, text


def settings_flags(command: F) -> F:
    """Adds every flag of `FLAGS` to a click command."""
    for flag, (settings, name) in reversed(list(FLAGS.items())):
        field = settings.model_fields[name]
        kind = click.Choice(_PROMPTS[settings]) if name == "prompt_variant" else _click_type(field)
        names = (flag, *_ALIASES.get(flag, ()), _parameter(flag))
        switch = {"is_flag": True} if kind is click.BOOL else {"show_default": field.default is not None}
        command = click.option(
            *names,
            type=kind,
            default=field.default,
            help=field.description,
            **switch,  # type: ignore[arg-type]
        )(command)
    return command


def settings_from(values: Mapping[str, Any]) -> dict[type[BaseModel], BaseModel]:
    """The settings that the parsed flags ask for, by class."""
    chosen: dict[type[BaseModel], dict[str, Any]] = {}
    for flag, (settings, name) in FLAGS.items():
        chosen.setdefault(settings, {})[name] = values[_parameter(flag)]
    return {settings: settings(**fields) for settings, fields in chosen.items()}


def _parameter(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")


def _click_type(field: FieldInfo) -> click.ParamType:
    base = next((t for t in (field.annotation, *get_args(field.annotation)) if t in (bool, int, float, str)), str)
    if base in (bool, str):
        return click.BOOL if base is bool else click.STRING
    low: Any = None
    high: Any = None
    low_open = False
    for bound in field.metadata:
        if isinstance(bound, annotated_types.Ge):
            low = bound.ge
        elif isinstance(bound, annotated_types.Gt):
            low, low_open = bound.gt, True
        elif isinstance(bound, annotated_types.Le):
            high = bound.le
    number = click.IntRange if base is int else click.FloatRange
    return number(low, high, min_open=low_open)
