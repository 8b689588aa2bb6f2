"""The settings of a whole pipeline: one dataset, one output, and what is made of its shards."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, field_validator

from caption_assets.settings.checks import CheckSettings
from caption_assets.settings.clips import PreviewSettings, WindowSettings, WorkerSettings
from caption_assets.settings.dataset import DatasetSettings
from caption_assets.settings.declare import Settings, form, part, setting
from caption_assets.settings.exports import ExportFormatName, ExportSettings
from caption_assets.settings.quality import QualitySettings
from caption_assets.settings.texts import (
    CaptionModelSettings,
    CaptionPrompt,
    CaptionSettings,
    EnhanceSettings,
    TextModelSettings,
)

DEMO_DATASET = "demo/clips"
DEMO_OUTPUT = "demo/output"
PEOPLE_ONLY = (
    "owners",
    "tags",
    "fresh_within_hours",
    "failure_webhook",
    "review_url",
    "checks",
    "windows_per_run",
    "executor",
)
"""Settings of a pipeline that change nothing in what is made."""


_CAPTION_NAME = form(r"^[A-Za-z0-9_][A-Za-z0-9._-]*$", "of letters, digits, '_', '.' and '-', the first no mark")
_URL = form("^https?://", "an address like https://host/path")


class Captions(CaptionModelSettings, CaptionSettings):
    """Captions of every window: by which model, and how; and in `prompts` what else it is asked in the same visit.

    Each of these is what a caption's settings are, by a name that its key ends with: `<key>-<name>`. A text alone is
    its prompt; one that is called as a prompt variant has that prompt.
    """

    prompts: dict[Annotated[str, StringConstraints(pattern=_CAPTION_NAME)], CaptionSettings] = setting(
        {},
        "Further captions of every window, by name: a prompt text or settings, as JSON; nothing for the ready-made "
        "short, dense, camera and structured.",
        flag="--caption",
        env="PROMPTS",
    )

    @field_validator("prompts", mode="before")
    @classmethod
    def _ready_made(cls, value: Any) -> Any:
        return {name: _prompt(name, given) for name, given in value.items()} if isinstance(value, dict) else value

    @property
    def asked(self) -> dict[str, CaptionSettings]:
        """The settings of each caption, by the name of its prompt, that of the model's own key first: ""."""
        return {"": part(self, CaptionSettings), **self.prompts}


def _prompt(name: Any, given: Any) -> Any:
    """What is set by a text alone, or by the name of a prompt variant."""
    if isinstance(given, str):
        given = {"prompt_text": given}
    if not isinstance(given, dict | None):
        return given
    given = given or {}
    if "prompt_text" in given and "prompt_variant" not in given and not str(given["prompt_text"] or "").strip():
        raise ValueError(f"the prompt_text of {name!r} is blank: write an instruction, or leave it out")
    if name in get_args(CaptionPrompt):
        return {"prompt_variant": name, **given}
    if not given.keys() & {"prompt_text", "prompt_variant"}:
        raise ValueError(f"{name!r} has no prompt: give it a prompt_text, or a prompt_variant")
    return given


class EnhancedCaptions(TextModelSettings, EnhanceSettings):
    """Captions rewritten: by which text model, and how."""


def _lines(dataset: Any) -> Any:
    """Of several, a line each."""
    return "\n".join(map(str, dataset)) if isinstance(dataset, list | tuple) else dataset


class Exports(ExportSettings):
    """An export that is made of each shard: in which format, of which texts and how.

    There is one for each caption key, and of enhanced texts for each pair of keys; or the one that `key` and `text_key`
    name.
    """

    format: ExportFormatName = Field(description="Format of the export.")
    name: str | None = Field(
        default=None,
        pattern=form(r"^[A-Za-z0-9_-]+$", "of letters, digits, '_' and '-'"),
        description="What it is called, where several have the same format; by default as that.",
    )
    to: str | None = Field(
        default=None,
        description="Folder or fsspec URL that gets a folder for each key; by default exports/NAME below the output.",
    )

    @property
    def called(self) -> str:
        """Its name, else its format."""
        return self.name or self.format


class PipelineSettings(BaseModel):
    """A pipeline as it is deployed. Every definition that Dagster has of it is made from this, and named by `name`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(
        default="",
        pattern=form(r"^[A-Za-z0-9_]*$", "of letters, digits and '_'"),
        description="What its definitions' names begin with, where several stand side by side; by default nothing.",
    )
    dataset: Annotated[str, BeforeValidator(_lines)] = Field(
        default=DEMO_DATASET,
        min_length=1,
        description="Where the clips are: a folder or fsspec URL whose sub-folders are the shards, or another kind of "
        "dataset, such as a manifest or tars; of several, a list.",
    )
    clips: DatasetSettings = Field(
        default=DatasetSettings(), description="What kind of dataset it is, and how its clips become shards."
    )
    output: str = Field(
        default=DEMO_OUTPUT, min_length=1, description="Folder or fsspec URL for tables, documents and previews."
    )
    source_root: str | None = Field(
        default=None,
        description="Root that the source videos of clips cut elsewhere are relative to, if there are any.",
    )
    windows: WindowSettings = Field(default=WindowSettings(), description="How clips are cut into windows and sampled.")
    previews: PreviewSettings = Field(default=PreviewSettings(), description="How previews are made.")
    captions: tuple[Captions, ...] = Field(
        default=(Captions(),),
        description="The captioning models, and what each is asked; their captions stand beside each other.",
    )
    enhanced: tuple[EnhancedCaptions, ...] = Field(
        default=(EnhancedCaptions(),),
        description="The text models, and what each is asked about the captions of every captioning model.",
    )
    exports: tuple[Exports, ...] = Field(
        default=(), description="Exports that are made of the captions, for trainers; by default none."
    )
    executor: Literal["in_process", "multiprocess", "ray", "of_the_project"] = Field(
        default="in_process",
        description="How the steps of a run are executed: in one process, which lets them share worker processes and "
        "decoded frames; each in its own; each as a job of a Ray cluster, the one that RAY_ADDRESS names; or as the "
        "project's other definitions say.",
    )
    windows_per_run: int = Field(
        default=2048,
        ge=1,
        description="Windows that a run of a backfill or of the schedule captions, about: it takes as many shards as "
        "have them, by what is known when the code location loads.",
    )
    quality: QualitySettings = Field(default=QualitySettings(), description="What rules have against texts.")
    checks: CheckSettings = Field(default=CheckSettings(), description="From when on a shard does not pass a check.")
    workers: WorkerSettings = Field(default=WorkerSettings(), description="The worker processes of a run.")
    owners: tuple[str, ...] = Field(
        default=(), description="Who answers for the assets: e-mail addresses, or `team:` and a name."
    )
    tags: dict[str, str] = Field(default={}, description="Tags of all assets in Dagster's catalog, by name.")
    fresh_within_hours: float | None = Field(
        default=None,
        gt=0,
        description="Hours within which shards are to be made, and made again: others do not pass the check "
        "`shards_up_to_date`, and an asset of which none was made is shown as overdue.",
    )
    failure_webhook: str | None = Field(
        default=None,
        pattern=_URL,
        description="Address to which a message is sent when a run fails, as JSON with a `text` for people.",
    )
    review_url: str | None = Field(
        default=None,
        pattern=_URL,
        description="Address of `caption-assets review --serve`, or another at which the output root is served, for "
        "links to the pages.",
    )
    automation: bool = Field(
        default=False,
        description="Make what is missing or out of date by itself, as shards come and change, without a schedule.",
    )


PIPELINE_PARTS: Mapping[str, type[Settings]] = MappingProxyType(
    {
        name: field.annotation
        for name, field in PipelineSettings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings)
    }
)
"""The settings of a pipeline that are groups of settings, by field."""
