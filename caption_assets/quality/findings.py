"""The rules together: what each is called and how much it weighs, and all of them on the texts of a shard."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from caption_assets.quality import beginnings, facts, forms, shards
from caption_assets.quality.texts import Judged
from caption_assets.settings import FindingSeverity, QualitySettings

VERSION = 5
"""Goes up when equal texts and settings give other findings."""

TextRule = Callable[[Judged, QualitySettings], str | None]
"""What is wrong with one text, in words; None where it finds nothing."""
ShardRule = Callable[[Sequence[Judged], QualitySettings], Mapping[int, str]]
"""What is wrong with some texts of a shard, by their places among them."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule and how much it weighs, unless the settings say otherwise."""

    severity: FindingSeverity
    of_text: TextRule | None = None
    of_shard: ShardRule | None = None

    @property
    def about(self) -> str:
        """What it finds: the first sentence of its docstring."""
        return ((self.of_text or self.of_shard).__doc__ or "").strip().partition("\n")[0]


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "empty": Rule("error", forms.empty),
        "cut_off": Rule("warning", forms.cut_off),
        "repetition": Rule("error", forms.repetition),
        "thinking": Rule("error", beginnings.thinking),
        "refusal": Rule("error", beginnings.refusal),
        "prompt_echo": Rule("error", forms.prompt_echo),
        "chat_token": Rule("error", forms.chat_token),
        "control_characters": Rule("error", forms.control_characters),
        "preamble": Rule("warning", beginnings.preamble),
        "markup": Rule("warning", forms.markup),
        "length": Rule("warning", of_shard=shards.length),
        "language": Rule("warning", of_shard=shards.language),
        "near_duplicate": Rule("warning", of_shard=shards.near_duplicate),
        "low_confidence": Rule("warning", of_shard=shards.low_confidence),
        "facts_lost": Rule("warning", facts.facts_lost),
    }
)
"""Every rule by its name. An error is a text that is of no use; a warning is for somebody to look at."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule has against a text: `message` says what and where."""

    rule: str
    severity: str
    message: str


def judge(texts: Sequence[Judged], settings: QualitySettings) -> list[tuple[Finding, ...]]:
    """The findings of each text of a shard, errors first. Rules whose severity is "off" are not asked."""
    found: list[list[Finding]] = [[] for _ in texts]
    for name, rule in RULES.items():
        severity = settings.severities.get(name, rule.severity)
        if severity == "off":
            continue
        if rule.of_shard is not None:
            messages = rule.of_shard(texts, settings)
        else:
            assert rule.of_text is not None
            all_said = ((at, rule.of_text(text, settings)) for at, text in enumerate(texts))
            messages = {at: said for at, said in all_said if said}
        for at, message in messages.items():
            found[at].append(Finding(name, severity, message))
    return [tuple(sorted(of_text, key=lambda finding: finding.severity != "error")) for of_text in found]


def worst(findings: Sequence[Finding]) -> str:
    """The heaviest severity among findings; empty without any."""
    return min((finding.severity for finding in findings), default="")  # "error" comes before "warning"


def describe_rules() -> list[tuple[str, FindingSeverity, str]]:
    """Name, severity and first sentence of every rule."""
    return [(name, rule.severity, rule.about) for name, rule in RULES.items()]
