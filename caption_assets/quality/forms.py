"""Rules on the form of one text."""

import json
import math
import re
import unicodedata
from collections import defaultdict
from functools import partial
from itertools import pairwise

from caption_assets.quality.texts import Judged
from caption_assets.quality.words import length, shingles, units
from caption_assets.settings import QualitySettings

_GRAM, _LEAST_WORDS = 4, 40
# Of a phrase that comes again but for a word or two: so many times as often as one that comes again as it was, since
# enumerations are like this, too; and no longer than this, in words or letters.
_CHANGING_TIMES, _CHANGED_WORDS, _LONGEST_CHANGING = 2, 2.0, 60
# A run of letters that repeats itself within a word.
_WITHIN = re.compile(r"(\w{1,12}?)\1{7,}")
_LEAST_WITHIN = 24
_LEAST_ECHO, _LEAST_PROMPT = 12.0, 4.0
# What chat templates are made of. Those of known thinking never get here.
_CHAT_TOKEN = re.compile(
    r"<\|[A-Za-z0-9_ :-]{1,40}\|>|<｜[^｜<>]{1,40}｜>|</?s>|<(?:bos|eos|pad|unk|mask)>|\[/?INST\]|<</?SYS>>|"
    r"</?(?:start|end)_of_(?:turn|image|text)>|<SPECIAL_\d+>|<extra_id_\d+>|<0x[0-9A-F]{2}>|"
    r"</?(?:image|img|video|image_soft_token|vision_start|vision_end)>|"
    r"</?tool_(?:call|response)>|^\s*(?:<\|?)?(?:assistant|user|system|Assistant|ASSISTANT|USER|SYSTEM)\s*[:：\n]"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202d\u202e]")
_DIRECTION = re.compile(r"[\u202a-\u202c\u2066-\u2069]")
_NOTHING = re.compile(r"[\s\"'`]*+(?:n/?a|none|null|nil)[\s\"'`.]*+", re.IGNORECASE)
_HEADING = re.compile(
    r"^ {0,3}(?:#{1,6}[ \t]+[^\W\d].*\n|(?:\*\*|__)[^*_\n]{1,80}(?:\*\*|__)[ \t]*:?[ \t]*$)", re.MULTILINE
)
_BULLET = re.compile(r"^[ \t]*(?:[-*•●▪◦‣·–—]|\d{1,2}[.)、]|[（(]\d{1,2}[)）])[ \t]*\S", re.MULTILINE)
_EMPHASIS = re.compile(r"(\*\*|__)(?=\S)[^*_\n]{1,80}?(?<=\S)\1")
_TABLE = re.compile(r"^[ \t]*\|.*\|[ \t]*$", re.MULTILINE)
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)
_TAG = re.compile(r"</?(?:p|br|div|span|b|i|strong|em|ul|ol|li|h[1-6]|table|tr|td|html|body)\s*/?>", re.IGNORECASE)
_WANTS_FORM = re.compile(
    r"json|markdown|bullet|list|table|heading|section|html|liste|tabelle|überschrift|列表|表格|标题|分点", re.I
)


def empty(judged: Judged, _: QualitySettings) -> str | None:
    """There is nothing but white space, punctuation and signs, or a word for nothing: N/A, None, null.

    Wrong to fire on nothing that is meant as a caption: any other letter or digit is enough to pass, and in JSON that
    was asked for any number, boolean or text.
    """
    if judged.is_json:
        return None if judged.values else f"it has no value: {judged.text[:40]!r}"
    is_blank = not any(letter.isalnum() for letter in judged.text) or _NOTHING.fullmatch(judged.text)
    return f"it has no word: {judged.text[:40]!r}" if is_blank else None


def cut_off(judged: Judged, _: QualitySettings) -> str | None:
    """The text ran into the limit of tokens (finish reason "length").

    Wrong to fire where the limit happened to fall on the end of the last sentence. More `max_output_tokens` help.
    """
    return "the limit of tokens cut it off" if judged.finish_reason == "length" else None


def repetition(judged: Judged, settings: QualitySettings) -> str | None:
    """A phrase comes again and again in a row, or the text says the same all over.

    By default a phrase of four words or more that comes three times in a row, or six times with a word or two beside
    them that change, or fewer than 0.35 distinct runs of four words in 40 words or more (the shares of real captions
    begin at about 0.8, and none has such a phrase three times). Wrong to fire on a caption that quotes a chorus, a
    chant or a countdown, and on one that names many alike things with the same words.
    """
    return next(filter(None, map(partial(_repeats, settings), judged.parts, judged.part_units)), None)


def _repeats(settings: QualitySettings, text: str, words: list[str]) -> str | None:
    for found in _WITHIN.finditer(text.casefold()):
        if len(found[0]) >= _LEAST_WITHIN:
            return f"{found[1]!r} comes {len(found[0]) // len(found[1])} times in a row"
    grams = shingles(words, _GRAM)
    places: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for at, gram in enumerate(grams):
        places[gram].append(at)
    if phrase := _repeated(words, places, settings):
        return f"{' '.join(phrase)[:60]!r} comes {settings.repeated_times} times in a row, or more"
    if phrase := _changing(words, places, settings):
        times = _CHANGING_TIMES * settings.repeated_times
        return f"{' '.join(phrase)[:60]!r} comes {times} times in a row, or more, with little changed"
    if length(words) >= _LEAST_WORDS and len(places) < settings.distinct_share * len(grams):
        return f"only {len(places)} of its {len(grams)} runs of four words are distinct"
    return None


def _repeated(
    words: list[str], places: dict[tuple[str, ...], list[int]], settings: QualitySettings
) -> list[str] | None:
    """The first phrase that is repeated often enough: where its beginnings are, the same run of words stands."""
    for starts in places.values():
        for first, second in pairwise(starts):
            size = second - first
            # A shorter phrase counts where it comes so often that a longer one made of it does.
            size *= math.ceil(settings.repeated_words / length(words[first:second]))
            end = first + size * settings.repeated_times
            if end <= len(words) and words[first + size : end] == words[first : end - size]:
                return words[first : first + size]
    return None


def _changing(
    words: list[str], places: dict[tuple[str, ...], list[int]], settings: QualitySettings
) -> list[str] | None:
    """The first phrase that comes again and again, with no more than `_CHANGED_WORDS` between one time and the next."""
    for starts in places.values():
        times = 1
        for first, second in pairwise(starts):
            size = second - first
            same = _same(words, first, second) if size <= _LONGEST_CHANGING else 0
            is_again = length(words[first : first + same]) >= settings.repeated_words
            times = times + 1 if is_again and length(words[first + same : second]) <= _CHANGED_WORDS else 1
            if times >= _CHANGING_TIMES * settings.repeated_times:
                return words[first : first + same]
    return None


def _same(words: list[str], first: int, second: int) -> int:
    """How many words from `first` on, up to `second`, come again from there on."""
    size = 0
    while first + size < second and second + size < len(words) and words[first + size] == words[second + size]:
        size += 1
    return size


def prompt_echo(judged: Judged, _: QualitySettings) -> str | None:
    """The text has the prompt in it, or a run of at least twelve of its words.

    Wrong to fire where a prompt says word for word what is to be written, or lists what a caption has to name.
    """
    asked = units(judged.prompt)
    if length(asked) < _LEAST_PROMPT:
        return None
    return next(filter(None, map(partial(_echo, asked), judged.part_units)), None)


def _echo(asked: list[str], said: list[str]) -> str | None:
    needed = min(_LEAST_ECHO, length(asked))
    gram = min(4, len(asked))
    starts: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for at, run in enumerate(shingles(asked, gram)):
        starts[run].append(at)
    for at, run in enumerate(shingles(said, gram)):
        for begin in starts.get(run, ()):
            size = gram
            while at + size < len(said) and begin + size < len(asked) and said[at + size] == asked[begin + size]:
                size += 1
            if length(said[at : at + size]) >= needed:
                return f"it repeats the prompt: {' '.join(said[at : at + size])[:60]!r}"
    return None


def chat_token(judged: Judged, _: QualitySettings) -> str | None:
    """There are marks of a chat template: <|im_end|>, <image>, [INST], "assistant:" at the beginning.

    Wrong to fire on a caption that reads such a mark off a screen.
    """
    found = _CHAT_TOKEN.search(judged.read)
    return f"it has {found[0].strip()!r} in it" if found else None


def control_characters(judged: Judged, _: QualitySettings) -> str | None:
    """There are signs that show nothing and act on whoever shows the text: null, ESC, overrides of the direction.

    Marks that embed or isolate a direction belong to texts with letters that run from right to left, and pass there.
    Wrong to fire on no caption that is known: line breaks and tabs are none of them.
    """
    text = judged.read
    found = _CONTROL.search(text) or (None if _is_right_to_left(text) else _DIRECTION.search(text))
    return f"it has the control character U+{ord(found[0]):04X} in it" if found else None


def _is_right_to_left(text: str) -> bool:
    return any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in text)


def markup(judged: Judged, _: QualitySettings) -> str | None:
    """There are headings, lists, tables, fences, tags or JSON, where prose was asked for.

    A prompt that names such a form is taken at its word, and the rule passes. Wrong to fire on captions that keep the
    lines of a text that is seen in the video.
    """
    if _WANTS_FORM.search(judged.prompt):
        return None
    return next(filter(None, map(_marked_up, judged.parts)), None)


def _marked_up(text: str) -> str | None:
    if _FENCE.search(text):
        return "it has a code fence"
    if _is_json(text):
        return "it is JSON"
    if found := _HEADING.search(text):
        return f"it has a heading: {found[0].strip()[:60]!r}"
    for name, pattern in (("list", _BULLET), ("table", _TABLE), ("emphasis", _EMPHASIS)):
        if len(pattern.findall(text)) > 1:
            return f"it has {'a ' if name != 'emphasis' else ''}{name}"
    found = _TAG.search(text)
    return f"it has a tag: {found[0]!r}" if found else None


def _is_json(text: str) -> bool:
    stripped = text.strip()
    if not stripped.startswith(("{", "[")):
        return False
    try:
        return isinstance(json.loads(stripped), dict | list)
    except (ValueError, RecursionError):
        return bool(re.match(r'[\[{]\s*[\[{]?\s*"[^"\n]{1,40}"\s*[:,]', stripped))  # cut off
