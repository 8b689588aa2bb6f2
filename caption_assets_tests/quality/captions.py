"""Captions that look like real ones, made by rule in English, German and Chinese, and the defects planted in them."""

import json
import random
from collections.abc import Callable, Iterator

LANGUAGES = ("en", "de", "zh")
PROMPTS = {
    "en": "Describe this video in detail. Name the main subjects, what each of them does and in which order, and the "
    "place and the light. Write only what can be seen.",
    "de": "Beschreibe dieses Video genau. Nenne die wichtigsten Dinge, was sie tun und in welcher Reihenfolge, den Ort "
    "und das Licht. Schreibe nur, was zu sehen ist.",
    "zh": "请详细描述这段视频。说明主要对象、它们的动作和先后顺序、地点和光线。只写能看到的内容，不要猜测。",
}
_PARTS = {
    "en": (
        [
            "A woman in a red coat",
            "Two children with {n} balloons",
            "An old man",
            "A white delivery van",
            "A small dog",
            "A cyclist in a yellow jersey",
            "Here a group of {n} tourists",
            "The camera follows a black cat that",
            "In the foreground a chef",
            "I see no sign, but a man who",
            "A street sign reads “Sure, why not” while a boy",
        ],
        [
            "walks slowly past a row of parked cars",
            "crosses the road at a zebra crossing",
            "waits next to a bakery",
            "turns around, waves and walks on",
            "stops, looks at a map and then goes back",
            "moves from left to right",
        ],
        [
            "in a narrow street between brick houses",
            "on a wide square with a fountain",
            "beside a calm lake",
            "in front of a shop with blue shutters",
            "under tall trees whose leaves move in the wind",
        ],
        [
            "The light is soft, as on a cloudy morning.",
            "Long shadows fall over the pavement.",
            "It is night, and lamps are reflected in puddles.",
            "The sun stands low and makes everything golden.",
        ],
        [
            "The camera stays where it is.",
            "The camera pans to the right and then rests.",
            "A tram passes at the end.",
            "At the end {n} pigeons fly up.",
            "Somebody opens a window and closes it again.",
        ],
    ),
    "de": (
        [
            "Eine Frau in einem roten Mantel",
            "Zwei Kinder mit {n} Luftballons",
            "Ein alter Mann",
            "Ein kleiner Hund",
            "Ein weißer Lieferwagen",
            "Ein Radfahrer in einem gelben Trikot",
            "Hier eine Gruppe von {n} Touristen, die",
            "Die Kamera folgt einer schwarzen Katze, die",
            "Im Vordergrund ein Koch, der",
        ],
        [
            "langsam an einer Reihe geparkter Autos vorbeigeht",
            "die Straße an einem Zebrastreifen überquert",
            "neben einer Bäckerei wartet",
            "sich umdreht, winkt und weitergeht",
            "anhält und auf eine Karte schaut",
        ],
        [
            "in einer engen Straße zwischen Backsteinhäusern",
            "auf einem weiten Platz mit einem Brunnen",
            "an einem ruhigen See",
            "vor einem Laden mit blauen Fensterläden",
            "unter hohen Bäumen im Wind",
        ],
        [
            "Das Licht ist weich wie an einem bewölkten Morgen.",
            "Lange Schatten fallen auf das Pflaster.",
            "Es ist Nacht, und Lampen spiegeln sich in Pfützen.",
            "Die Sonne steht tief und färbt alles golden.",
        ],
        [
            "Die Kamera bleibt, wo sie ist.",
            "Die Kamera schwenkt nach rechts und ruht dann.",
            "Am Ende fährt eine Straßenbahn vorbei.",
            "Zum Schluss fliegen {n} Tauben auf.",
            "Jemand öffnet ein Fenster und schließt es wieder.",
        ],
    ),
    "zh": (
        [
            "一位穿红色外套的女子",
            "两个孩子拿着{n}个气球",
            "一位老人",
            "一辆白色货车",
            "一只小狗",
            "一名穿黄色骑行服的人",
            "画面前方有一群游客，他们",
            "镜头跟随一只黑色的猫，它",
            "一位厨师",
        ],
        [
            "慢慢走过一排停着的汽车",
            "从斑马线上穿过马路",
            "在面包店旁边等候",
            "转过身来挥挥手，然后继续往前走",
            "停下来看地图，然后又往回走",
            "从左边移动到右边",
        ],
        ["地点是砖房之间的一条窄街", "地点是有喷泉的宽阔广场", "旁边是平静的湖面", "后面是一家有蓝色百叶窗的商店"],
        [
            "光线柔和，像是多云的早晨。",
            "长长的影子落在路面上。",
            "夜色中，灯光映在水洼里。",
            "太阳很低，一切都是金色的。",
        ],
        [
            "镜头保持不动。",
            "镜头向右移动，然后停下来。",
            "最后一辆电车驶过。",
            "最后有{n}只鸽子飞起来。",
            "有人打开窗户，又关上了。",
        ],
    ),
}


def captions(language: str, count: int, seed: int = 0) -> list[str]:
    """Different captions of one to three sentences."""
    rng, found = random.Random(f"{language}/{seed}"), dict[str, None]()
    while len(found) < count:
        who, does, where, light, end = (rng.choice(part) for part in _PARTS[language])
        comma, stop = ("，", "。") if language == "zh" else (" ", ".")
        more = ["" if language == "zh" else " ", light, "" if language == "zh" else " ", end][: rng.choice((0, 2, 4))]
        text = f"{who}{'' if language == 'zh' else ' '}{does}{comma}{where}{stop}" + "".join(more)
        found[text.replace("{n}", str(rng.randint(3, 12)))] = None
    return list(found)


_THINKING = {
    "en": [
        "<think>",
        "<think>\nLet me look at the frames.\n</think>\n",
        "Okay, so the user wants a description. ",
        "Okay, let me analyze the video frame by frame. ",
        "Let me think about what is happening here. ",
        "First, I need to describe the main subject. ",
        "The user wants me to describe the video. ",
        "Got it, let's tackle this. ",
        "Hmm, this is a bit unclear. ",
        "So, let's see. ",
        "Alright, let's break this down: ",
        "The user is asking for a detailed caption, so I should start with the setting. ",
        "I need to focus on what is visible. ",
        "Now, let me take a closer look at the second half. ",
        "Wait, the person turns around. ",
    ],
    "de": [
        "<think>",
        "<think>\nIch sehe mir die Bilder an.\n</think>\n",
        "Okay, der Nutzer möchte eine Beschreibung. ",
        "Lass mich das Video analysieren. ",
        "Zunächst muss ich das Hauptmotiv beschreiben. ",
        "Okay, ich schaue mir zuerst die Bilder an. ",
        "Der Benutzer bittet um eine genaue Beschreibung. ",
        "Also, der Nutzer will wissen, was zu sehen ist. ",
        "Ich muss jetzt die Reihenfolge beachten. ",
        "Schauen wir uns das Video an. ",
        "Hm, zuerst die Personen. ",
        "Meine Aufgabe ist es, das Video zu beschreiben. ",
    ],
    "zh": [
        "<think>",
        "<think>\n我先看看画面。\n</think>\n",
        "好的，用户想要一段描述。",
        "用户希望我描述这个视频。",
        "让我仔细分析一下这段视频。",
        "首先，我需要描述主要对象。",
        "嗯，画面里有一个人。",
        "好，让我来看看视频内容。",
        "我需要先看清楚画面中的人物。",
        "现在让我们一步一步分析。",
        "用户要求只写能看到的内容。",
        "好的，我先观察一下画面。",
    ],
}
_REFUSALS = {
    "en": [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, I cannot describe this video.",
        "I am unable to view videos.",
        "As an AI language model, I cannot watch videos.",
        "As a text-based AI, I have no access to it.",
        "I cannot provide a description of this content.",
        "I can't assist with that request.",
        "Sorry, but I can't identify people.",
        "Unfortunately, I cannot see the video.",
        "I apologize, but no video is here.",
        "I do not have the ability to see videos.",
        "I'm not able to process this file.",
        "It seems there is no video attached.",
        "Please provide the video so that I can describe it.",
        "I won't be able to see it, so I can't describe it. I'm sorry.",
    ],
    "de": [
        "Es tut mir leid, aber ich kann dabei nicht helfen.",
        "Tut mir leid, das kann ich nicht beschreiben.",
        "Leider kann ich dieses Video nicht ansehen.",
        "Ich kann leider keine Videos ansehen.",
        "Als KI kann ich keine Videos sehen.",
        "Als Sprachmodell habe ich keinen Zugriff auf Videos.",
        "Ich bin nicht in der Lage, das Video zu sehen.",
        "Entschuldigung, aber ich kann das nicht beantworten.",
        "Ich kann Ihnen dabei nicht helfen.",
        "Bitte laden Sie das Video hoch.",
        "Ich darf keine Personen benennen.",
        "Ich bin nur ein Sprachmodell und sehe nichts.",
    ],
    "zh": [
        "抱歉，我无法描述这段视频。",
        "对不起，我不能协助这个请求。",
        "很抱歉，我看不到视频。",
        "作为一个人工智能，我无法观看视频。",
        "作为AI语言模型，我不能看视频。",
        "我无法提供这段视频的描述。",
        "我不能查看视频内容。",
        "非常抱歉，无法完成。",
        "我没有办法访问这个文件。",
        "请您提供视频，我再来描述。",
        "我是一个人工智能助手，不能看视频。",
        "很遗憾，我无法识别画面。",
    ],
}
_PREAMBLES = {
    "en": [
        "Here is a detailed description of the video: ",
        "Sure! ",
        "Certainly! Here's the caption: ",
        "Here's a caption:\n",
        "The video shows: ",
        "In this video, the scene shows the following: ",
        "Caption: ",
        "**Description:** ",
        "Sure, here is the rewritten caption:\n\n",
        "Of course! ",
        "Here is the enhanced version: ",
        "Rewritten caption: ",
        "Below is a summary of the clip. ",
        "This is a description of the video: ",
        "Okay, here is the description. ",
        "```\n",
        "Based on the video provided, here is what can be seen. ",
        "The following is a caption for the video. ",
    ],
    "de": [
        "Hier ist eine Beschreibung des Videos: ",
        "Gerne! ",
        "Natürlich! Hier ist die Beschreibung: ",
        "Das Video zeigt Folgendes: ",
        "Beschreibung: ",
        "**Videobeschreibung:** ",
        "Gern, hier ist die Fassung: ",
        "Im Folgenden finden Sie eine Beschreibung: ",
        "Dies ist eine Zusammenfassung des Clips: ",
        "Bildunterschrift: ",
        "Sicher! ",
        "Hier ist die überarbeitete Fassung:\n\n",
        "Selbstverständlich! ",
        "Hier folgt eine detaillierte Beschreibung. ",
        "Titel: ",
    ],
    "zh": [
        "以下是视频的描述：",
        "好的，以下是描述：",
        "当然！",
        "描述：",
        "视频描述：",
        "这是一段视频的描述：",
        "好的，我来描述：",
        "以下为改写后的版本：",
        "视频内容如下：",
        "该视频展示了：",
        "下面是详细描述：",
        "**描述：**",
        "没问题！",
        "改写后的描述如下：",
        "根据您提供的视频，以下是描述：",
    ],
}
_TOKENS = (
    "<|im_end|>",
    "<|endoftext|>",
    "</s>",
    "<image>",
    "[INST]",
    "<end_of_turn>",
    "<SPECIAL_12>",
    "<|vision_pad|>",
)
_OTHER_SCRIPT = {
    "en": "一位穿红色外套的女子慢慢走过一排停着的汽车，然后转过身来挥手。",
    "de": "Женщина в красном пальто медленно идёт мимо припаркованных машин.",
    "zh": "A woman in a red coat walks slowly past a row of parked cars.",
}


def _first_words(text: str, language: str, count: int) -> str:
    return text[: 2 * count] if language == "zh" else " ".join(text.split()[:count])


def _as_list(text: str, language: str) -> list[str]:
    mark = "。" if language == "zh" else ". "
    parts = [part.strip() for part in text.replace("，", "。").replace(", ", ". ").split(mark) if part.strip()]
    return parts if len(parts) > 1 else [text, text[::-1]]


def _marked(text: str, language: str, k: int) -> str:
    parts, blank = _as_list(text, language), "" if language == "zh" else " "
    head = {"en": "Scene", "de": "Szene", "zh": "场景"}[language]
    return [
        f"# {head}\n{text}",
        f"**{head}**\n\n{text}",
        "\n".join(f"- {part}" for part in parts),
        "\n".join(f"{n}. {part}" for n, part in enumerate(parts, 1)),
        json.dumps({"caption": text}),
        json.dumps({head: text, "x": parts}, ensure_ascii=False)[:-5],
        f"```\n{text}\n```",
        f"<p>{text}</p>",
        f"**{head}:**{blank}{text}{blank}**{head} 2:**",
        f"| {head} |\n| --- |\n| {text} |",
    ][k % 10]


def _repeated(text: str, language: str, k: int) -> str:
    blank = "" if language == "zh" else " "
    phrase = _first_words(text, language, 4 + k % 9)
    whole = text + blank + blank.join([phrase] * (3 + k % 5))
    loop = {"en": "and then it moves on ", "de": "und dann geht es weiter ", "zh": "然后它继续往前走，"}[language]
    word = {"en": "very ", "de": "sehr ", "zh": "非常"}[language]
    return [
        whole,
        text + blank + loop * (4 + k),
        text + blank + word * (20 + k),
        text + "哈ha"[k % 2 :] * (30 + k),
        text + blank + blank.join(_turning(language, k)),
    ][k % 5]


_TURNS = {
    "en": ["left", "right", "door", "window", "street", "table", "wall", "lamp", "camera", "fountain"],
    "de": ["Tür", "Straße", "Wand", "Lampe", "Kamera", "Bank", "Mauer", "Treppe", "Brücke", "Tafel"],
    "zh": ["左边", "右边", "门口", "窗边", "街道", "桌子", "墙边", "路灯", "镜头", "喷泉"],
}


def _turning(language: str, k: int) -> list[str]:
    """A sentence again and again, with one word changed each time."""
    sentence = {
        "en": ["The man walks to the {} and waves.", "Then they turn {} again, and the {} is red."],
        "de": ["Der Mann geht zur {} und winkt.", "Dann steht die Frau vor der {} und wartet dort."],
        "zh": ["然后男子慢慢走向{}并挥手。", "画面中的女子转身看着{}，停了下来。"],
    }[language][k % 2]
    turns = _TURNS[language]
    return [sentence.replace("{}", turns[(k + n) % 10], 1).replace("{}", turns[0]) for n in range(6 + k % 20)]


def _echoed(text: str, language: str, k: int) -> str:
    prompt, blank = PROMPTS[language], "" if language == "zh" else " "
    part = _first_words(prompt, language, 14 + k % 9)
    return [f"{prompt}{blank}{text}", f"{text}{blank}{prompt}", part, f"{part}: {text}"][k % 4]


PLANTED: dict[str, Callable[[str, str, int], str]] = {
    "empty": lambda _, language, k: (
        ["", " ", "\n\n", "…", "...", "。", "—", "***", "!?", "( )"][k % 10] * (1 + k // 10)
    ),
    "repetition": _repeated,
    "thinking": lambda text, language, k: _THINKING[language][k % len(_THINKING[language])] + text,
    "refusal": lambda text, language, k: _REFUSALS[language][k % len(_REFUSALS[language])] + (f" {text}" * (k % 2)),
    "prompt_echo": _echoed,
    "chat_token": lambda text, _, k: [f"{text}{_TOKENS[k % 8]}", f"{_TOKENS[k % 8]}{text}", f"assistant\n{text}"][
        k % 3
    ],
    "control_characters": lambda text, _, k: (
        text[: k % 9] + "\0\x1b\x07\x9b\u202e\u202d\u202a\u2066"[k % 8] + text[k % 9 :]
    ),
    "preamble": lambda text, language, k: _PREAMBLES[language][k % len(_PREAMBLES[language])] + text,
    "markup": _marked,
    "length": lambda text, language, k: [text * 30, _first_words(text, language, 1)[:2] if k % 2 else text[:1]][k % 2],
    "language": lambda _, language, k: _OTHER_SCRIPT[language] * (1 + k % 3),
}
"""By rule, a caption with its defect: of the caption, its language, and a number that chooses among the ways."""


def planted(rule: str, language: str, count: int) -> Iterator[str]:
    for k, text in enumerate(captions(language, count, seed=1)):
        yield PLANTED[rule](text, language, k)
