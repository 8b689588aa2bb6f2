"""Texts as units: words, or single letters of scripts that have no spaces; and the script that a text is written in."""

import re
import unicodedata
from collections import Counter
from functools import lru_cache

# Each letter of these is a unit. Thai, Lao, Khmer and Burmese have no spaces between words, either.
_NO_SPACES = "\u2e80-\u2fff\u3005-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_NO_SPACES += "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
_UNIT = re.compile(rf"[{_NO_SPACES}]|(?:(?![{_NO_SPACES}])\w)+(?:['’-](?:(?![{_NO_SPACES}])\w)+)*")
_UNSPACED = re.compile(rf"[{_NO_SPACES}]")
# Of the names of letters in Unicode, for what is one way of writing.
_SCRIPTS = {"CJK": "han", "HIRAGANA": "japanese", "KATAKANA": "japanese", "KATAKANA-HIRAGANA": "japanese"}
# So large a share of kana makes a text of Chinese characters a Japanese one.
_LEAST_KANA = 0.1


def units(text: str) -> list[str]:
    """The words of a text in small letters, without punctuation; of scripts without spaces, the letters."""
    return _UNIT.findall(text.casefold())


def length(found: list[str]) -> float:
    """How many words units are worth: two letters of a script without spaces count as one."""
    return sum(0.5 if is_unspaced(unit) else 1 for unit in found)


@lru_cache(maxsize=20_000)
def is_unspaced(unit: str) -> bool:
    """Whether a unit is a letter of a script without spaces."""
    return bool(_UNSPACED.match(unit))


def shingles(found: list[str], size: int) -> list[tuple[str, ...]]:
    """All runs of `size` units."""
    return list(zip(*(found[k:] for k in range(size)), strict=False))


def scripts(text: str) -> Counter[str]:
    """How many letters of each script a text has, by the script's name in small letters (latin, cyrillic, han, …)."""
    return Counter(script for letter in text if (script := _script(letter)))


def main_script(text: str, least: int = 1) -> str | None:
    """The script of most of a text's letters; None where it has fewer than `least` letters."""
    found = scripts(text)
    total = found.total()
    if total < max(1, least):
        return None
    if found["japanese"] >= _LEAST_KANA * (found["japanese"] + found["han"]) > 0:
        found["japanese"] += found.pop("han", 0)
    return found.most_common(1)[0][0]


def is_script(name: str) -> bool:
    """Whether there are letters of a script of that name."""
    return name == "japanese" or any(_script(chr(code)) == name for code in range(0x20000))


@lru_cache(maxsize=20_000)
def _script(letter: str) -> str | None:
    if not letter.isalpha():
        return None
    name = unicodedata.name(letter, "").partition(" ")[0]
    return _SCRIPTS.get(name, name.lower()) or None
