"""What a user can set for each step: names, defaults, ranges and words, said once.

Dagster's config classes and the command line's flags are both made from these models.
"""

from typing import Annotated

from pydantic import BaseModel, Field


class WindowSettings(BaseModel):
    """How clips are cut into windows and sampled (save_export rules: NeMo Curator's windowing stage)."""

    window_size: int = Field(default=256, ge=4, description="Frames in a full window, at the clip's own rate.")
    remainder_threshold: int = Field(
        default=128,
        ge=4,
        description="A remainder of at least this many frames is a window of its own; a shorter one extends the last.",
    )
    sampling_fps: float = Field(
        default=2.0, gt=0, le=240, description="Frames a second that the caption model is to see."
    )
    store_window_mp4: bool = Field(default=False, description="Keep each window as an mp4 file of its own.")


class PreviewSettings(BaseModel):
    """How animated WebP previews are made (NeMo Curator's preview stage; level 0 is lossless, as documented there)."""

    target_fps: float = Field(default=1.0, gt=0, le=60, description="Frames a second of the preview.")
    target_height: int = Field(
        default=240, ge=16, le=2160, description="Height in pixels; the width keeps the aspect ratio."
    )
    compression_level: int = Field(default=6, ge=0, le=6, description="Encoder effort 1-6; 0 means lossless.")
    quality: int = Field(default=50, ge=0, le=100, description="Lossy quality, 100 is best.")
    num_cpus_per_worker: float = Field(
        default=4.0, gt=0, le=256, description="CPU cores a preview worker may use, for decoding and for ffmpeg."
    )
    verbose: bool = Field(default=False, description="Log ffmpeg's command and output for every preview.")


PromptText = Annotated[str | None, Field(description="Prompt text; used in place of the variant.")]


class CaptionSettings(BaseModel):
    """How windows are captioned."""

    prompt_variant: str = Field(default="default", description="Prompt variant: default, av or av-surveillance.")
    prompt_text: PromptText = None
    batch_size: int = Field(
        default=8, ge=1, le=4096, description="Windows in flight in an engine that works in batches."
    )
    max_output_tokens: int = Field(default=512, ge=1, le=32768, description="Most tokens of a caption.")


class EnhanceSettings(BaseModel):
    """How captions are rewritten by a text model."""

    prompt_variant: str = Field(default="default", description="Prompt variant: default or av-surveillance.")
    prompt_text: PromptText = None
    batch_size: int = Field(
        default=128, ge=1, le=4096, description="Captions in flight in an engine that works in batches."
    )
    max_output_tokens: int = Field(default=512, ge=1, le=32768, description="Most tokens of an enhanced caption.")
