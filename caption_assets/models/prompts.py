"""Every prompt text, once. Our own words; the variants' names are those of NeMo Curator's stages."""

from collections.abc import Mapping
from types import MappingProxyType

from caption_assets.errors import ConfigError
from caption_assets.models.templates import places

CAPTION_PROMPTS: Mapping[str, str] = MappingProxyType(
    {
        "default": (
            "Describe this video in detail. Name the main subjects and what they look like, what each of them does "
            "and in which order, the place and the light, and how the camera moves. "
            "Write only what can be seen, in plain sentences."
        ),
        "av": (
            "This video was recorded from a vehicle. Describe the road and its lanes, the traffic, pedestrians and "
            "cyclists, signs and signals, the weather and the light, and what the recording vehicle does. "
            "Tell in order what happens that matters for driving. Write only what can be seen, in plain sentences."
        ),
        "av-surveillance": (
            "This video comes from a fixed camera that watches a road. Describe the scene and the camera's view, "
            "each vehicle and person with type, colour, direction and speed, and how they affect each other. "
            "Tell events in order, with near misses, collisions and anything unusual. "
            "Write only what can be seen, in plain sentences."
        ),
        "short": "Describe this video in one sentence: who or what is seen, what happens, and where.",
        "dense": (
            "Describe this video as fully as you can, from its first moment to its last. Describe every subject with "
            "its looks, clothing or material, colour and position, each movement and change in the order in which it "
            "happens, the place and what stands in it, the light, and how the camera moves and frames the scene. "
            "Write only what can be seen, in plain sentences."
        ),
        "camera": (
            "Describe the camera work of this video alone: how the camera moves, its direction and speed, the framing "
            "and how it changes, the angle and height, the depth of field and what is in focus. "
            "Say so where it stands still. Write plain sentences."
        ),
        "structured": (
            "Describe this video as one JSON object. subjects: who or what is seen, with looks, place, pose and "
            "action. background_setting, lighting, aesthetics and cinematography: the scene and how it is filmed. "
            "style_medium, artistic_style, context: what kind of video it is. actions: what happens, in order, each "
            "with its time as M:SS-M:SS from the beginning of this video. text_and_signage_elements: writing that can "
            "be read. segments: parts of the video, with their times. transitions: how one part leads to the next. "
            "temporal_caption: the whole course of the video in plain sentences. Write only what can be seen; leave a "
            "text empty where nothing can be said."
        ),
    }
)

ENHANCE_PROMPTS: Mapping[str, str] = MappingProxyType(
    {
        "default": (
            "Rewrite this video caption so that it is richer and reads better. Keep every fact: subjects, looks, "
            "actions, order, place. Add nothing that does not follow from it. Answer with the new caption only."
        ),
        "av-surveillance": (
            "Rewrite this caption of a road camera's video so that it is precise and complete for traffic analysis. "
            "Keep every vehicle, person, direction and event, in order. Add nothing that does not follow from it. "
            "Answer with the new caption only."
        ),
    }
)

STAGE2_PROMPT = (
    "Here is a first caption of this video. Look again: correct what is wrong, add what is missing, "
    "and answer with the better caption only."
)


def caption_prompt(variant: str, text: str | None = None) -> str:
    """The instruction that goes with a window's video: `text` where given, else the variant's."""
    return _prompt(CAPTION_PROMPTS, "captions", variant, text)


def enhance_prompt(variant: str, text: str | None = None) -> str:
    """The instruction that goes with a caption to be enhanced: `text` where given, else the variant's."""
    return _prompt(ENHANCE_PROMPTS, "enhanced captions", variant, text)


def stage2_prompt(text: str | None = None) -> str:
    """The instruction of a second pass over a window: `text` where given, else our own."""
    return _prompt({"default": STAGE2_PROMPT}, "a second pass", "default", text)


def with_caption(instruction: str, caption: str) -> str:
    """An instruction followed by the caption that it is about."""
    return f"{instruction}\n\n{caption.strip()}"


def _prompt(prompts: Mapping[str, str], what: str, variant: str, text: str | None) -> str:
    if text is not None:
        if not text.strip():
            raise ConfigError(
                f"prompt text {text!r} for {what}", "it is blank", "write an instruction, or leave the text out"
            )
        if text.encode(errors="replace").decode() != text:
            fix = "write it in UTF-8, as the terminal's locale is to be"
            raise ConfigError(f"prompt text {text!r} for {what}", "it has bytes that are no letters", fix)
        places(text)
        return text.strip()
    if variant not in prompts:
        raise ConfigError(
            f"prompt variant {variant!r} for {what}",
            "it is unknown",
            f"choose one of {', '.join(prompts)}, or give a prompt text",
        )
    return prompts[variant]
