"""What a user can set: names, defaults, ranges, choices and words, each said once, with its flag and its variable.

Dagster's config classes, the command line's flags and what the environment sets are all made from these models. A
choice is a Literal, so that whoever offers it offers all of it: the launchpad, `--help`, an error.
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo

ENVIRONMENT_PREFIX = "CAPTION_ASSETS_"

CaptionVariant = Literal[
    "demo",
    "qwen",
    "qwen2.5",
    "qwen3",
    "nemotron",
    "nemotron-bf16",
    "nemotron-fp8",
    "nemotron-nvfp4",
    "nemotron-3-nano-omni",
]
TextVariant = Literal["demo_lm", "qwen_lm", "qwen", "qwen2.5", "qwen3"]
ModelFamily = Literal["qwen2.5-vl", "qwen3-vl", "nemotron-v2-vl", "nemotron-3-omni", "text"]
AskedFamily = Literal["auto", "qwen2.5-vl", "qwen3-vl", "nemotron-v2-vl", "nemotron-3-omni", "text"]
CaptionPrompt = Literal["default", "av", "av-surveillance"]
TextPrompt = Literal["default", "av-surveillance"]
EngineName = Literal["auto", "vllm", "transformers", "openai"]
AskedPrecision = Literal["auto", "bf16", "fp8", "fp32"]
VideoForm = Literal["auto", "jpeg", "png", "images", "mp4"]


def setting(default: Any, description: str, *, flag: str, env: str, shared: bool = False, **bounds: Any) -> Any:
    """A field that a user can set: by its name in Dagster, by `flag`, or by CAPTION_ASSETS_`env`.

    Of a model's settings, the text model's flag and variable are those of the captioning model with "text" put in:
    `--model-id` and `--text-model-id`. One that is `shared` is of the machine rather than of a model: one flag sets it
    for both, and the text model takes the captioning model's variable where it has none of its own.
    """
    how: JsonDict = {"flag": flag, "env": env, "shared": shared}
    return Field(default=default, description=description, json_schema_extra={"setting": how}, **bounds)


def flag_of(field: FieldInfo, *, text: bool = False) -> str:
    """The flag that sets a field; with `text`, of the text model."""
    flag = str(_declared(field)["flag"])
    return flag if not text else f"--text-{flag.removeprefix('--')}"


def env_of(field: FieldInfo, *, text: bool = False) -> str:
    """The environment variable that sets a field; with `text`, of the text model."""
    return f"{ENVIRONMENT_PREFIX}{'TEXT_' * text}{_declared(field)['env']}"


def settings_fields(settings: type[BaseModel], name_of: Callable[..., str]) -> Iterator[tuple[str, str]]:
    """The fields of a settings class, each with its flag (`flag_of`) or its variable (`env_of`)."""
    for name, field in settings.model_fields.items():
        own = name in ModelSettings.model_fields and not is_shared(field)
        yield name, name_of(field, text=own and issubclass(settings, TextModelSettings))


def is_shared(field: FieldInfo) -> bool:
    """Whether one value of a model's setting is for both models."""
    return bool(_declared(field)["shared"])


def choices_of(field: FieldInfo) -> tuple[str, ...]:
    """The words that a field takes; none where it is no choice."""
    for annotation in (field.annotation, *get_args(field.annotation)):
        words = get_args(annotation)
        if words and all(isinstance(word, str) for word in words):
            return words
    return ()


def _declared(field: FieldInfo) -> Any:
    extra = field.json_schema_extra
    assert isinstance(extra, dict), "a setting is declared by `setting`"
    return extra["setting"]


class DecodeLimits(BaseModel):
    """What a clip may ask for. The defaults are beyond any real clip; they stop broken and hostile files."""

    model_config = ConfigDict(frozen=True)

    max_frame_pixels: int = setting(
        16384 * 8704,
        "Pixels of a stored frame, at most.",
        flag="--max-frame-pixels",
        env="MAX_FRAME_PIXELS",
        gt=0,
    )
    max_clip_seconds: float = setting(
        24 * 3600.0,
        "Length of a clip in seconds, at most.",
        flag="--max-clip-seconds",
        env="MAX_CLIP_SECONDS",
        gt=0,
    )
    max_clip_frames: int = setting(
        5_000_000, "Frames of a clip, at most.", flag="--max-clip-frames", env="MAX_CLIP_FRAMES", gt=0
    )
    max_decode_seconds: float = setting(
        3600.0,
        "Seconds that reading a clip may take, each time it is read.",
        flag="--max-decode-seconds",
        env="MAX_DECODE_SECONDS",
        gt=0,
    )
    max_window_bytes: int = setting(
        16 << 30,
        "Bytes of a window's frames, as they are handed out, at most.",
        flag="--max-window-bytes",
        env="MAX_WINDOW_BYTES",
        gt=0,
    )


class WorkerSettings(DecodeLimits):
    """The worker processes of a run, which read and decode clips, and what clips may ask of them."""

    workers: int | None = setting(
        None,
        "Worker processes; by default one for each core that this process may use.",
        flag="--workers",
        env="WORKERS",
        ge=1,
        le=1024,
    )
    keep_gib: float = setting(
        16.0,
        "Copies of remote clips that a run keeps until its end, so that each is fetched once, in GiB.",
        flag="--keep-gib",
        env="KEEP_GIB",
        ge=0,
    )


class WindowSettings(BaseModel):
    """How clips are cut into windows and sampled (save_export rules: NeMo Curator's windowing stage)."""

    window_size: int = setting(
        256,
        "Frames in a full window, at the clip's own rate.",
        flag="--captioning-window-size",
        env="WINDOW_SIZE",
        ge=4,
    )
    remainder_threshold: int = setting(
        128,
        "A remainder of at least this many frames is a window of its own; a shorter one extends the last.",
        flag="--captioning-remainder-threshold",
        env="REMAINDER_THRESHOLD",
        ge=4,
    )
    sampling_fps: float = setting(
        2.0,
        "Frames a second that the caption model is to see.",
        flag="--captioning-sampling-fps",
        env="SAMPLING_FPS",
        gt=0,
        le=240,
    )
    min_sampled_frames: int = setting(
        4,
        "Frames that the caption model is to see of a window at least; even.",
        flag="--captioning-min-sampled-frames",
        env="MIN_SAMPLED_FRAMES",
        ge=2,
    )
    max_sampled_frames: int = setting(
        768,
        "Frames that it is to see of a window at most; even, and it comes first.",
        flag="--captioning-max-sampled-frames",
        env="MAX_SAMPLED_FRAMES",
        ge=2,
    )
    store_window_mp4: bool = setting(
        False, "Keep each window as an mp4 file of its own.", flag="--store-window-mp4", env="STORE_WINDOW_MP4"
    )


class PreviewSettings(BaseModel):
    """How animated WebP previews are made (NeMo Curator's preview stage; level 0 is lossless, as documented there)."""

    target_fps: float = setting(
        1.0,
        "Frames a second of the preview.",
        flag="--preview-target-fps",
        env="PREVIEW_TARGET_FPS",
        gt=0,
        le=60,
    )
    target_height: int = setting(
        240,
        "Height in pixels; the width keeps the aspect ratio.",
        flag="--preview-target-height",
        env="PREVIEW_TARGET_HEIGHT",
        ge=16,
        le=2160,
    )
    compression_level: int = setting(
        6,
        "Encoder effort 1-6; 0 means lossless.",
        flag="--preview-compression-level",
        env="PREVIEW_COMPRESSION_LEVEL",
        ge=0,
        le=6,
    )
    quality: int = setting(
        50, "Lossy quality, 100 is best.", flag="--preview-quality", env="PREVIEW_QUALITY", ge=0, le=100
    )
    num_cpus_per_worker: float = setting(
        4.0,
        "CPU cores a preview worker may use, for decoding and for ffmpeg.",
        flag="--preview-num-cpus-per-worker",
        env="PREVIEW_NUM_CPUS_PER_WORKER",
        gt=0,
        le=256,
    )
    verbose: bool = setting(
        False,
        "Log ffmpeg's command and output for every preview.",
        flag="--preview-verbose",
        env="PREVIEW_VERBOSE",
    )


class CaptionSettings(BaseModel):
    """How windows are captioned."""

    prompt_variant: CaptionPrompt = setting(
        "default", "The prompt's variant.", flag="--captioning-prompt-variant", env="PROMPT_VARIANT"
    )
    prompt_text: str | None = setting(
        None, "Prompt text; used in place of the variant.", flag="--captioning-prompt-text", env="PROMPT_TEXT"
    )
    batch_size: int = setting(
        8,
        "Windows in flight in an engine that works in batches.",
        flag="--captioning-batch-size",
        env="BATCH_SIZE",
        ge=1,
        le=4096,
    )
    max_output_tokens: int = setting(
        512,
        "Most tokens of a caption.",
        flag="--captioning-max-output-tokens",
        env="MAX_OUTPUT_TOKENS",
        ge=1,
        le=32768,
    )
    generate_stage2_caption: bool = setting(
        False,
        "Show the model the video again with its caption, and keep the refined one.",
        flag="--captioning-stage2-caption",
        env="STAGE2_CAPTION",
    )
    stage2_prompt_text: str | None = setting(
        None,
        "Instruction of the second pass; the first caption follows it.",
        flag="--captioning-stage2-prompt-text",
        env="STAGE2_PROMPT_TEXT",
    )


class EnhanceSettings(BaseModel):
    """How captions are rewritten by a text model."""

    # The flag is spelled so in the original.
    prompt_variant: TextPrompt = setting(
        "default", "The prompt's variant.", flag="--enhance-captioning-prompt-variant", env="ENHANCE_PROMPT_VARIANT"
    )
    prompt_text: str | None = setting(
        None,
        "Prompt text; used in place of the variant.",
        flag="--enhance-captions-prompt-text",
        env="ENHANCE_PROMPT_TEXT",
    )
    batch_size: int = setting(
        128,
        "Captions in flight in an engine that works in batches.",
        flag="--enhance-captions-batch-size",
        env="ENHANCE_BATCH_SIZE",
        ge=1,
        le=4096,
    )
    max_output_tokens: int = setting(
        512,
        "Most tokens of an enhanced caption.",
        flag="--enhance-captions-max-output-tokens",
        env="ENHANCE_MAX_OUTPUT_TOKENS",
        ge=1,
        le=32768,
    )


class ModelSettings(BaseModel):
    """Which model runs, where and how: the same choices for captions and for enhanced captions."""

    model_id: str | None = setting(
        None,
        "Hugging Face id (owner/name or owner/name@revision) of a model to load instead.",
        flag="--model-id",
        env="MODEL_ID",
    )
    model_path: str | None = setting(None, "Folder of a model to load instead.", flag="--model-path", env="MODEL_PATH")
    model_family: AskedFamily = setting(
        "auto",
        "Family of that model: auto is what its config says; name one where that is of no known type.",
        flag="--model-family",
        env="MODEL_FAMILY",
    )
    caption_key: str | None = setting(
        None,
        "Key that the model's texts stand under; the variant's name by default.",
        flag="--caption-key",
        env="CAPTION_KEY",
    )
    precision: AskedPrecision = setting(
        "auto",
        "Precision: auto (as published), bf16, fp8 (Qwen: quantized on load) or fp32 (CPU).",
        flag="--precision",
        env="PRECISION",
    )
    engine: EngineName = setting("auto", "What runs the model.", flag="--engine", env="ENGINE", shared=True)
    device: str = setting(
        "auto", "Device: auto, cpu, cuda, or one GPU as cuda:<n>.", flag="--device", env="DEVICE", shared=True
    )
    tensor_parallel: int = setting(
        1,
        "GPUs that one model is spread over.",
        flag="--tensor-parallel",
        env="TENSOR_PARALLEL",
        shared=True,
        ge=1,
        le=64,
    )
    model_dir: str | None = setting(
        None,
        "Folder for downloaded weights; Hugging Face's cache by default.",
        flag="--model-dir",
        env="MODEL_DIR",
        shared=True,
    )
    trust_remote_code: bool = setting(
        False,
        "Let code from the model's repository run, where the variant needs it (Nemotron).",
        flag="--trust-remote-code",
        env="TRUST_REMOTE_CODE",
        shared=True,
    )
    in_flight_gib: float = setting(
        8.0,
        "Most memory for windows that are ready and wait for vLLM, in GiB.",
        flag="--in-flight-gib",
        env="IN_FLIGHT_GIB",
        shared=True,
        gt=0,
        le=1024,
    )
    vllm_args: dict[str, Any] = setting(
        {},
        "Further engine arguments of vLLM by name, as JSON; they win over the variant's.",
        flag="--vllm-args",
        env="VLLM_ARGS",
    )
    server_model: str | None = setting(
        None,
        "What the server calls the model; found out by default. With engine openai.",
        flag="--server-model",
        env="SERVER_MODEL",
    )
    server_video: VideoForm = setting(
        "auto",
        "How frames go to the server. With engine openai.",
        flag="--server-video",
        env="SERVER_VIDEO",
        shared=True,
    )
    server_timeout_s: float = setting(
        600.0,
        "Longest wait for an answer of the server, in seconds. With engine openai.",
        flag="--server-timeout-s",
        env="SERVER_TIMEOUT_S",
        shared=True,
        gt=0,
    )
    temperature: float | None = setting(
        None, "Overrides the variant's; 0 is greedy.", flag="--temperature", env="TEMPERATURE", ge=0, le=2
    )
    top_p: float | None = setting(None, "Overrides the variant's.", flag="--top-p", env="TOP_P", gt=0, le=1)
    repetition_penalty: float | None = setting(
        None, "Overrides the variant's.", flag="--repetition-penalty", env="REPETITION_PENALTY", gt=0, le=4
    )


class CaptionModelSettings(ModelSettings):
    """The vision-language model that captions windows."""

    model_variant: CaptionVariant = setting(
        "demo",
        "Variant of the captioning model; also the caption key.",
        flag="--captioning-algorithm",
        env="VARIANT",
    )


class TextModelSettings(ModelSettings):
    """The text model that enhances captions."""

    model_variant: TextVariant = setting(
        "demo_lm", "Variant of the text model.", flag="--enhance-captions-algorithm", env="TEXT_VARIANT"
    )
