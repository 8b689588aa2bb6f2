"""Settings of exports: which windows go out, with which text and which video."""

from typing import Literal, Self, get_args

from pydantic import field_validator, model_validator

from caption_assets.settings.declare import Settings, setting
from caption_assets.settings.quality import FindingRule

ExportFormatName = Literal[
    "jsonl",
    "csv",
    "musubi",
    "diffsynth",
    "open-sora",
    "videofolder",
    "txt",
    "cosmos",
    "webdataset",
    "parquet",
]
ExportText = Literal["caption", "enhanced"]
ExportReviewed = Literal["prefer", "only", "ignore"]
ExportVideos = Literal["windows", "clips", "links"]
AskedVideos = Literal["auto", "windows", "clips", "links"]


class ExportTexts(Settings):
    """Which texts go out."""

    key: str | None = setting(
        None,
        "Caption key whose captions go out; needed where there are several.",
        flag="--key",
        env="EXPORT_KEY",
    )
    text: ExportText = setting(
        "caption",
        "Which text goes out: the caption as the model wrote it, or enhanced by a text model.",
        flag="--text",
        env="EXPORT_TEXT",
    )
    text_key: str | None = setting(
        None,
        "Key of the text model whose enhanced captions go out; needed where there are several.",
        flag="--text-key",
        env="EXPORT_TEXT_KEY",
    )


class ExportChoices(Settings):
    """Which windows go out, with which video, and how they are divided."""

    videos: AskedVideos = setting(
        "auto",
        "Videos that go with the texts: windows, each cut out of its clip, frame by frame; clips, copied as they are; "
        "or links, which are the clips where they lie, by path or link. With auto, what the format is best with.",
        flag="--videos",
        env="EXPORT_VIDEOS",
    )
    min_characters: int | None = setting(
        None, "Texts of fewer characters are left out.", flag="--min-characters", env="EXPORT_MIN_CHARACTERS", ge=0
    )
    max_characters: int | None = setting(
        None, "Texts of more characters are left out.", flag="--max-characters", env="EXPORT_MAX_CHARACTERS", ge=1
    )
    min_seconds: float | None = setting(
        None, "Windows that last less are left out.", flag="--min-seconds", env="EXPORT_MIN_SECONDS", ge=0
    )
    max_seconds: float | None = setting(
        None, "Windows that last longer are left out.", flag="--max-seconds", env="EXPORT_MAX_SECONDS", gt=0
    )
    min_confidence: float | None = setting(
        None,
        "Texts whose mean log-probability is lower, or not known, are left out.",
        flag="--min-confidence",
        env="EXPORT_MIN_CONFIDENCE",
        le=0,
    )
    include_flagged: bool = setting(
        False,
        "Let texts with a finding of severity error go out, too.",
        flag="--include-flagged",
        env="EXPORT_INCLUDE_FLAGGED",
    )
    leave_out_findings: str | None = setting(
        None,
        "Leave out texts with any of these findings, whatever their severity: names of rules, with commas.",
        flag="--leave-out-findings",
        env="EXPORT_LEAVE_OUT_FINDINGS",
    )
    reviewed: ExportReviewed = setting(
        "prefer",
        "What people said of texts: with prefer, a text that somebody edited goes out as edited, and one that was "
        "judged wrong, or is disputed, is left out; with only, only texts judged right, or edited, go out; with "
        "ignore, it does not count.",
        flag="--reviewed",
        env="EXPORT_REVIEWED",
    )
    validation: float = setting(
        0.0,
        "Share of the clips that goes into a validation split.",
        flag="--validation",
        env="EXPORT_VALIDATION",
        ge=0,
        lt=1,
    )
    test: float = setting(
        0.0, "Share of the clips that goes into a test split.", flag="--test", env="EXPORT_TEST", ge=0, lt=1
    )
    max_file_mib: int = setting(
        1024,
        "Size of a tar or Parquet file at most, in MiB; one that holds a single larger video is larger.",
        flag="--max-file-mib",
        env="EXPORT_MAX_FILE_MIB",
        ge=1,
    )
    license: str | None = setting(
        None, "Licence of the videos and texts, for the dataset card.", flag="--license", env="EXPORT_LICENSE"
    )

    @property
    def left_out_findings(self) -> tuple[str, ...]:
        """The rules of `leave_out_findings`."""
        return tuple(name.strip() for name in (self.leave_out_findings or "").split(",") if name.strip())

    @field_validator("leave_out_findings")
    @classmethod
    def _known(cls, names: str | None) -> str | None:
        for name in filter(None, map(str.strip, (names or "").split(","))):
            if name not in get_args(FindingRule):
                raise ValueError(f"there is no rule {name!r}; choose among {', '.join(get_args(FindingRule))}")
        return names

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError("the shares of validation and test leave nothing to train on")
        return self


class ExportSettings(ExportChoices, ExportTexts):
    """Which windows go out, with which text and which video, and how they are divided."""
