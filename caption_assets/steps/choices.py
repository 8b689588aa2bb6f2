"""What a step has been asked to make: its keys, a version that changes with whatever decides the result, and words.

Known before any work, from settings alone: nothing is loaded, read or asked for. A row's fingerprint covers the same,
and besides what only the engine and the clip can tell.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from caption_assets.models.choice import ModelChoice, prompt_key
from caption_assets.models.prompts import enhance_prompt
from caption_assets.records import text_hash
from caption_assets.settings import (
    CaptionModelSettings,
    CaptionSettings,
    EnhanceSettings,
    PreviewSettings,
    TextModelSettings,
    WindowSettings,
)
from caption_assets.steps import captions, enhance, previews, windows
from caption_assets.steps.asked import Ask
from caption_assets.steps.report import Step

OWN_TEXT = "own text"
"""In the words of a choice, the prompt where it is no variant's."""
_VERSION_LETTERS = 12


@dataclass(frozen=True)
class Choice:
    """What is made: of texts, `keys` are the caption key and the text model's; `words` tell people the rest by name."""

    step: Step
    settings: Mapping[str, Any]
    keys: tuple[str, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """That of the table, of texts."""
        return "/".join(self.keys)

    @property
    def version(self) -> str:
        """Equal where equal inputs give the same table: the step's version, and a hash of everything chosen."""
        chosen = text_hash(json.dumps([*self.keys, self.settings], sort_keys=True))
        return f"{self.step.version}-{chosen[:_VERSION_LETTERS]}"


def windows_choice(settings: WindowSettings) -> Choice:
    return Choice(windows.STEP, settings.model_dump())


def previews_choice(settings: PreviewSettings) -> Choice:
    return Choice(previews.STEP, settings.model_dump(exclude=set(previews.CHANGE_NOTHING)))


def captions_choice(settings: CaptionSettings, caption_model: CaptionModelSettings, name: str = "") -> Choice:
    """Of the captions by the prompt of this `name`. Raises ConfigError for a prompt, a key, a schema or a precision
    that cannot be."""
    ask, model = Ask.of(settings, name), ModelChoice(caption_model)
    chosen = {"max_output_tokens": ask.max_tokens, **ask.decides}
    return _texts(captions.STEP, settings, model, (prompt_key(model.key, name),), ask.prompt, chosen)


def enhanced_choice(
    settings: EnhanceSettings, caption_model: CaptionModelSettings, text_model: TextModelSettings
) -> Choice:
    """The same for the captions of `caption_model`, enhanced."""
    prompt = enhance_prompt(settings.prompt_variant, settings.prompt_text)
    chosen = {"max_output_tokens": settings.max_output_tokens}
    if settings.include_flagged:
        chosen["include_flagged"] = True
    return _texts(
        enhance.STEP,
        settings,
        ModelChoice(text_model),
        (ModelChoice(caption_model).key, ModelChoice(text_model).key),
        prompt,
        chosen,
    )


def _texts(
    step: Step,
    settings: CaptionSettings | EnhanceSettings,
    model: ModelChoice,
    keys: tuple[str, ...],
    prompt: str,
    chosen: Mapping[str, Any],
) -> Choice:
    identity = model.identity
    decides = {**identity, "prompt_text": prompt, **chosen}
    words = {
        "variant": model.settings.model_variant,
        "prompt": settings.prompt_variant if settings.prompt_text is None else OWN_TEXT,
        "prompt_text": prompt,
    }
    return Choice(step, decides, keys, words)
