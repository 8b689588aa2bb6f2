"""What servers take beyond OpenAI's API, by the software that they are, and what they therefore are not sent."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Dialect:
    """One software, as the fields of its requests.

    `names` are the fields beyond OpenAI's that it takes, by our names for them, which are vLLM's; what stands in
    `constants` goes with them, and `no_top_k` is its word for all tokens. `thinking` is how a request switches thinking
    off: by options for the chat template (`chat_template_kwargs`), by `reasoning_effort`, or in no way that is known.
    `template_needs` says when the template's options count. `version_path` is where its version is, beside the API.
    """

    title: str
    names: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    no_top_k: int = -1
    thinking: Literal["template", "effort", ""] = ""
    template_needs: str = ""
    version_path: str = ""

    def fields(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the wanted fields that it takes, under its own names."""
        if wanted.get("top_k") == -1:
            wanted = {**wanted, "top_k": self.no_top_k}
        taken = {self.names[name]: value for name, value in wanted.items() if name in self.names}
        return taken | dict(self.constants) if taken else taken

    def without_thinking(self, switches: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that switch thinking off; `switches` are the template's options for that, maybe none."""
        if not switches or not self.thinking:
            return {}
        return {"chat_template_kwargs": dict(switches)} if self.thinking == "template" else {"reasoning_effort": "none"}

    def left_out(self, top_k: int, repetition_penalty: float, switches: Mapping[str, Any]) -> Iterator[str]:
        """In sentences, what it is not sent although it is wanted, or may ignore. A `top_k` of 0 is all tokens."""
        if top_k and "top_k" not in self.names:
            yield f"{self.title} is not known to take a top_k; it uses its own."
        if repetition_penalty != 1 and "repetition_penalty" not in self.names:
            yield f"{self.title} is not known to take a repetition penalty; none is used."
        if switches and not self.thinking:
            yield f"{self.title} is not known to take a switch for thinking; a model that thinks may do so."
        elif switches and self.template_needs:
            yield f"{self.title} heeds the switch for thinking only {self.template_needs}."


_AS_VLLM = {"top_k": "top_k", "repetition_penalty": "repetition_penalty"}
_AS_LLAMACPP = {"top_k": "top_k", "repetition_penalty": "repeat_penalty"}
UNKNOWN = Dialect("The server")
# From their documentation and sources. What a server ignores is not sent, so that nobody believes in it.
DIALECTS: Mapping[str, Dialect] = {
    "vllm": Dialect("vLLM", _AS_VLLM, thinking="template", version_path="version"),
    "sglang": Dialect("SGLang", _AS_VLLM, thinking="template"),
    # Its penalty looks back 64 tokens by default; -1 is the whole context, as with vLLM.
    "llamacpp": Dialect(
        "llama.cpp",
        _AS_LLAMACPP,
        {"repeat_last_n": -1},
        thinking="template",
        template_needs="where it was started with --jinja, which newer releases do by themselves",
    ),
    "ollama": Dialect("Ollama", thinking="effort", version_path="api/version"),
    "lmstudio": Dialect("LM Studio", _AS_LLAMACPP, no_top_k=0),
    "lmdeploy": Dialect("LMDeploy", _AS_VLLM, no_top_k=0, thinking="template"),
    "tensorrt_llm": Dialect("TensorRT-LLM", _AS_VLLM, no_top_k=0, thinking="template"),
}
# What they state as `owned_by` in the list of their models, where that is not their name.
_OWNERS = {"library": "ollama", "organization_owner": "lmstudio", "organization-owner": "lmstudio"}

RENAMED: Mapping[str, str] = {"max_tokens": "max_completion_tokens"}
"""Fields that some models want under another name."""

DISPENSABLE = (
    "logprobs",
    "seed",
    "top_p",
    "top_k",
    "presence_penalty",
    "repetition_penalty",
    "repeat_penalty",
    "repeat_last_n",
    "chat_template_kwargs",
    "reasoning_effort",
    "stop",
    "temperature",
)
"""Fields that a server may refuse to take, and then does without. Where it names several, the first of these goes."""

NEUTRAL: Mapping[str, tuple[float, ...]] = {
    "top_p": (1,),
    "top_k": (-1, 0),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "repeat_penalty": (1,),
    "temperature": (0,),
}
"""Values that ask for nothing, or for no draws. Some servers refuse just these, and want the field left out."""


def software_of(owned_by: object) -> str:
    """The software by the owner that a server states for its model; "" where that is no name."""
    owner = str(owned_by or "").lower()
    owner = _OWNERS.get(owner, owner)
    return owner if owner.replace(".", "").replace("-", "").replace("_", "").isalnum() else ""


def dialect_of(software: str) -> Dialect:
    return DIALECTS.get(software, UNKNOWN)
