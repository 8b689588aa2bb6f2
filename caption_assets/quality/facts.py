"""Facts that a rewritten text has to keep: the numbers and the colours that its caption names.

English, German and Chinese are known. What a caption states has to be plain ("two", "3", "red"); what keeps it may be
less so ("a pair", "crimson").
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from caption_assets.quality.texts import Judged
from caption_assets.settings import QualitySettings


class _Colour(NamedTuple):
    """The words of a colour, and those of its shades: alternatives of a pattern. German words are stems."""

    english: str
    shades: str
    german: str
    german_shades: str
    chinese: str


_COLOURS: Mapping[str, _Colour] = {
    "red": _Colour("red", "reddish|crimson|scarlet|maroon|burgundy|ruby", "rot", "röt|purpur|karmesin|scharlach", "红"),
    "green": _Colour("green", "greenish|emerald|olive|lime|teal|jade|mint", "grün", "smaragd|oliv|türkis", "绿翠"),
    "blue": _Colour("blue", "bluish|navy|azure|cobalt|indigo|teal|turquoise|cyan", "blau", "bläu|azur|türkis", "蓝青"),
    "yellow": _Colour("yellow", "yellowish|golden|gold|amber|lemon|mustard", "gelb", "gold", "黄金"),
    "orange": _Colour("orange", "amber|tangerine|coral|peach", "orange", "apricot", "橙橘"),
    "purple": _Colour("purple|violet", "lavender|lilac|magenta|mauve|plum", "lila|violett", "purpur|flieder", "紫"),
    "white": _Colour("white", "whitish|ivory|snowy|cream|pearl", "weiß|weiss", "elfenbein|creme", "白"),
    "black": _Colour("black", "blackish|ebony|jet", "schwarz", "schwärz", "黑"),
    "gray": _Colour("gray|grey", "grayish|greyish|silver|silvery|slate|charcoal", "grau", "gräu|silbern", "灰银"),
    "brown": _Colour("brown", "brownish|tan|chestnut|chocolate|bronze|auburn", "braun", "bräun|kastanie", "棕褐"),
    "pink": _Colour("pink", "pinkish|rose|rosy|fuchsia|salmon|magenta", "rosa|pink", "rosé", "粉"),
}
_SHADE = (
    "(?:dunkel|hell|tief|blass|knall|himmel|leuchtend|schnee|pech|purpur|wein|blut|feuer|ziegel|kirsch|rost|zitronen|gold|"
    "gras|moos|marine|königs|eis|kohl|raben|rosen|grau|blau|grün)?"
)
_ENDING = r"(?:n?e[mnrs]?|lich\w*|farben\w*)?"


def _counted(*words: tuple[str, int, int]) -> dict[str, int]:
    """Words in a row, with the number of the first and the step from each to the next."""
    return {word: first + step * k for row, first, step in words for k, word in enumerate(row.split())}


_ENGLISH = _counted(
    ("two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen", 2, 1),
    ("eighteen nineteen", 18, 1),
    ("twenty thirty forty fifty sixty seventy eighty ninety", 20, 10),
)
_ONES = _counted(("zwei drei vier fünf sechs sieben acht neun", 2, 1))
_TENS = _counted(("zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig", 20, 10))
_TEENS = _counted(("zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn achtzehn neunzehn", 10, 1))
_GERMAN = {f"{one}und{ten}": _ONES[one] + _TENS[ten] for one in _ONES for ten in _TENS} | _ONES | _TENS | _TEENS
_LOOSELY = {"pair": 2, "pairs": 2, "couple": 2, "both": 2, "twin": 2, "duo": 2, "trio": 3, "dozen": 12}
_LOOSELY |= {"beide": 2, "beiden": 2, "beider": 2, "paar": 2, "zweier": 2, "dreier": 3, "dutzend": 12}
# Two people are often said to be who they are.
_PEOPLE = r"(?:man|woman|boy|girl|lady|gentleman|child|mann|frau|junge|mädchen|kind)"
_TWO_PEOPLE = re.compile(
    rf"\b{_PEOPLE}\b[^.]{{0,60}}\b(?:and|und|beside|while|as)\b[^.]{{0,30}}\b{_PEOPLE}\b|[男女]人?和[^。]{{0,8}}[男女]"
)
_WORD = re.compile(r"[^\W\d_]+")
_DIGITS = re.compile(r"\d+(?:[.,]\d+)*")
_THOUSANDS = re.compile(r"\d{1,3}(?:[.,]\d{3})+")
# Chinese numbers count something: without its word, they are part of another one (三角形, 四周).
_CHINESE = {letter: value for value, letter in enumerate("一二三四五六七八九", 1)} | {"两": 2}
_CHINESE_COUNTED = re.compile(
    "([一二两三四五六七八九]?十[一二三四五六七八九]?|[二两三四五六七八九])"
    "[个只条辆名位张座棵艘架件台头匹朵把双对人块根栋幢盏扇层排支颗杯本次米秒分]"
)
_GERMAN_TEXT = re.compile(r"\b(?:und|der|das|ist|auf|mit|ein|eine[mnrs]?|dem|den|im|vor|nach|wird|sind)\b")


def facts_lost(judged: Judged, _: QualitySettings) -> str | None:
    """An enhanced text no longer has a number or a colour that its caption names.

    Wrong to fire where a colour's word is something else (an orange on a table, the green of a golf course), where a
    number is said by naming what is counted, and where the new text corrects the caption. Other facts are not looked
    at, and nothing is said of what was added.
    """
    if judged.caption is None:
        return None
    caption, text = judged.caption.lower(), judged.text.lower()
    lost = [f"{number:g}" for number in sorted(_numbers(caption) - _numbers(text, loosely=True))]
    lost += sorted(_colours(caption) - _colours(text, loosely=True))
    return f"its caption's {', '.join(lost)} is lost" if lost else None


def _numbers(text: str, loosely: bool = False) -> set[float]:
    """The numbers that a text names in digits or in words, but 0 and 1, which are often none."""
    found = {float(_plain(match[0])) for match in _DIGITS.finditer(text) if match[0].count(".") < 2}
    known = {**_ENGLISH, **(_GERMAN if loosely or _is_german(text) else {}), **(_LOOSELY if loosely else {})}
    words = list(_WORD.finditer(text))
    for at, match in enumerate(words):
        value = known.get(match[0], 0)
        before = words[at - 1] if at else match
        tens = _ENGLISH.get(before[0], 0)
        if 1 < value < 10 and tens >= 20 and match.start() == before.end() + 1:  # twenty-five
            found.discard(tens)
            value += tens
        found.add(value)
    if loosely and _TWO_PEOPLE.search(text):
        found.add(2)
    for match in _CHINESE_COUNTED.finditer(text):
        before_ten, ten, ones = match[1].rpartition("十")
        found.add((10 * _CHINESE.get(before_ten, 1) if ten else 0) + _CHINESE.get(ones, 0))
    return found - {0, 1}


def _plain(digits: str) -> str:
    return re.sub("[.,]", "", digits) if _THOUSANDS.fullmatch(digits) else digits.replace(",", ".", 1).split(",")[0]


def _colours(text: str, loosely: bool = False) -> set[str]:
    """The colours that a text names; loosely, by words of their shades, too."""
    patterns = _LOOSE_PATTERNS if loosely else _GERMAN_PATTERNS if _is_german(text) else _PATTERNS
    return {name for name, pattern in patterns.items() if pattern.search(text)}


def _is_german(text: str) -> bool:
    """Whether German words count: some are English ones of other meaning (elf, rot)."""
    return len(_GERMAN_TEXT.findall(text)) > 1


def _patterns(*, german: bool, loosely: bool) -> dict[str, re.Pattern[str]]:
    found = {}
    for name, colour in _COLOURS.items():
        english, stems = colour.english, colour.german
        if loosely:
            english, stems = f"{english}|{colour.shades}", f"{stems}|{colour.german_shades}"
        parts = [
            rf"\b(?:{english}){'(?:s|ness|ery)?' if loosely else ''}\b",
            f"[{colour.chinese}]" + ("" if loosely else "色"),
        ]
        if german:
            parts.append(rf"\b{_SHADE}(?:{stems}){_ENDING}\b")
        found[name] = re.compile("|".join(parts))
    return found


_PATTERNS = _patterns(german=False, loosely=False)
_GERMAN_PATTERNS = _patterns(german=True, loosely=False)
_LOOSE_PATTERNS = _patterns(german=True, loosely=True)
