"""The settings of a whole pipeline: one dataset, one output, and what is made of its shards."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from caption_assets.settings.clips import PreviewSettings, WindowSettings, WorkerSettings
from caption_assets.settings.texts import CaptionModelSettings, CaptionSettings, EnhanceSettings, TextModelSettings

DEMO_DATASET = "demo/clips"
DEMO_OUTPUT = "demo/output"


class Captions(CaptionModelSettings, CaptionSettings):
    """Captions of every window: by which model, and how."""


class EnhancedCaptions(TextModelSettings, EnhanceSettings):
    """Captions rewritten: by which text model, and how."""


def _name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_]*", name):
        raise ValueError("a pipeline's name has letters, digits and '_' only")
    return name


def _listed(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


class PipelineSettings(BaseModel):
    """A pipeline as it is deployed. Every definition that Dagster has of it is made from this, and named by `name`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, AfterValidator(_name)] = Field(
        default="",
        description="What its definitions' names begin with, where several stand side by side; by default nothing.",
    )
    dataset: str = Field(
        default=DEMO_DATASET, description="Folder or fsspec URL whose sub-folders are the shards of clips."
    )
    output: str = Field(default=DEMO_OUTPUT, description="Folder or fsspec URL for tables, documents and previews.")
    source_root: str | None = Field(
        default=None,
        description="Root that the source videos of clips cut elsewhere are relative to, if there are any.",
    )
    windows: WindowSettings = Field(default=WindowSettings(), description="How clips are cut into windows and sampled.")
    previews: PreviewSettings = Field(default=PreviewSettings(), description="How previews are made.")
    captions: Annotated[tuple[Captions, ...], BeforeValidator(_listed)] = Field(
        default=(Captions(),),
        description="The captioning model and what it is asked; several stand beside each other.",
    )
    enhanced: Annotated[tuple[EnhancedCaptions, ...], BeforeValidator(_listed)] = Field(
        default=(EnhancedCaptions(),),
        description="The text model and what it is asked, for the captions of every model.",
    )
    workers: WorkerSettings = Field(default=WorkerSettings(), description="The worker processes of a run.")
    automation: bool = Field(
        default=False,
        description="Make what is missing or out of date by itself, as shards come and change, without a schedule.",
    )
