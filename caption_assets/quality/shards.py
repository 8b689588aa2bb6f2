"""Rules on texts beside each other: what is out of the ordinary in its shard."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from statistics import median

from caption_assets.quality.texts import Judged
from caption_assets.quality.words import length as words_of
from caption_assets.quality.words import main_script, shingles
from caption_assets.settings import QualitySettings

# Fewer texts have no median to speak of.
_LEAST_TEXTS = 10
# Where all texts are about equally long, a few letters more are nothing: a factor of 1.2 counts as one deviation.
_LEAST_DEVIATION = math.log(1.2)
_LEAST_LETTERS = 20
_GRAM = 3


def length(texts: Sequence[Judged], settings: QualitySettings) -> Mapping[int, str]:
    """The text is far shorter or longer than the shard's others, or than the settings allow.

    Far is more than six median absolute deviations from the median, of lengths on a logarithmic scale, in a shard of
    ten texts or more; where nearly all are alike, three times as long or short. Wrong to fire on the one window of a
    shard in which a lot happens, or nothing.
    """
    lengths = [len(text.text.strip()) for text in texts]
    logs = [math.log(max(1, size)) for size in lengths]
    middle = median(logs) if logs else 0.0
    deviation = max(_LEAST_DEVIATION, median(abs(log - middle) for log in logs)) if logs else 1.0
    found = {}
    for at, size in enumerate(lengths):
        if size < settings.least_letters or size > (settings.most_letters or size):
            found[at] = f"it has {size} characters"
        elif len(texts) >= _LEAST_TEXTS and abs(logs[at] - middle) > settings.length_deviations * deviation:
            found[at] = f"it has {size} characters, half of the shard's texts have less than {math.exp(middle):.0f}"
    return found


def language(texts: Sequence[Judged], settings: QualitySettings) -> Mapping[int, str]:
    """Most letters of the text are of another script than the prompt's, or than the setting says.

    Languages of one script cannot be told apart so, and texts of fewer than 20 letters pass. Where most of a shard's
    texts are in another script than the prompt, the prompt has asked for it in words, and that script is the right one;
    with three texts or fewer, this cannot be known, and it is wrong to fire.
    """
    written = [main_script(text.read, _LEAST_LETTERS) for text in texts]
    expected = settings.script or (main_script(texts[0].prompt) if texts else None)
    if settings.script is None and len(texts) > 3:
        most, count = Counter(filter(None, written)).most_common(1)[0] if any(written) else (expected, 0)
        expected = most if 2 * count > len(texts) else expected
    if expected is None:
        return {}
    return {
        at: f"it is written in {script}, and not in {expected}"
        for at, script in enumerate(written)
        if script is not None and script != expected and {script, expected} != {"han", "japanese"}
    }


def near_duplicate(texts: Sequence[Judged], settings: QualitySettings) -> Mapping[int, str]:
    """A window of another clip has the same text, or nearly.

    Of texts of 25 words or more, 0.9 or more of all runs of three words that one of the two has are in both. Windows
    of one clip are not compared: they often show the same. Wrong to fire where two clips do show the same, as of a
    camera that stands still.
    """
    sets = {
        at: frozenset(shingles(text.units, _GRAM))
        for at, text in enumerate(texts)
        if words_of(text.units) >= settings.duplicate_words
    }
    # Two sets that are so similar share one of the rarest members of each (Chaudhuri et al., ICDE 2006): so many
    # members, rarest first, are enough to find every pair.
    counts = Counter(gram for grams in sets.values() for gram in grams)
    seen: dict[tuple[str, ...], list[int]] = defaultdict(list)
    like: dict[int, int] = {}
    for at, grams in sorted(sets.items(), key=lambda item: (len(item[1]), item[0])):
        rarest = sorted(grams, key=lambda gram: (counts[gram], gram))
        kept = len(grams) - math.ceil(settings.duplicate_similarity * len(grams)) + 1
        others = {other for gram in rarest[:kept] for other in seen[gram]}
        for other in sorted(others):
            if texts[other].clip != texts[at].clip and _similarity(grams, sets[other]) >= settings.duplicate_similarity:
                like.setdefault(at, other)
                like.setdefault(other, at)
        for gram in rarest[:kept]:
            seen[gram].append(at)
    return {at: f"it is like that of clip {texts[o].clip}, window {texts[o].window}" for at, o in sorted(like.items())}


def _similarity(one: frozenset[tuple[str, ...]], other: frozenset[tuple[str, ...]]) -> float:
    return len(one & other) / len(one | other)


def low_confidence(texts: Sequence[Judged], settings: QualitySettings) -> Mapping[int, str]:
    """The model was less sure of the text than the settings ask, or least sure of all in the shard.

    By default there is no limit, since each model has its own: `caption-assets calibrate` finds it. Wrong to fire on a
    right caption of something rare, which a model is never sure of. Texts without a score pass.
    """
    name = settings.confidence_score
    scores = {at: text.confidence[name] for at, text in enumerate(texts) if name in text.confidence}
    lowest = set(sorted(scores, key=lambda at: scores[at])[: math.floor(settings.lowest_share * len(scores))])
    least = settings.least_confidence
    return {
        at: f"its {name} is {score:.3g}"
        for at, score in scores.items()
        if at in lowest or (least is not None and score < least)
    }
