"""Settings of the checks of a shard."""

from typing import Literal, get_args

from pydantic import field_validator

from caption_assets.settings.declare import Settings, setting
from caption_assets.settings.quality import FindingSeverity

CheckName = Literal[
    "clips_without_windows",
    "frames_decoded",
    "previews_made",
    "preview_frames",
    "preview_files",
    "texts_made",
    "findings",
    "low_confidence",
    "near_duplicates",
    "facts_kept",
]


class CheckSettings(Settings):
    """From when on a shard does not pass the checks of its assets. A good shard passes all of them as they are."""

    severities: dict[str, str] = setting(
        {},
        "Severities of checks, by their names: error, warning, or off.",
        flag="--check-severities",
        env="CHECK_SEVERITIES",
    )
    most_clips_without_windows: float = setting(
        0.05,
        "Of a shard's clips, so large a share may have no window.",
        flag="--check-most-clips-without-windows",
        env="CHECK_MOST_CLIPS_WITHOUT_WINDOWS",
        ge=0,
        le=1,
    )
    most_clips_not_decoded: float = setting(
        0.02,
        "So large a share may have frames that cannot be decoded.",
        flag="--check-most-clips-not-decoded",
        env="CHECK_MOST_CLIPS_NOT_DECODED",
        ge=0,
        le=1,
    )
    least_previews: float = setting(
        0.98,
        "Of a shard's windows, at least this share has a preview.",
        flag="--check-least-previews",
        env="CHECK_LEAST_PREVIEWS",
        ge=0,
        le=1,
    )
    least_preview_frames: int = setting(
        2,
        "A preview has at least so many frames.",
        flag="--check-least-preview-frames",
        env="CHECK_LEAST_PREVIEW_FRAMES",
        ge=1,
    )
    most_preview_bytes: int = setting(
        8_000_000,
        "A preview's file has at most so many bytes.",
        flag="--check-most-preview-bytes",
        env="CHECK_MOST_PREVIEW_BYTES",
        ge=1,
    )
    least_texts: float = setting(
        0.98,
        "Of what was to be captioned or enhanced, at least this share has a text.",
        flag="--check-least-texts",
        env="CHECK_LEAST_TEXTS",
        ge=0,
        le=1,
    )
    most_flagged: float = setting(
        0.01,
        "Of a shard's texts, this share may have a finding of severity error.",
        flag="--check-most-flagged",
        env="CHECK_MOST_FLAGGED",
        ge=0,
        le=1,
    )
    most_found: float = setting(
        0.05,
        "This share may have any finding that no other check is about.",
        flag="--check-most-found",
        env="CHECK_MOST_FOUND",
        ge=0,
        le=1,
    )
    most_low_confidence: float = setting(
        0.1,
        "This share may be `low_confidence`.",
        flag="--check-most-low-confidence",
        env="CHECK_MOST_LOW_CONFIDENCE",
        ge=0,
        le=1,
    )
    most_near_duplicates: float = setting(
        0.1,
        "This share may be `near_duplicate`.",
        flag="--check-most-near-duplicates",
        env="CHECK_MOST_NEAR_DUPLICATES",
        ge=0,
        le=1,
    )
    most_facts_lost: float = setting(
        0.05,
        "Of enhanced texts, this share may have lost a number or a colour.",
        flag="--check-most-facts-lost",
        env="CHECK_MOST_FACTS_LOST",
        ge=0,
        le=1,
    )

    @field_validator("severities")
    @classmethod
    def _known(cls, severities: dict[str, str]) -> dict[str, str]:
        for name, severity in severities.items():
            for word, what, known in ((name, "check", CheckName), (severity, "severity", FindingSeverity)):
                if word not in get_args(known):
                    raise ValueError(f"there is no {what} {word!r}; choose among {', '.join(get_args(known))}")
        return severities
