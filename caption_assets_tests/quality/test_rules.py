"""The rules have nothing against captions that are as they should be; `test_confidence` has what they find."""

import json
import re
from typing import get_args

import numpy as np
import pytest
from pydantic import ValidationError

from caption_assets.quality import RULES, Judged, judge, worst
from caption_assets.settings import FindingRule, QualitySettings
from caption_assets_tests.quality.captions import LANGUAGES, PROMPTS, captions

DEFAULT = QualitySettings()


def rules_of(judged, settings=DEFAULT):
    return [[finding.rule for finding in findings] for findings in judge(judged, settings)]


def shard(texts, language="en", **more):
    return [Judged(text, PROMPTS[language], clip=f"clip-{k}", window="0_1", **more) for k, text in enumerate(texts)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_good_captions_have_no_findings(language):
    assert sum(map(len, rules_of(shard(captions(language, 1000), language)))) == 0


# What real captions have that looks like a defect. The first four are of Multi30k (Elliott et al. 2016), in which these
# were accused before the rules knew better.
@pytest.mark.parametrize(
    "text",
    [
        "I am going to a hotdog competition in Coney Island.",
        "We have to think about this and it's your fault.",
        "# 6 tries her best to help her team to victory.",
        "Lasst uns sehen, wie viele Personen wir dazu bringen können, uns anzustarren.",
        "“I'm sorry, but we are closed”, says a note on the door.",
        "The video shows a man who reads a sign: “Sure!”",
        "Here is where the road ends, and a red car turns round.",
        "Surefooted goats climb a wall. A man counts: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16.",
        "A red car, a red car and a red car pass.",
        "Row, row, row your boat, gently down the stream, sing three children.",
        "There are a man in a red hat, a man in a blue hat, a man in a white hat, a man in a black hat and a man "
        "in a green hat.",
        "A scoreboard shows 3-2, then 3-3. The clock says 12:45.",
        "Certain details, like a ring, catch the light. <3 is written on a heart.",
        "3. Mai steht auf einem Kalender.\nDaneben liegt ein Stift.",
        "Natürliches Licht fällt auf den Tisch, auf dem sieben Äpfel liegen.",
        "Ich-Figuren aus Ton stehen im Regal.",
        "用户界面上有三个按钮，一只手点了其中一个。",
        "让人惊讶的是，猫跳上了桌子。",
        "好的天气里，三角形的风筝在天上飞，四周都是人。",
        "这是一个描述不出来的美丽海滩，海浪一次又一次涌上来。",
        "We should provide food and shelter to all these children here.",
        "Wait staff carry trays through a busy restaurant.",
        "As an assistant coach watches, the players run laps.",
        "As an AI robot arm moves, sparks fly.",
        "Step 1: the cook chops an onion. Step 2: she fries it in butter.",
        "User asks a chatbot for a recipe on a laptop screen.",
        "The user request form is filled in on a screen.",
        "Sorry We're Closed sign hangs on a shop door.",
        "# hashtag printed on a shirt",
        "Der Nutzer hat ein Telefon in der Hand und tippt.",
        "Die Nutzerin fragt am Schalter nach einer Karte.",
        "Als KI-Roboter verkleidet tanzt ein Kind.",
        "用户的手指在手机屏幕上滑动。",
        "用户给手机充电。",
        "现在我们来到海边，看到几艘船。",
        "下面是大海，上面是天空，中间有一架飞机飞过。",
        "A man walks.\r\n\tHe stops.",
        "A sign above the door reads \u2067שלום\u2069.",
    ],
)
def test_words_that_look_like_a_defect_are_none_where_they_belong_to_the_video(text):
    language = "zh" if any(letter >= "\u4e00" for letter in text) and "“" not in text else "en"
    assert rules_of(shard([text], language)) == [[]]


@pytest.mark.parametrize(
    "text",
    [
        "Thinking Process:\n\n1. **Analyze the Request:**",
        "**Thinking Process:** The user wants a caption.",
        "Here's a thinking process that leads to the caption:",
        "◁think▷So there is a dog",
        "The user uploaded a video",
        "First, I will analyze the video frame by frame.",
        "We are asked to describe the video.",
        "Ich soll das Video beschreiben.",
        "我来分析一下这个视频。",
        "No video was provided.",
        "It looks like you haven't provided a video.",
        "The video is not available for me to view.",
        "I'm just an AI",
        "As an AI developed by somebody, I have no eyes.",
        "Es wurde kein Video bereitgestellt.",
        "您没有提供视频。",
        "ASSISTANT: A dog runs.",
        "<tool_call>",
        "N/A",
        "A man\x00 walks.",
        "\u202eA man walks\u202c in a room.",
        "A \u2066man\u2069 walks.",
    ],
)
def test_what_models_write_in_place_of_a_caption_is_an_error(text):
    (findings,) = judge(shard([text]), DEFAULT)
    assert worst(findings) == "error"


def test_long_runs_of_one_sign_take_no_time_to_speak_of():
    for run in ("\n", " ", "_", "#", "**", "|"):
        assert len(rules_of(shard([f"A dog{200_000 * run}b", 200_000 * run]))) == 2  # minutes where it is quadratic


def test_what_the_limit_of_tokens_cut_off_is_found_by_the_engines_word():
    assert rules_of([Judged("A cat sits on", finish_reason="length")]) == [["cut_off"]]
    assert rules_of([Judged("A cat sits on", finish_reason="stop"), Judged("A cat sits on")]) == [[], []]


def test_a_prompt_that_asks_for_a_form_gets_it():
    listed = "- A cat sits.\n- A dog barks."
    assert rules_of([Judged(listed, "Describe the video.")]) == [["markup"]]
    assert rules_of([Judged(listed, "Describe the video as a list.")]) == [[]]
    assert rules_of([Judged('{"a": "A cat sits."}', "Answer in JSON.")]) == [[]]


@pytest.mark.parametrize(
    ("answer", "rules"),
    [
        ({"people": 3, "indoors": True}, []),
        ({"indoors": False}, []),
        ({"next": None, "people": 0}, []),
        ({"grade": "+", "vehicle": "none"}, []),
        ({"seen": [], "next": None, "what": " "}, ["empty"]),
        # What stands in several of its texts is no repetition, no list and no echo of the prompt.
        ({"shots": [{"camera": "static", "framing": "wide shot", "angle": "eye level"}] * 6}, []),
        ({"steps": ["1. A man comes in.", "2. He sits down."]}, []),
        ({"order": re.findall(r"\w+", PROMPTS["en"])}, []),
        ({"what": "A man walks up and " * 12}, ["repetition"]),
        ({"steps": ["1. A man comes in.\n2. He sits down."]}, ["markup"]),
        ({"people": 1, "what": PROMPTS["en"]}, ["prompt_echo"]),
        ({"people": 1, "what": "I'm sorry, but I can't help with that."}, ["refusal"]),
    ],
)
def test_json_that_was_asked_for_is_judged_by_its_values(answer, rules):
    assert rules_of(shard([json.dumps(answer)], is_json=True)) == [rules]


def test_json_is_as_long_as_it_is_written():
    """Its texts may be few, and there in some windows only."""
    answers = [
        json.dumps({"people": k, "camera": "static", "on_screen": "Exit to the city" * (k == 7)}) for k in range(12)
    ]
    assert rules_of(shard(answers, is_json=True)) == [[]] * 12


def test_a_language_that_most_of_a_shard_is_written_in_was_asked_for():
    chinese = captions("zh", 20)
    asked = [Judged(text, "Describe the video. Answer in Chinese.", clip=str(k)) for k, text in enumerate(chinese)]
    assert rules_of(asked) == [[]] * 20
    astray = Judged("A woman in a red coat walks past.", asked[0].prompt, clip="x")
    assert rules_of([*asked, astray])[-1] == ["language"]
    assert rules_of(asked[:2])[0] == ["language"]  # nothing else to go by than the prompt
    assert rules_of(asked[:2], QualitySettings(script="han")) == [[], []]


@pytest.mark.parametrize("language", LANGUAGES)
def test_near_duplicates_are_found_among_clips_whatever_else_is_there(language):
    blank = "" if language == "zh" else " "
    others = [a + blank + b for a, b in zip(captions(language, 300), captions(language, 300, seed=2), strict=True)]
    texts = [text for text in others if len(Judged(text).units) > 50][:120]
    changed = [text + {"en": " Yes.", "de": " Ja.", "zh": "是"}[language] for text in texts[:60]]
    found = judge(shard([*texts, *changed], language), DEFAULT)
    duplicates = [any(finding.rule == "near_duplicate" for finding in findings) for findings in found]
    assert duplicates == [True] * 60 + [False] * (len(texts) - 60) + [True] * 60
    of_one_clip = [Judged(text, PROMPTS[language], clip="same") for text in [*texts[:3], *changed[:3]]]
    assert rules_of(of_one_clip) == [[]] * 6


def test_duplicates_are_those_that_comparing_all_pairs_finds():
    rng = np.random.default_rng(3)
    words = [f"w{k}" for k in range(40)]
    texts = []
    for _ in range(120):
        base = list(rng.choice(words, 30))
        texts.append(" ".join(base))
        for _ in range(rng.integers(3)):  # copies with some words changed
            for at in rng.integers(0, 30, rng.integers(3)):
                base[at] = str(rng.choice(words))
            texts.append(" ".join(base))
    grams = [set(zip(*(text.split()[k:] for k in range(3)), strict=False)) for text in texts]
    expected = {
        at
        for at, one in enumerate(grams)
        for other in range(len(grams))
        if other != at and len(one & grams[other]) >= 0.7 * len(one | grams[other])
    }
    found = rules_of(shard(texts), QualitySettings(duplicate_similarity=0.7, severities={"repetition": "off"}))
    assert {at for at, rules in enumerate(found) if "near_duplicate" in rules} == expected
    assert 20 < len(expected) < len(texts)


@pytest.mark.parametrize(
    ("caption", "enhanced", "lost"),
    [
        ("Two red cars pass 3 trees.", "A pair of crimson cars passes three trees.", ""),
        ("Two red cars pass 3 trees.", "Cars pass trees.", "2, 3, red"),
        ("Twenty-five people wait at 5:30.", "25 people wait at 5:30.", ""),
        ("Twenty-five people wait.", "Twenty people wait.", "25"),
        ("1,200 runners in 2.5 km", "1200 runners in 2.5 km", ""),
        ("A gray cat and a black dog", "A silver cat and a dog", "black"),
        ("Two people shake hands.", "A man in a suit and a tall woman shake hands.", ""),
        ("An elf in rot and decay", "A forest spirit amid decay", ""),  # no German numbers and colours
        ("Drei rote Autos und ein grünes Haus", "Drei dunkelrote Wagen stehen vor einem grünlichen Gebäude.", ""),
        ("Drei rote Autos und ein grünes Haus", "Wagen stehen vor einem Gebäude, und das ist alles.", "3, green, red"),
        ("Auf der Straße sind fünfundzwanzig Autos.", "Auf der Straße sind 25 Autos.", ""),
        ("两辆红色的车旁边有十二个人", "12个人站在2辆深红的车旁", ""),
        ("两辆红色的车旁边有十二个人", "许多人站在车旁", "2, 12, red"),
        ("一个三角形的四周", "三面的图形", ""),
    ],
)
def test_numbers_and_colours_are_kept_or_said_to_be_lost(caption, enhanced, lost):
    (findings,) = judge([Judged(enhanced, caption=caption)], DEFAULT)
    assert [finding.message for finding in findings] == ([f"its caption's {lost} is lost"] if lost else [])


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_lost_colour_is_found_in_every_language(language):
    words = {"en": ("red", "crimson"), "de": ("roten", "purpurroten"), "zh": ("红色", "红")}[language]
    with_red = [text for text in captions(language, 600) if words[0] in text][:50]
    assert len(with_red) == 50
    lost = [Judged(text.replace(words[0], ""), PROMPTS[language], caption=text) for text in with_red]
    assert all("facts_lost" in rules for rules in rules_of(lost))
    kept = [Judged(text.replace(*words), PROMPTS[language], caption=text) for text in with_red]
    assert not any("facts_lost" in rules for rules in rules_of(kept))


def test_low_confidence_is_below_a_limit_or_the_lowest_share():
    texts = [
        Judged(f"A cat sits. {k}", clip=str(k), confidence={"mean_logprob": -k / 10, "min_logprob": -1.0})
        for k in range(10)
    ]
    assert rules_of(texts) == [[]] * 10
    below = rules_of(texts, QualitySettings(least_confidence=-0.75))
    assert [bool(rules) for rules in below] == [False] * 8 + [True] * 2
    lowest = rules_of(texts, QualitySettings(lowest_share=0.1))
    assert [bool(rules) for rules in lowest] == [False] * 9 + [True]
    unknown = [Judged("A cat sits.", clip="x")]
    assert (
        rules_of([*texts, *unknown], QualitySettings(least_confidence=0.0, confidence_score="low_logprob")) == [[]] * 11
    )


def test_severities_are_the_users_choice_and_errors_come_first():
    text = shard(["Sure! <|im_end|>"])
    (findings,) = judge(text, DEFAULT)
    assert [(f.rule, f.severity) for f in findings] == [("chat_token", "error"), ("preamble", "warning")]
    assert worst(findings) == "error"
    (findings,) = judge(text, QualitySettings(severities={"preamble": "error", "chat_token": "off"}))
    assert [(f.rule, f.severity) for f in findings] == [("preamble", "error")]
    assert worst(()) == ""
    with pytest.raises(ValidationError, match="there is no rule 'preambel'"):
        QualitySettings(severities={"preambel": "off"})
    with pytest.raises(ValidationError, match="there is no severity 'fatal'"):
        QualitySettings(severities={"preamble": "fatal"})


def test_every_rule_says_what_it_finds_and_when_it_is_wrong():
    assert set(RULES) == set(get_args(FindingRule))
    for rule in RULES.values():
        assert rule.about.endswith((".", ":", '"'))
        said = (rule.of_text or rule.of_shard).__doc__ or ""
        assert "rong to fire" in said
