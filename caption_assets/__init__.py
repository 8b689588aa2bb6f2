"""Captions and previews for shards of video clips, as Dagster assets in NeMo Curator's Save & Export layout.

What stands in `__all__` is the package's public surface: the steps and what they are given, without Dagster
(docs/python.md shows them at work). Dagster's definitions are `caption_assets.definitions.defs`. Each name is imported
when it is first used: worker processes import this package, too, and need little of it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from caption_assets.dataset import open_dataset
    from caption_assets.errors import CaptionAssetsError
    from caption_assets.settings import (
        CaptionModelSettings,
        CaptionSettings,
        DatasetSettings,
        EnhanceSettings,
        PreviewSettings,
        TextModelSettings,
        WindowSettings,
        WorkerSettings,
    )
    from caption_assets.steps import (
        Ended,
        Progress,
        ShardReport,
        StepContext,
        caption_shards,
        enhance_shards,
        model_session,
        preview_shard,
        preview_shards,
        window_shard,
        window_shards,
    )
    from caption_assets.store import CLIP_WINDOWS, ENHANCED_CAPTIONS, WINDOW_CAPTIONS, WINDOW_PREVIEWS, Store
    from caption_assets.workers.local import Workers

__all__ = [
    "CLIP_WINDOWS",
    "ENHANCED_CAPTIONS",
    "WINDOW_CAPTIONS",
    "WINDOW_PREVIEWS",
    "CaptionAssetsError",
    "CaptionModelSettings",
    "CaptionSettings",
    "DatasetSettings",
    "Ended",
    "EnhanceSettings",
    "PreviewSettings",
    "Progress",
    "ShardReport",
    "StepContext",
    "Store",
    "TextModelSettings",
    "WindowSettings",
    "WorkerSettings",
    "Workers",
    "__version__",
    "caption_shards",
    "enhance_shards",
    "model_session",
    "open_dataset",
    "preview_shard",
    "preview_shards",
    "window_shard",
    "window_shards",
]

_ROOMS = ("dataset", "errors", "settings", "steps", "store", "workers.local")


def __getattr__(name: str) -> Any:
    if name in __all__:
        for room in _ROOMS:
            module = import_module(f"caption_assets.{room}")
            if hasattr(module, name):
                globals()[name] = getattr(module, name)
                return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
