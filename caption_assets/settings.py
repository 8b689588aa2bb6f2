"""What a user can set for each step: names, defaults, ranges and words, said once.

Dagster's config classes and the command line's flags are both made from these models.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


class DecodeLimits(BaseModel):
    """What a clip may ask for. The defaults are beyond any real clip; they stop broken and hostile files."""

    model_config = ConfigDict(frozen=True)

    max_frame_pixels: int = Field(default=16384 * 8704, gt=0, description="Pixels of a stored frame, at most.")
    max_clip_seconds: float = Field(default=24 * 3600.0, gt=0, description="Length of a clip in seconds, at most.")
    max_clip_frames: int = Field(default=5_000_000, gt=0, description="Frames of a clip, at most.")
    max_decode_seconds: float = Field(
        default=3600.0, gt=0, description="Seconds that reading a clip may take, each time it is read."
    )
    max_window_bytes: int = Field(
        default=16 << 30, gt=0, description="Bytes of a window's frames, as they are handed out, at most."
    )


class WindowSettings(DecodeLimits):
    """How clips are cut into windows and sampled (save_export rules: NeMo Curator's windowing stage).

    The limits hold for whatever reads the clips later, too.
    """

    window_size: int = Field(default=256, ge=4, description="Frames in a full window, at the clip's own rate.")
    remainder_threshold: int = Field(
        default=128,
        ge=4,
        description="A remainder of at least this many frames is a window of its own; a shorter one extends the last.",
    )
    sampling_fps: float = Field(
        default=2.0, gt=0, le=240, description="Frames a second that the caption model is to see."
    )
    min_sampled_frames: int = Field(
        default=4, ge=2, description="Frames that the caption model is to see of a window at least; even."
    )
    max_sampled_frames: int = Field(
        default=768, ge=2, description="Frames that it is to see of a window at most; even, and it comes first."
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
    generate_stage2_caption: bool = Field(
        default=False, description="Show the model the video again with its caption, and keep the refined one."
    )
    stage2_prompt_text: str | None = Field(
        default=None, description="Instruction of the second pass; the first caption follows it."
    )


class EnhanceSettings(BaseModel):
    """How captions are rewritten by a text model."""

    prompt_variant: str = Field(default="default", description="Prompt variant: default or av-surveillance.")
    prompt_text: PromptText = None
    batch_size: int = Field(
        default=128, ge=1, le=4096, description="Captions in flight in an engine that works in batches."
    )
    max_output_tokens: int = Field(default=512, ge=1, le=32768, description="Most tokens of an enhanced caption.")


class ModelSettings(BaseModel):
    """Which model runs, where and how: the same choices for captions and for enhanced captions."""

    model_id: str | None = Field(
        default=None, description="Hugging Face id (owner/name or owner/name@revision) of a model to load instead."
    )
    model_path: str | None = Field(default=None, description="Folder of a model to load instead.")
    model_family: str | None = Field(
        default=None,
        description="Family of that model, where its config does not tell: "
        "qwen2.5-vl, qwen3-vl, nemotron-v2-vl, nemotron-3-omni or text.",
    )
    caption_key: str | None = Field(
        default=None, description="Key that the captions stand under; the variant's name by default."
    )
    precision: str = Field(
        default="auto", description="Precision: auto (as published), bf16, fp8 (Qwen: quantized on load) or fp32 (CPU)."
    )
    engine: str = Field(default="auto", description="What runs the model: auto, vllm, transformers or openai.")
    device: str = Field(default="auto", description="Device: auto, cpu, cuda, or one GPU as cuda:<n>.")
    tensor_parallel: int = Field(default=1, ge=1, le=64, description="GPUs that one model is spread over.")
    model_dir: str | None = Field(
        default=None, description="Folder for downloaded weights; Hugging Face's cache by default."
    )
    trust_remote_code: bool = Field(
        default=False, description="Let code from the model's repository run, where the variant needs it (Nemotron)."
    )
    in_flight_gib: float = Field(
        default=8.0, gt=0, le=1024, description="Most memory for windows that are ready and wait for vLLM, in GiB."
    )
    vllm_args: dict[str, Any] = Field(
        default={}, description="Further engine arguments of vLLM by name; they win over the variant's."
    )
    server_model: str | None = Field(
        default=None, description="What the server calls the model; found out by default. With engine openai."
    )
    server_video: str = Field(
        default="auto", description="How frames go to the server: auto, jpeg, png, images or mp4. With engine openai."
    )
    server_timeout_s: float = Field(
        default=600.0, gt=0, description="Longest wait for an answer of the server, in seconds. With engine openai."
    )
    temperature: float | None = Field(default=None, ge=0, le=2, description="Overrides the variant's; 0 is greedy.")
    top_p: float | None = Field(default=None, gt=0, le=1, description="Overrides the variant's.")
    repetition_penalty: float | None = Field(default=None, gt=0, le=4, description="Overrides the variant's.")


class CaptionModelSettings(ModelSettings):
    """The vision-language model that captions windows."""

    model_variant: str = Field(default="demo", description="Variant of the captioning model; also the caption key.")


class TextModelSettings(ModelSettings):
    """The text model that enhances captions."""

    algorithm: str = Field(default="demo_lm", description="Enhancement algorithm: demo_lm, qwen_lm, qwen2.5 or qwen3.")
