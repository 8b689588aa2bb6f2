"""Whether the rules on texts find what is planted, and what they have against texts that are as they should be.

    python -m benchmarks.findings [--planted 60] [--captions 10000]

Defects of every kind are planted in captions that are made by rule in English, German and Chinese
(`caption_assets_tests/quality/captions.py`), each among good ones, since some rules compare. Good captions are the true
ones of scenes of the demo's world, in shards of 200, with their enhanced texts.
"""

import argparse
import json
from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np

from caption_assets.demo.facts import elaborate
from caption_assets.demo.world import sample_scene
from caption_assets.models.prompts import CAPTION_PROMPTS, ENHANCE_PROMPTS
from caption_assets.quality import Judged, judge
from caption_assets.settings import QualitySettings
from caption_assets_tests.quality.captions import LANGUAGES, PLANTED, PROMPTS, captions, planted

SHARD = 200
_RED = {"en": "red", "de": "roten", "zh": "红色"}
_MORE = {"en": " Yes.", "de": " Ja.", "zh": "是"}


def planted_defects(count: int) -> dict[str, dict[str, Any]]:
    """How many of `count` or more defects are found, by rule and language."""
    figures: dict[str, dict[str, Any]] = {}
    for language in LANGUAGES:
        good = [_judged(text, language, k) for k, text in enumerate(captions(language, SHARD))]
        for rule in PLANTED:
            texts = [_judged(text, language, SHARD) for text in planted(rule, language, count)]
            found = sum(_found(rule, [*good[:20], text])[-1] for text in texts)
            figures.setdefault(rule, {})[language] = {"planted": len(texts), "found": found}
        for rule, shard, at in _others(language, count):
            found = sum(_found(rule, shard, least_confidence=-1.0)[at:])
            figures.setdefault(rule, {})[language] = {"planted": len(shard) - at, "found": found}
    return figures


def _others(language: str, count: int) -> list[tuple[str, list[Judged], int]]:
    """The defects that are none of the text alone: a rule, a shard, and from where on its texts have the defect."""
    texts = captions(language, count)
    cut = [_judged(text, language, k, finish_reason="length") for k, text in enumerate(texts)]
    unsure = [_judged(text, language, k, confidence={"mean_logprob": -1.5}) for k, text in enumerate(texts)]
    pairs = zip(captions(language, 600), captions(language, 600, seed=2), strict=True)
    long = [text for text in (f"{a} {b}" for a, b in pairs) if len(_judged(text, language, 0).units) > 50][:count]
    copies = [_judged(text + _MORE[language], language, SHARD + k) for k, text in enumerate(long)]
    red = [text for text in captions(language, 800) if _RED[language] in text][:count]
    lost = [_judged(text.replace(_RED[language], ""), language, k, caption=text) for k, text in enumerate(red)]
    originals = [_judged(text, language, k) for k, text in enumerate(long)]
    return [
        ("cut_off", cut, 0),
        ("low_confidence", unsure, 0),
        ("near_duplicate", [*originals, *copies], len(originals)),
        ("facts_lost", lost, 0),
    ]


def _judged(text: str, language: str, clip: int, **more: Any) -> Judged:
    return Judged(text, PROMPTS[language], clip=f"clip-{clip}", window="0_1", **more)


def _found(rule: str, texts: list[Judged], **settings: Any) -> list[bool]:
    return [any(f.rule == rule for f in of_text) for of_text in judge(texts, QualitySettings(**settings))]


def false_findings(count: int) -> dict[str, Any]:
    """What rules have against so many true captions, and against their enhanced texts, by rule."""
    rng = np.random.default_rng(11)
    size = {"width": 224, "height": 192, "frame_rate": Fraction(24)}
    scenes = [sample_scene(rng, **size) for _ in range(count)]
    short = [Judged(scene.caption(), CAPTION_PROMPTS["default"], clip=str(k)) for k, scene in enumerate(scenes)]
    longer = [
        Judged(elaborate(scene.facts()), ENHANCE_PROMPTS["default"], clip=str(k), caption=scene.caption())
        for k, scene in enumerate(scenes)
    ]
    figures = {}
    for name, texts in (("captions", short), ("enhanced texts", longer)):
        rules: Counter[str] = Counter()
        same = 0
        for start in range(0, count, SHARD):
            shard = texts[start : start + SHARD]
            times = Counter(text.text for text in shard)
            for text, found in zip(shard, judge(shard, QualitySettings()), strict=True):
                rules.update(finding.rule for finding in found)
                same += times[text.text] > 1 and [finding.rule for finding in found] == ["near_duplicate"]
        figures[name] = {"texts": count, "findings": dict(rules), "the same text as another": same}
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--planted", type=int, default=60)
    parser.add_argument("--captions", type=int, default=10_000)
    args = parser.parse_args()
    print(json.dumps({"planted": planted_defects(args.planted), "false": false_findings(args.captions)}, indent=1))


if __name__ == "__main__":
    main()
