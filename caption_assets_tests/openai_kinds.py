"""Servers as they are: what each lists, wants, refuses and answers, as data.

By their documentation, sources and answers that people have published. `be` is how the tests' server becomes one
(`openai_server.BEHAVIOUR`), `model` what a user gives as server_model, and the rest what is then to be so.
"""

from dataclasses import dataclass, field
from typing import Any


def answer(*, model: str = "$model", finish: Any = "stop", content: Any = "$text", message: Any = None, **more: Any):
    """A chat completion whose usual fields are there."""
    said = {"role": "assistant", "content": content, **(message or {})}
    usage = {"prompt_tokens": 9, "completion_tokens": "$tokens", "total_tokens": 99}
    choice = {"index": 0, "message": said, "finish_reason": finish, "logprobs": None, **more.pop("choice", {})}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [choice],
        "usage": usage,
    } | more


def listing(*cards: dict[str, Any], status: int = 200, **more: Any) -> list[Any]:
    return [status, {"object": "list", "data": [{"object": "model", **card} for card in cards], **more}]


@dataclass(frozen=True)
class Kind:
    """`author` is the model's id and the server's name for it; `sent` and `unsent` are fields of requests."""

    be: dict[str, Any]
    model: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    version: str = "unknown"
    author: tuple[str, str] = ("m", "m")
    sent: dict[str, Any] = field(default_factory=dict)
    unsent: tuple[str, ...] = ("top_k", "repetition_penalty", "media_io_kwargs")
    notes: tuple[str, ...] = ()


_NO_PENALTY = "is not known to take a repetition penalty; none is used."
_TOO_NEW = {
    "message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' "
    "instead.",
    "type": "invalid_request_error",
    "param": "max_tokens",
    "code": "unsupported_parameter",
}
_NO_TEMPERATURE = {
    "message": "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is "
    "supported.",
    "type": "invalid_request_error",
    "param": "temperature",
    "code": "unsupported_value",
}
_FILTERS = {name: {"filtered": False, "severity": "safe"} for name in ("hate", "self_harm", "sexual", "violence")}

KINDS = {
    "vLLM that serves under a name": Kind(
        {"listing": listing({"id": "m", "owned_by": "vllm", "root": "Qwen/Qwen2.5-VL-7B-Instruct"})},
        model="m",
        version="vllm 0.32.0",
        author=("Qwen/Qwen2.5-VL-7B-Instruct", "m"),
        sent={"top_k": -1, "repetition_penalty": 1.05},
        unsent=("repeat_penalty",),
    ),
    "SGLang": Kind(
        {
            "listing": listing({"id": "m", "owned_by": "sglang", "root": "m", "max_model_len": 8192}),
            "answer": answer(choice={"matched_stop": 151645}, metadata={"weight_version": "default"}),
        },
        model="m",
        version="sglang",
        sent={"top_k": -1, "repetition_penalty": 1.05},
        unsent=("media_io_kwargs",),
    ),
    "llama.cpp": Kind(
        {
            "listing": listing(
                {"id": "m.gguf", "owned_by": "llamacpp", "meta": {"n_ctx_train": 1}}, models=[{"name": "m.gguf"}]
            ),
            "answer": answer(model="m.gguf", system_fingerprint="b6800-abcdef", timings={"prompt_ms": 1.5}),
        },
        version="llamacpp",
        author=("m.gguf", "m.gguf"),
        sent={"top_k": -1, "repeat_penalty": 1.05, "repeat_last_n": -1},
        unsent=("repetition_penalty", "media_io_kwargs"),
    ),
    "Ollama": Kind(
        {
            "listing": listing({"id": "qwen2.5vl:latest", "created": 1, "owned_by": "library"}, {"id": "other:7b"}),
            "pages": {"/api/version": {"version": "0.12.3"}},
            "answer": answer(model="qwen2.5vl", system_fingerprint="fp_ollama"),
        },
        model="qwen2.5vl",
        version="ollama 0.12.3",
        author=("qwen2.5vl", "qwen2.5vl:latest"),
        notes=(f"Ollama {_NO_PENALTY}",),
    ),
    "Ollama with a model of somebody's": Kind(
        {
            "listing": listing({"id": "hf.co/me/mine:Q4", "created": 1, "owned_by": "me"}),
            "pages": {"/api/version": {"version": "0.12.3"}},
        },
        version="ollama 0.12.3",
        author=("hf.co/me/mine:Q4", "hf.co/me/mine:Q4"),
        notes=(f"Ollama {_NO_PENALTY}",),
    ),
    "LM Studio": Kind(
        {
            "listing": listing(
                {"id": "qwen/qwen2.5-vl-7b", "owned_by": "organization_owner"}, {"id": "text-embedding-x"}
            ),
            "answer": answer(finish="eosFound", stats={}, system_fingerprint="qwen/qwen2.5-vl-7b"),
        },
        model="Qwen/Qwen2.5-VL-7B",
        version="lmstudio",
        author=("qwen/qwen2.5-vl-7b", "qwen/qwen2.5-vl-7b"),
        sent={"repeat_penalty": 1.05, "top_k": 0},
        unsent=("repetition_penalty", "media_io_kwargs"),
    ),
    "LMDeploy": Kind(
        {"listing": listing({"id": "m", "owned_by": "lmdeploy", "root": "m", "parent": None})},
        model="m",
        version="lmdeploy",
        sent={"repetition_penalty": 1.05, "top_k": 0},
        unsent=("media_io_kwargs",),
    ),
    "TGI": Kind(
        {
            "listing": listing({"id": "me/m", "created": 0, "owned_by": "me/m"}),
            "answer": answer(finish="eos_token", system_fingerprint="3.3.4-native"),
            "refuses": [
                [f'"{field}": ', 422, {"error": f"Input validation error: {wrong}", "error_type": "validation"}]
                for field, wrong in (
                    ("top_p", "`top_p` must be > 0.0 and < 1.0"),
                    ("temperature", "`temperature` must be strictly positive"),  # not in all releases
                )
            ],
        },
        author=("me/m", "me/m"),
        unsent=("top_p", "temperature"),
        notes=(f"The server {_NO_PENALTY}", "The server takes no temperature for this model; it uses its own."),
    ),
    "TensorRT-LLM": Kind(
        {
            "listing": listing({"id": "m", "owned_by": "tensorrt_llm"}),
            "answer": answer(choice={"stop_reason": None, "disaggregated_params": None}),
        },
        version="tensorrt_llm",
        sent={"repetition_penalty": 1.05, "top_k": 0},
        unsent=("media_io_kwargs",),
    ),
    "OpenAI with a model that reasons": Kind(
        {
            "listing": listing({"id": "gpt-5", "owned_by": "system"}, {"id": "gpt-4o", "owned_by": "system"}),
            "refuses": [['"max_tokens"', 400, {"error": _TOO_NEW}], ['"temperature"', 400, {"error": _NO_TEMPERATURE}]],
            "answer": answer(
                model="gpt-5-2025-08-07", message={"refusal": None, "annotations": []}, service_tier="default"
            ),
        },
        model="gpt-5",
        version="system",
        author=("gpt-5-2025-08-07", "gpt-5"),
        sent={"max_completion_tokens": 8},
        unsent=("max_tokens", "temperature", "top_k"),
        notes=(
            "The server takes no temperature for this model; it uses its own.",
            f"The server {_NO_PENALTY}",
        ),
    ),
    "Azure OpenAI": Kind(
        {
            "listing": [404, {"error": {"code": "404", "message": "Resource not found"}}],
            "query": "api-version=2024-10-21",
            "needs": {"api-key": "geheim-42"},
            "answer": answer(
                model="gpt-4o-2024-08-06",
                choice={"content_filter_results": _FILTERS},
                prompt_filter_results=[{"prompt_index": 0, "content_filter_results": _FILTERS}],
            ),
        },
        model="our-deployment",
        headers={"api-key": "geheim-42"},
        author=("gpt-4o-2024-08-06", "our-deployment"),
    ),
    "Azure's list of what can be deployed": Kind(
        {
            "listing": listing({"id": "gpt-4o-2024-08-06", "lifecycle_status": "generally-available"}),
            "answer": answer(model="gpt-4o-2024-08-06"),
        },
        model="our-deployment",
        author=("gpt-4o-2024-08-06", "our-deployment"),
    ),
    "Gemini": Kind(
        {
            "listing": listing({"id": "models/gemini-2.5-flash", "owned_by": "google"}, {"id": "models/x"}),
            "answer": answer(model="gemini-2.5-flash", finish="STOP"),
        },
        model="gemini-2.5-flash",
        version="google",
        author=("gemini-2.5-flash", "models/gemini-2.5-flash"),
    ),
    "Anthropic": Kind(
        {
            "listing": [200, {"data": [{"type": "model", "id": "claude-x", "display_name": "X"}], "has_more": False}],
            "refuses": [
                [
                    '"top_p"',
                    400,
                    {
                        "type": "error",
                        "error": {
                            "type": "invalid_request_error",
                            "message": "`temperature` and `top_p` cannot both be specified for this model.",
                        },
                    },
                ]
            ],
            "answer": answer(finish="end_turn"),
        },
        author=("claude-x", "claude-x"),
        unsent=("top_p",),
        sent={"temperature": 0.0},
        notes=("The server takes no top_p for this model; it uses its own.",),
    ),
    "OpenRouter": Kind(
        {
            "listing": [200, {"data": [{"id": "qwen/qwen3-vl", "canonical_slug": "qwen/qwen3-vl-1", "name": "Qwen3"}]}],
            "answer": answer(provider="Any", choice={"native_finish_reason": "completed"}, message={"refusal": None}),
        },
        model="qwen/qwen3-vl",
        author=("qwen/qwen3-vl", "qwen/qwen3-vl"),
    ),
    "Together": Kind(
        {"listing": [200, [{"id": "m", "type": "chat", "organization": "x"}]], "answer": answer(finish="eos")},
        author=("m", "m"),
    ),
    "Mistral": Kind(
        {
            "listing": listing({"id": "m", "owned_by": "mistralai", "capabilities": {"vision": True}}),
            "answer": answer(
                content=[
                    {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
                    {"type": "text", "text": "$text"},
                ]
            ),
        },
        version="mistralai",
    ),
    "a server that is strict": Kind(
        {
            "listing": listing({"id": "m", "owned_by": "lmdeploy"}),
            "refuses": [
                [
                    '"repetition_penalty"',
                    422,
                    {
                        "detail": [
                            {
                                "type": "extra_forbidden",
                                "loc": ["body", "repetition_penalty"],
                                "msg": "Extra inputs are not permitted",
                            }
                        ]
                    },
                ]
            ],
        },
        version="lmdeploy",
        unsent=("repetition_penalty",),
        notes=("The server takes no repetition_penalty for this model; it uses its own.",),
    ),
    "a gateway that lets nobody see its list": Kind(
        {
            "listing": [401, {"error": {"message": "not for you"}}],
            "needs": {"x-team": "vision-9000"},
            "answer": answer(finish=None),
        },
        model="m",
        headers={"x-team": "vision-9000"},
    ),
}

# What servers say when a text ends, by what becomes of it.
ENDINGS: dict[str, tuple[object, ...]] = {
    "stop": (
        "stop",  # most
        None,  # proxies
        "",
        "null",  # DashScope
        "eos",  # Together
        "eos_token",  # TGI, watsonx
        "stop_sequence",  # TGI, Anthropic, Bedrock
        "end_turn",  # Anthropic, Bedrock
        "STOP",  # Gemini
        "COMPLETE",  # Cohere
        "STOP_SEQUENCE",
        "eosFound",  # LM Studio
        "stopStringFound",
        "tool_calls",  # with a text beside it
        "function_call",
        "load",  # Ollama
        "reason_stop",  # xAI
        "FinishReason.STOP",  # proxies in Python
        "OTHER",  # Gemini
        7,
    ),
    "length": (
        "length",
        "max_tokens",  # Anthropic, watsonx, Bedrock
        "MAX_TOKENS",  # Gemini, Cohere
        "model_length",  # Mistral
        "model_context_window_exceeded",  # Anthropic, Zhipu
        "maxPredictedTokensReached",  # LM Studio
        "contextLengthReached",
        "token_limit",  # watsonx
        "reason_max_len",  # xAI
        "FinishReason.MAX_TOKENS",
        "FINISH_REASON_MAX_TOKENS",
        "max_completion_tokens",
        "max_tokens_reached",
        "token_limit_reached",
    ),
    "filtered": (
        "content_filter",  # OpenAI, Azure, OpenRouter
        "content_filter: RECITATION",  # Gemini
        "content_filtered",  # Bedrock
        "guardrail_intervened",
        "SAFETY",  # Gemini
        "RECITATION",
        "PROHIBITED_CONTENT",
        "BLOCKLIST",
        "SPII",
        "IMAGE_SAFETY",
        "FinishReason.SAFETY",
        "refusal",  # Anthropic
        "sensitive",  # Zhipu
        "ERROR_TOXIC",  # Cohere
    ),
    "broken": (
        "abort",  # vLLM, SGLang, LMDeploy
        "error",  # vLLM, OpenRouter, Mistral
        "repetition",  # vLLM
        "timeout",  # TensorRT-LLM
        "cancelled",
        "not_finished",
        "userStopped",  # LM Studio
        "modelUnloaded",
        "failed",
        "unload",  # Ollama
        "ERROR_LIMIT",  # Cohere
        "USER_CANCEL",
        "insufficient_system_resource",  # DeepSeek
        "network_error",  # Zhipu
        "time_limit",  # watsonx
    ),
}
