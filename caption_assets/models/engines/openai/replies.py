"""What servers answer, read: texts, reasons for their end, refusals, and errors in all their shapes. No I/O."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from caption_assets.models.confidence import Tokens
from caption_assets.models.engines.openai.dialects import DISPENSABLE, NEUTRAL, RENAMED

Ending = Literal["stop", "length", "filtered", "broken"]
# Reasons for the end of a text, in whatever letters. Any other word, or none, is a text that the model has ended by
# itself: eos, end_turn, COMPLETE, eosFound, stop_sequence, tool_calls, …
_ENDINGS: dict[Ending, str] = {
    "length": (
        "length|max_?length|max_?(?:completion_?|output_?|new_?)?tokens(?:_?reached)?|max_?output|model_?length|"
        "token_?limit(?:_?reached)?|output_?limit|"
        "reason_max_len|reason_max_context|context_?length_?(?:reached|exceeded)|model_?context_?window_?exceeded|"
        "max_?predicted_?tokens_?reached"
    ),
    "filtered": (
        "content_?filter(?:ed)?.*|safety|recitation|blocklist|blocked|prohibited_?content|spii|sensitive|moderation|"
        "image_(?:safety|recitation|prohibited_content)|refusal|guardrail_?intervened|error_toxic|"
        "data_?inspection_?failed"
    ),
    "broken": (
        "abort|aborted|error|error_limit|failed|cancell?|cancell?ed|user_?cancel|user_?stopped|interrupted|timeout|"
        "time_?limit|not_?finished|network_?error|insufficient_?system_?resource|model_?unloaded|unload|repetition"
    ),
}
# What clients of Gemini and Vertex AI put before it, which have it as an enumeration.
_BEFORE_ENDING = re.compile(r"^\s*(?:finish|stop)_?reason[._]", re.IGNORECASE)
_MOST = 1 << 53
_UNSUPPORTED = re.compile(
    r"unsupported|not support|n.t support|unrecogni[sz]ed|unknown|unexpected|not permitted|not allowed|not enabled|"
    r"forbidden|deprecated|cannot both|extra (?:inputs|fields)|only the default",
    re.IGNORECASE,
)
_OUT_OF_RANGE = re.compile(r"must be|has to be|should be|needs to be|positive|out of range|between", re.IGNORECASE)


class NoAnswerError(Exception):
    """What came is no answer. `status` is that of an error which came as if it were one, 0 where there is none."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Answer:
    """A chat completion.

    `text` is None where there is none to keep; `kind` and `problem` then say why, and `too_short` that more tokens may
    bring one. `model` is the model that the answer names, "" where it names none. `tokens` are all that was generated,
    with their log-probabilities; empty where the server gives none. Times are those of vLLM's
    --enable-per-request-metrics, in seconds.
    """

    text: str | None
    finish_reason: Literal["stop", "length"] | None
    kind: str = ""
    problem: str = ""
    too_short: bool = False
    model: str = ""
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    tokens: Tokens = ()
    prefill_s: float | None = None
    generate_s: float | None = None


def read_answer(data: bytes) -> Answer:
    """The answer in the body of a response with status 200. Raises NoAnswerError for anything else."""
    reply = as_object(data)
    choices = reply.get("choices")
    if reply.get("error") and not choices:
        raise NoAnswerError(f"the server answers with an error: {error_text(data)}", _code(reply["error"]))
    if not isinstance(choices, list) or not choices:
        wrong = "has no choices" if reply else "is no JSON object"
        raise NoAnswerError(f"the server's answer {wrong}: {_start(data)}")
    choice = _dict(choices[0])
    if choice.get("error"):
        raise NoAnswerError(f"the server answers with an error: {_words(choice['error'])}", _code(choice["error"]))
    message, usage, times = _dict(choice.get("message")), _dict(reply.get("usage")), _dict(reply.get("metrics"))
    text, reason, model = content_text(message.get("content")), choice.get("finish_reason"), reply.get("model")
    ending = ending_of(reason)
    kind, problem = _problem(choice, message, text, ending)
    return Answer(
        text=None if problem else text,
        finish_reason=ending if ending in ("stop", "length") and not problem else None,
        kind=kind,
        problem=problem,
        too_short=kind == "reply" and (ending == "length" or (ending == "stop" and _has_thought(message))),
        model=_clean(model)[:200].strip() if isinstance(model, str) else "",
        prompt_tokens=_count(usage, "prompt_tokens"),
        cached_tokens=_count(_dict(usage.get("prompt_tokens_details")), "cached_tokens"),
        output_tokens=_count(usage, "completion_tokens"),
        tokens=_tokens(_dict(choice.get("logprobs"))),
        prefill_s=_seconds(times, "time_to_first_token_ms"),
        generate_s=_seconds(times, "generation_time_ms"),
    )


def ending_of(reason: object) -> Ending:
    """What a server's word for the end of a text means."""
    word = _BEFORE_ENDING.sub("", reason).strip() if isinstance(reason, str) else ""
    for ending, words in _ENDINGS.items():
        if re.fullmatch(words, word, re.IGNORECASE):
            return ending
    return "stop"


def content_text(content: object) -> str:
    """The text of a message's content: a text, or a list of parts, of which those of thinking and refusals are none."""
    parts = content if isinstance(content, list) else [content]
    texts = []
    for part in parts:
        if isinstance(part, dict) and part.get("type", "text") in ("text", "output_text"):
            part = part.get("text")
        if isinstance(part, str):
            texts.append(part)
    return _clean("".join(texts)).strip()


def _tokens(logprobs: dict[str, Any]) -> Tokens:
    """Tokens and their log-probabilities, as OpenAI has them, or in two lists, as its completions had them before."""
    content, names, values = (logprobs.get(name) for name in ("content", "tokens", "token_logprobs"))
    if not isinstance(content, list):
        if not (isinstance(names, list) and isinstance(values, list) and len(names) == len(values)):
            return ()
        content = [{"token": name, "logprob": value} for name, value in zip(names, values, strict=True)]
    tokens = []
    for token in content:
        name, value = (_dict(token).get(key) for key in ("token", "logprob"))
        if isinstance(value, bool) or not isinstance(value, int | float):
            return ()
        tokens.append((_clean(name) if isinstance(name, str) else "", float(value)))
    return tokens


def _problem(choice: dict[str, Any], message: dict[str, Any], text: str, ending: Ending) -> tuple[str, str]:
    """Why there is no text to keep, in a word and in words; empty where there is one."""
    reason = choice.get("finish_reason")
    refusal = _refusal(message)
    if refusal:
        return "refusal", f"the model refuses: {refusal}"
    if ending == "filtered":
        filters = _dict(choice.get("content_filter_results"))
        hit = ", ".join(name for name, said in filters.items() if _dict(said).get("filtered"))
        return "filtered", f"the server filtered the text ({reason!s}{f': {hit}' if hit else ''})"
    if ending == "broken":
        return "reply", f"the server broke the text off for the reason {reason!r}"
    if text:
        return "", ""
    if message.get("tool_calls") or message.get("function_call"):
        return "reply", "the server's answer has no text; it calls a tool"
    if _has_thought(message):
        wrong = f"the model has only thought, and ended for the reason {reason!r}"
        return "reply", f"{wrong}; allow it more tokens, or switch its thinking off at the server"
    return "reply", f"the server's answer has no text; it ended for the reason {reason!r}"


def _has_thought(message: dict[str, Any]) -> bool:
    return bool(message.get("reasoning_content") or message.get("reasoning"))


def _refusal(message: dict[str, Any]) -> str:
    """In the model's own words, which OpenAI puts beside the content, or into a part of it."""
    content = message.get("content")
    parts = [part.get("refusal") for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    said = [_clean(word).strip() for word in (message.get("refusal"), *parts) if isinstance(word, str)]
    return " ".join(word for word in said if word)


def error_text(data: bytes) -> str:
    """A server's own words for what is wrong, "" where it has none: the title of a page, or how a text begins."""
    reply = _json(data)
    if isinstance(reply, list) and reply:  # Gemini
        reply = reply[0]
    if isinstance(reply, dict):
        return _words(reply.get("error") or reply.get("errors") or reply)
    return "" if reply is not None else _start(data)


def error_code(data: bytes) -> str:
    """The words by which a server tells its errors apart, such as "insufficient_quota"."""
    error = _dict(as_object(data).get("error"))
    return " ".join(str(error.get(name)) for name in ("code", "type") if error.get(name))


def refused_field(data: bytes, sent: Mapping[str, Any]) -> str | None:
    """Which of the fields that were sent a server does not take, by its error, where it can be done without.

    So can a field of whose value it complains, where that is neutral.
    """
    said = error_text(data)
    known = [name for name in (*RENAMED, *DISPENSABLE) if name in sent]
    if not _UNSUPPORTED.search(said):
        known = [name for name in known if _OUT_OF_RANGE.search(said) and sent[name] in NEUTRAL.get(name, ())]
    param = _dict(as_object(data).get("error")).get("param")
    if param in known:
        return str(param)
    return next((name for name in known if re.search(rf"(?<!\w){name}(?!\w)", said, re.IGNORECASE)), None)


def as_object(data: bytes) -> dict[str, Any]:
    """The JSON object in a body; empty where there is none."""
    return _dict(_json(data))


def listed_models(data: bytes) -> list[dict[str, Any]] | None:
    """The cards of the models that a server lists, None where this is no such list."""
    reply = _json(data)
    found = reply if isinstance(reply, list) else _dict(reply).get("data", _dict(reply).get("models", ...))
    if found is None:  # Ollama without models
        return []
    if not isinstance(found, list):
        return None
    cards = [card if isinstance(card, dict) else {"id": card} for card in found]
    named = [(card, card.get("id") or card.get("name")) for card in cards]
    return [{**card, "id": _clean(name)} for card, name in named if isinstance(name, str) and name.strip()]


def _words(error: object, depth: int = 4) -> str:
    if isinstance(error, str):
        return _clean(error)
    if not depth:
        return ""
    if isinstance(error, list):
        return "; ".join(filter(None, (_words(one, depth - 1) for one in error[:3])))
    if not isinstance(error, dict):
        return ""
    inner = (_words(error.get(name), depth - 1) for name in ("message", "msg", "detail", "error"))
    said = next(filter(None, inner), "")
    place = error.get("loc")
    if isinstance(place, list) and place:  # pydantic
        said = f"{place[-1]}: {said}"
    raw = _words(_dict(error.get("metadata")).get("raw"))  # OpenRouter, of whom it has asked
    return f"{said} ({raw})" if raw and raw not in said else said


def _code(error: object) -> int:
    """The HTTP status that an error object names, 0 where it names none."""
    code = _dict(error).get("code", _dict(error).get("status"))
    try:
        status = int(code) if isinstance(code, int | str) else 0
    except ValueError:
        return 0
    return status if 400 <= status < 600 else 0


def _start(data: bytes) -> str:
    """How a body begins; of a page its title."""
    text = data[:4000].decode(errors="replace")
    title = re.search(r"<title[^>]*>([^<]*)", text, re.IGNORECASE)
    return (title.group(1) if title else text[:200]).strip()


def _clean(text: str) -> str:
    """Without halves of surrogate pairs, which JSON may hold and nothing else may."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _seconds(times: dict[str, Any], name: str) -> float | None:
    value = times.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MOST:
        return None
    return value / 1000


def _count(usage: dict[str, Any], name: str) -> int | None:
    value = usage.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MOST:
        return None
    return value
