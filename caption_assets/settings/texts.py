"""Settings of models and of what they are asked. A choice is a Literal, so that whoever offers it offers all of it."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import ValidationError, field_validator

from caption_assets.settings.declare import Settings, form, in_words, setting
from caption_assets.settings.variants import CAPTION_VARIANTS, TEXT_VARIANTS, CaptionVariant, TextVariant

ModelFamily = Literal["qwen2.5-vl", "qwen3-vl", "qwen3.5", "nemotron-v2-vl", "nemotron-3-omni", "text"]
AskedFamily = Literal["auto", ModelFamily]
CaptionPrompt = Literal["default", "av", "av-surveillance", "short", "dense", "camera", "structured"]
TextPrompt = Literal["default", "av-surveillance"]
EngineName = Literal["auto", "vllm", "transformers", "openai"]
AskedPrecision = Literal["auto", "bf16", "fp8", "fp32"]
VideoForm = Literal["auto", "jpeg", "png", "images", "mp4"]

# What the words of the choices stand for.
_PROMPTS = {
    "default": "what is seen, in detail",
    "av": "roads, seen from a vehicle",
    "av-surveillance": "roads, seen by a fixed camera",
    "short": "one sentence",
    "dense": "everything, at length",
    "camera": "movement, framing and angle of the camera",
    "structured": "as JSON, in the fields of Cosmos 3",
}
_USUAL_TOKENS = 512
_VARIANT_TOKENS: Mapping[str, int] = {"short": 96, "dense": 1024, "camera": 256, "structured": 3072}
_OWN_TOKENS = ", ".join(f"`{variant}` {tokens}" for variant, tokens in _VARIANT_TOKENS.items())
_PRECISIONS = {"auto": "as published", "fp8": "Qwen's weights are quantized on load", "fp32": "on a CPU"}
_ENGINES = {
    "auto": "vllm where it is installed and a GPU is there, else transformers",
    "openai": "a server that speaks OpenAI's API",
}


class CaptionSettings(Settings):
    """How windows are captioned."""

    prompt_variant: CaptionPrompt = setting(
        "default",
        "The prompt's variant. Its text is our own: NeMo Curator's variant of that name asks in other words.",
        flag="--captioning-prompt-variant",
        env="PROMPT_VARIANT",
        meanings=_PROMPTS,
    )
    prompt_text: str | None = setting(
        None,
        "Prompt text; used in place of the variant. {window.start_s} and the like stand for what is known of a window.",
        flag="--captioning-prompt-text",
        env="PROMPT_TEXT",
    )
    batch_size: int = setting(
        8,
        "Windows in flight in an engine that works in batches.",
        flag="--captioning-batch-size",
        env="BATCH_SIZE",
        ge=1,
        le=4096,
    )
    max_output_tokens: int | None = setting(
        None,
        f"Most tokens of a caption; by default {_USUAL_TOKENS}, or by the prompt's variant: {_OWN_TOKENS}.",
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
        "Instruction of the second pass, which may name the same; the first caption follows it. With that pass only.",
        flag="--captioning-stage2-prompt-text",
        env="STAGE2_PROMPT_TEXT",
    )
    json_schema: str | None = setting(
        None,
        "JSON schema that captions keep to: a file, or a pydantic model as `module:name`.",
        flag="--captioning-json-schema",
        env="JSON_SCHEMA",
    )
    prompt_sampling: dict[str, float] = setting(
        {},
        "Sampling of this prompt by name (temperature, top_p, …), as JSON; it wins over the model's.",
        flag="--captioning-sampling",
        env="PROMPT_SAMPLING",
    )

    @property
    def most_output_tokens(self) -> int:
        """`max_output_tokens`, or what there is by default for the prompt."""
        if self.max_output_tokens is not None:
            return self.max_output_tokens
        return _VARIANT_TOKENS.get(self.prompt_variant, _USUAL_TOKENS) if self.prompt_text is None else _USUAL_TOKENS

    @field_validator("prompt_sampling")
    @classmethod
    def _as_of_models(cls, value: dict[str, float]) -> dict[str, float]:
        """The values are in the ranges of the model's settings of these names."""
        known = {name: given for name, given in value.items() if name in ModelSettings.model_fields}
        try:
            ModelSettings.model_validate(known)
        except ValidationError as error:
            raise ValueError("; ".join(f"{each['loc'][0]}: {in_words(each)}" for each in error.errors())) from None
        return value


class EnhanceSettings(Settings):
    """How captions are rewritten by a text model."""

    # The flag is spelled so in the original.
    prompt_variant: TextPrompt = setting(
        "default",
        "The prompt's variant. Its text is our own: that of NeMo Curator's variant of that name asks for more details, "
        "ours for nothing that the caption does not say.",
        flag="--enhance-captioning-prompt-variant",
        env="ENHANCE_PROMPT_VARIANT",
        meanings={"default": "richer, with every fact kept", "av-surveillance": "for the analysis of traffic"},
    )
    prompt_text: str | None = setting(
        None,
        "Prompt text; used in place of the variant. The caption follows it. It may name what prompts of captions may.",
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
    include_flagged: bool = setting(
        False,
        "Enhance captions with a finding of severity error, too.",
        flag="--enhance-captions-include-flagged",
        env="ENHANCE_INCLUDE_FLAGGED",
    )
    max_output_tokens: int = setting(
        512,
        "Most tokens of an enhanced caption.",
        flag="--enhance-captions-max-output-tokens",
        env="ENHANCE_MAX_OUTPUT_TOKENS",
        ge=1,
        le=32768,
    )


class ModelSettings(Settings):
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
        meanings=_PRECISIONS,
        env="PRECISION",
    )
    engine: EngineName = setting(
        "auto", "What runs the model.", flag="--engine", env="ENGINE", shared=True, meanings=_ENGINES
    )
    device: str = setting(
        "auto",
        "Device: auto, cpu, cuda, or one GPU as cuda:<n>.",
        flag="--device",
        env="DEVICE",
        shared=True,
        pattern=form(r"^(auto|cpu|cuda(:\d+)?)$", "auto, cpu, cuda or cuda:<n>"),
    )
    gpus: str | None = setting(
        None,
        "GPUs to use at once, an engine on each: all, how many, or which (0,2). By default, all in the command and one "
        "in a run of Dagster. On a CPU, how many engines share it.",
        flag="--gpus",
        env="GPUS",
        shared=True,
        pattern=form(r"^(all|\d+( *, *\d+)*)$", "all, how many (4), or which (0,2)"),
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
        "Most memory for windows that are ready and wait for the model, in GiB.",
        flag="--in-flight-gib",
        env="IN_FLIGHT_GIB",
        shared=True,
        gt=0,
        le=1024,
    )
    engine_timeout_s: float = setting(
        600.0,
        "Seconds without a sign of work after which an engine counts as stuck. With vllm and transformers.",
        flag="--engine-timeout-s",
        env="ENGINE_TIMEOUT_S",
        shared=True,
        gt=0,
    )
    gpu_hour_price: float | None = setting(
        None,
        "What a GPU costs an hour, in whatever money: runs then say what they cost.",
        flag="--gpu-hour-price",
        env="GPU_HOUR_PRICE",
        shared=True,
        ge=0,
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
    top_k: int | None = setting(None, "Overrides the variant's; 0 is all.", flag="--top-k", env="TOP_K", ge=0)
    repetition_penalty: float | None = setting(
        None, "Overrides the variant's.", flag="--repetition-penalty", env="REPETITION_PENALTY", gt=0, le=4
    )
    presence_penalty: float | None = setting(
        None, "Overrides the variant's.", flag="--presence-penalty", env="PRESENCE_PENALTY", ge=-2, le=2
    )
    seed: int | None = setting(
        None,
        "Seed of what is drawn at a temperature above 0; each window has its own of it. 0 by default.",
        flag="--seed",
        env="SEED",
        ge=0,
        le=2**31 - 1,
    )


class CaptionModelSettings(ModelSettings):
    """The vision-language model that captions windows."""

    model_variant: CaptionVariant = setting(
        "demo",
        "Variant of the captioning model; also the caption key.",
        flag="--captioning-algorithm",
        meanings=CAPTION_VARIANTS,
        env="VARIANT",
    )
    min_pixels: int | None = setting(
        None,
        "Least pixels that a model is given of a frame (Qwen3-VL: of all frames together); the variant's by default.",
        flag="--min-pixels",
        env="MIN_PIXELS",
        ge=1,
    )
    max_pixels: int | None = setting(None, "Most pixels, in the same way.", flag="--max-pixels", env="MAX_PIXELS", ge=1)
    video_pruning: float = setting(
        0.0,
        "Share of a video's tokens that is left out: what is as in the frame before. Nemotron and Qwen2.5-VL, on vllm.",
        flag="--video-pruning",
        env="VIDEO_PRUNING",
        ge=0,
        lt=1,
    )


class TextModelSettings(ModelSettings):
    """The text model that enhances captions."""

    prefixed: ClassVar[frozenset[str]] = frozenset(ModelSettings.model_fields) - {"model_variant"}

    model_variant: TextVariant = setting(
        "demo_lm",
        "Variant of the text model.",
        flag="--enhance-captions-algorithm",
        env="TEXT_VARIANT",
        meanings=TEXT_VARIANTS,
    )
