"""What a user can set: names, defaults, ranges, choices and words, each said once, with its flag and its variable.

Dagster's config classes, the command line's flags, what the environment sets and the reference page are all made from
these models. Here: how a setting is declared (`declare`), the settings of clips, texts and rules, and what a
deployment sets by a file (`file`) and its environment (`environment`). Not here: what a setting does.
"""

from caption_assets.settings.checks import CheckName, CheckSettings
from caption_assets.settings.clips import DecodeLimits, PreviewSettings, WindowSettings, WorkerSettings
from caption_assets.settings.dataset import DatasetFormat, DatasetSettings
from caption_assets.settings.declare import (
    ENVIRONMENT_PREFIX,
    Settings,
    choices_of,
    flags_of,
    in_words,
    is_mapping,
    is_shared,
    meanings_of,
    part,
    variables_of,
)
from caption_assets.settings.exports import ExportChoices, ExportFormatName, ExportSettings, ExportText, ExportVideos
from caption_assets.settings.pipeline import (
    PEOPLE_ONLY,
    PIPELINE_PARTS,
    Captions,
    EnhancedCaptions,
    Exports,
    PipelineSettings,
)
from caption_assets.settings.quality import ConfidenceScore, FindingRule, FindingSeverity, QualitySettings
from caption_assets.settings.texts import (
    AskedFamily,
    AskedPrecision,
    CaptionModelSettings,
    CaptionPrompt,
    CaptionSettings,
    EngineName,
    EnhanceSettings,
    ModelFamily,
    ModelSettings,
    TextModelSettings,
    TextPrompt,
    VideoForm,
)
from caption_assets.settings.variants import CaptionVariant, TextVariant

ALL_SETTINGS: tuple[type[Settings], ...] = (
    WindowSettings,
    PreviewSettings,
    CaptionSettings,
    EnhanceSettings,
    CaptionModelSettings,
    TextModelSettings,
    QualitySettings,
    CheckSettings,
    WorkerSettings,
    DatasetSettings,
)
"""Everything that can be set, by where it is set in Dagster: the four assets, then the resources."""

__all__ = [
    "ALL_SETTINGS",
    "ENVIRONMENT_PREFIX",
    "PEOPLE_ONLY",
    "PIPELINE_PARTS",
    "AskedFamily",
    "AskedPrecision",
    "CaptionModelSettings",
    "CaptionPrompt",
    "CaptionSettings",
    "CaptionVariant",
    "Captions",
    "CheckName",
    "CheckSettings",
    "ConfidenceScore",
    "DatasetFormat",
    "DatasetSettings",
    "DecodeLimits",
    "EngineName",
    "EnhanceSettings",
    "EnhancedCaptions",
    "ExportChoices",
    "ExportFormatName",
    "ExportSettings",
    "ExportText",
    "ExportVideos",
    "Exports",
    "FindingRule",
    "FindingSeverity",
    "ModelFamily",
    "ModelSettings",
    "PipelineSettings",
    "PreviewSettings",
    "QualitySettings",
    "Settings",
    "TextModelSettings",
    "TextPrompt",
    "TextVariant",
    "VideoForm",
    "WindowSettings",
    "WorkerSettings",
    "choices_of",
    "flags_of",
    "in_words",
    "is_mapping",
    "is_shared",
    "meanings_of",
    "part",
    "variables_of",
]
