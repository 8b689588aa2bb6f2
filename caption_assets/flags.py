"""Command-line flags made from the settings' fields, under the names that NeMo Curator's example script has."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args

import annotated_types
import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from caption_assets.models.prompts import CAPTION_PROMPTS, ENHANCE_PROMPTS
from caption_assets.settings import CaptionSettings, EnhanceSettings, PreviewSettings, WindowSettings

F = TypeVar("F", bound=Callable[..., Any])

# flag -> (settings, field). `--enhance-captioning-prompt-variant` is spelled so in the original.
FLAGS: Mapping[str, tuple[type[BaseModel], str]] = {
    "--captioning-window-size": (WindowSettings, "window_size"),
    "--captioning-remainder-threshold": (WindowSettings, "remainder_threshold"),
    "--captioning-sampling-fps": (WindowSettings, "sampling_fps"),
    "--store-window-mp4": (WindowSettings, "store_window_mp4"),
    "--preview-target-fps": (PreviewSettings, "target_fps"),
    "--preview-target-height": (PreviewSettings, "target_height"),
    "--preview-compression-level": (PreviewSettings, "compression_level"),
    "--preview-quality": (PreviewSettings, "quality"),
    "--preview-num-cpus-per-worker": (PreviewSettings, "num_cpus_per_worker"),
    "--preview-verbose": (PreviewSettings, "verbose"),
    "--captioning-prompt-variant": (CaptionSettings, "prompt_variant"),
    "--captioning-prompt-text": (CaptionSettings, "prompt_text"),
    "--captioning-batch-size": (CaptionSettings, "batch_size"),
    "--captioning-max-output-tokens": (CaptionSettings, "max_output_tokens"),
    "--enhance-captioning-prompt-variant": (EnhanceSettings, "prompt_variant"),
    "--enhance-captions-prompt-text": (EnhanceSettings, "prompt_text"),
    "--enhance-captions-batch-size": (EnhanceSettings, "batch_size"),
    "--enhance-captions-max-output-tokens": (EnhanceSettings, "max_output_tokens"),
}
_ALIASES = {"--enhance-captioning-prompt-variant": ("--enhance-captions-prompt-variant",)}
_PROMPTS = {CaptionSettings: tuple(CAPTION_PROMPTS), EnhanceSettings: tuple(ENHANCE_PROMPTS)}


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
