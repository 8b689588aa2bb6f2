"""Texts to train with: the tokenizer that both demo models share, and the prompts that may come with a video."""

import random
import string
from functools import cache
from pathlib import Path

from caption_assets.demo.facts import BACKGROUNDS, COLOURS, MOTIONS, SHAPES, Facts, Subject, elaborate, write
from caption_assets.demo.structured import FACTS_PROMPT
from caption_assets.models.prompts import CAPTION_PROMPTS, ENHANCE_PROMPTS, STAGE2_PROMPT

SPECIALS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
VOCAB_SIZE = 1024
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SHORT_PROMPTS = (
    "Describe the video.",
    "Describe this video.",
    "What happens in this video?",
    "What do you see?",
    "Caption this clip.",
    "Write a caption.",
    "Describe the video in detail, with objects, colours and motion.",
    "Give a short description of the clip.",
    "Tell me what moves and where.",
    "Elaborate on the visual and narrative elements of the video in detail.",
    "Summarize the scene in one sentence.",
    "Please describe the main subject, the background and the action.",
    "Which objects are in the video and what are they doing?",
)
SHORT_FACTS_PROMPTS = (
    "As JSON.",
    "Answer with one JSON object.",
    "Which objects are in the video and what are they doing? Write JSON.",
)
SHORT_ENHANCE_PROMPTS = (
    "Rewrite the caption with more detail.",
    "Make this caption longer.",
    "Improve and refine the following video description. Add details, and keep the facts.",
    "You are a helpful assistant. Enhance the caption.",
    "Rewrite it.",
)


def random_facts(rng: random.Random) -> Facts:
    """Facts of any kind that the world knows, all equally likely within their kind."""
    kind = rng.choice(("one", "two", "two", "one_sequence", "two_sequence", "two_sequence"))
    moving = [m for m in MOTIONS if m != "standing still"]
    looks = [(rng.choice(COLOURS), rng.choice(SHAPES)) for _ in range(2 if kind.startswith("two") else 1)]
    if kind == "one_sequence":
        motions = [tuple(rng.sample(moving, 2))]
    else:
        words = moving if kind == "two_sequence" else MOTIONS
        motions = [(rng.choice(words),) for _ in looks]
    subjects = tuple(Subject(*look, m) for look, m in zip(looks, motions, strict=True))
    return Facts(rng.choice(BACKGROUNDS), subjects, kind == "two_sequence").canonical()


def make_tokenizer(folder: Path | None = None):
    """Train the byte-level BPE tokenizer (any text goes in) on captions and prompts; save it where a folder is given.

    Returns a `PreTrainedTokenizerFast` of `VOCAB_SIZE` entries, the specials first.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    rng = random.Random(0)
    scenes = [random_facts(rng) for _ in range(3000)]
    prompts = [*CAPTION_PROMPTS.values(), *ENHANCE_PROMPTS.values(), STAGE2_PROMPT]
    corpus = [write(f) for f in scenes] + [elaborate(f) for f in scenes]
    corpus += prompts * 20 + [*SHORT_PROMPTS, *SHORT_ENHANCE_PROMPTS] * 2 + ["user", "assistant", "system"] * 100
    tokenizer = Tokenizer(models.BPE())
    split = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=VOCAB_SIZE,
            special_tokens=list(SPECIALS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=[s for s in SPECIALS if s not in ("<|endoftext|>", "<|im_end|>")],
        model_max_length=8192,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    if folder is not None:
        fast.save_pretrained(folder)
    return fast


def saved_tokenizer(folder: Path):
    """The tokenizer of a checkpoint or a run, which knows the words that were prompts when it was made."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(folder)


@cache
def _words() -> list[str]:
    rng = random.Random(1)
    texts = [*CAPTION_PROMPTS.values(), *ENHANCE_PROMPTS.values(), STAGE2_PROMPT, *SHORT_PROMPTS]
    texts += [write(random_facts(rng)) for _ in range(30)]
    return sorted({word for text in texts for word in text.split()})


def noise_text(rng: random.Random, longest: int = 50) -> str:
    """Up to `longest` words, from known ones and random letters, now and then from other scripts."""
    words = []
    for _ in range(rng.randint(1, longest)):
        dice = rng.random()
        if dice < 0.8:
            words.append(rng.choice(_words()))
        elif dice < 0.97:
            words.append("".join(rng.choices(string.ascii_letters + string.digits, k=rng.randint(1, 7))))
        else:
            words.append("".join(chr(rng.randint(0xA1, 0x4FF)) for _ in range(rng.randint(1, 3))))
    return " ".join(words)


def caption_prompt(rng: random.Random, true_caption: str, longest: int = 50) -> str:
    """Any instruction that may come with a video: the captions' own, a second pass, short ones, and sheer noise.

    The noise has up to `longest` words.
    """
    dice = rng.random()
    if dice < 0.4:
        return rng.choice(list(CAPTION_PROMPTS.values()))
    if dice < 0.55:
        first = true_caption if rng.random() < 0.5 else write(random_facts(rng))
        return f"{STAGE2_PROMPT}\n\n{first}"
    if dice < 0.7:
        return rng.choice(SHORT_PROMPTS)
    return noise_text(rng, longest)


def facts_prompt(rng: random.Random) -> str:
    """An instruction that asks for JSON."""
    return FACTS_PROMPT if rng.random() < 0.7 else rng.choice(SHORT_FACTS_PROMPTS)


def enhance_prompt(rng: random.Random) -> str:
    """Any instruction that may come before a caption that is to be rewritten."""
    dice = rng.random()
    if dice < 0.55:
        return rng.choice(list(ENHANCE_PROMPTS.values()))
    if dice < 0.75:
        return rng.choice(SHORT_ENHANCE_PROMPTS)
    return noise_text(rng, 40)
