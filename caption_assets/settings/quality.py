"""Settings of the rules on texts."""

from typing import Literal, get_args

from pydantic import field_validator

from caption_assets.settings.declare import Settings, setting

FindingSeverity = Literal["off", "warning", "error"]
ConfidenceScore = Literal["mean_logprob", "min_logprob", "low_logprob"]
FindingRule = Literal[
    "empty",
    "cut_off",
    "repetition",
    "thinking",
    "refusal",
    "prompt_echo",
    "chat_token",
    "control_characters",
    "preamble",
    "markup",
    "length",
    "language",
    "near_duplicate",
    "low_confidence",
    "facts_lost",
]


class QualitySettings(Settings):
    """When the rules on captions and enhanced captions have something against a text."""

    severities: dict[str, str] = setting(
        {},
        "Severities of rules, by their names: error (not enhanced, and no part of exports), warning, or off.",
        flag="--finding-severities",
        env="FINDING_SEVERITIES",
    )
    repeated_times: int = setting(
        3,
        "A phrase that comes so often in a row is a repetition; where a word or two change each time, twice as often.",
        flag="--finding-repeated-times",
        env="FINDING_REPEATED_TIMES",
        ge=2,
    )
    repeated_words: int = setting(
        4,
        "It has at least so many words; two letters of a script without spaces count as one.",
        flag="--finding-repeated-words",
        env="FINDING_REPEATED_WORDS",
        ge=1,
    )
    distinct_share: float = setting(
        0.35,
        "A text of 40 words or more with a smaller share of distinct runs of four words is a repetition, too.",
        flag="--finding-distinct-share",
        env="FINDING_DISTINCT_SHARE",
        ge=0,
        le=1,
    )
    length_deviations: float = setting(
        6.0,
        "A text's length may be so many median absolute deviations from the shard's median, on a logarithmic scale.",
        flag="--finding-length-deviations",
        env="FINDING_LENGTH_DEVIATIONS",
        gt=0,
    )
    least_letters: int = setting(
        0, "A text has at least so many characters.", flag="--finding-least-letters", env="FINDING_LEAST_LETTERS", ge=0
    )
    most_letters: int | None = setting(
        None, "A text has at most so many.", flag="--finding-most-letters", env="FINDING_MOST_LETTERS", ge=1
    )
    script: str | None = setting(
        None,
        "Script that texts are to be in, such as latin, han, japanese, hangul or cyrillic; the prompt's by default.",
        flag="--finding-script",
        env="FINDING_SCRIPT",
    )
    duplicate_similarity: float = setting(
        0.9,
        "Texts about different clips with so large a share of common runs of three words are near duplicates.",
        flag="--finding-duplicate-similarity",
        env="FINDING_DUPLICATE_SIMILARITY",
        gt=0.5,
        le=1,
    )
    duplicate_words: int = setting(
        25,
        "Texts of fewer words are no near duplicates: short ones are often the same.",
        flag="--finding-duplicate-words",
        env="FINDING_DUPLICATE_WORDS",
        ge=1,
    )
    confidence_score: ConfidenceScore = setting(
        "mean_logprob",
        "The score by which confidence is low.",
        flag="--finding-confidence-score",
        env="FINDING_CONFIDENCE_SCORE",
    )
    least_confidence: float | None = setting(
        None,
        "Texts with a lower score have low confidence. `caption-assets calibrate` finds the limit for a model.",
        flag="--finding-least-confidence",
        env="FINDING_LEAST_CONFIDENCE",
        le=0,
    )
    lowest_share: float = setting(
        0.0,
        "This share of a shard's texts, the lowest ones, has low confidence, too.",
        flag="--finding-lowest-share",
        env="FINDING_LOWEST_SHARE",
        ge=0,
        le=1,
    )

    @field_validator("severities")
    @classmethod
    def _known(cls, severities: dict[str, str]) -> dict[str, str]:
        for name, severity in severities.items():
            for word, what, known in ((name, "rule", FindingRule), (severity, "severity", FindingSeverity)):
                if word not in get_args(known):
                    raise ValueError(f"there is no {what} {word!r}; choose among {', '.join(get_args(known))}")
        return severities
