"""Everything put together."""

import os
from collections.abc import Mapping

import dagster as dg

from caption_assets.defs.assets import ASSETS
from caption_assets.defs.io_manager import SaveExportIOManager
from caption_assets.defs.jobs import caption_shards
from caption_assets.defs.resources import CaptionModel, ClipDataset, TextModel
from caption_assets.defs.sensors import missing_shards, register_new_shards
from caption_assets.steps import Progress

DEMO_DATASET = "demo/clips"
DEMO_OUTPUT = "demo/output"


def build_defs(resource_overrides: Mapping[str, object] | None = None) -> dg.Definitions:
    """The Dagster definitions, with resources from the environment unless overridden.

    CAPTION_ASSETS_DATASET, CAPTION_ASSETS_OUTPUT, CAPTION_ASSETS_SOURCE_ROOT: where clips are read and results
    written (default: the demo's folders below the working directory). CAPTION_ASSETS_VARIANT, CAPTION_ASSETS_ENHANCER,
    CAPTION_ASSETS_ENGINE, CAPTION_ASSETS_DEVICE, CAPTION_ASSETS_MODEL_PATH, CAPTION_ASSETS_ENHANCER_PATH,
    CAPTION_ASSETS_MODEL_DIR: which models, and where they run. Backfills over several shards cannot change
    resources in the UI, so this is where a deployment chooses.
    """
    return dg.Definitions(
        assets=ASSETS,
        jobs=[caption_shards],
        sensors=[register_new_shards],
        schedules=[missing_shards],
        resources={**default_resources(), **(resource_overrides or {})},
    )


def default_resources() -> dict[str, object]:
    """The resources that the environment asks for."""

    def env(name: str) -> str | None:
        return os.environ.get(f"CAPTION_ASSETS_{name}") or None

    engine, device, model_dir = env("ENGINE") or "auto", env("DEVICE") or "auto", env("MODEL_DIR")
    return {
        "clips": ClipDataset(root=env("DATASET") or DEMO_DATASET),
        "save_export": SaveExportIOManager(output_path=env("OUTPUT") or DEMO_OUTPUT, source_root=env("SOURCE_ROOT")),
        "caption_model": CaptionModel(
            model_variant=env("VARIANT") or "demo",
            model_path=env("MODEL_PATH"),
            engine=engine,
            device=device,
            model_dir=model_dir,
        ),
        "text_model": TextModel(
            algorithm=env("ENHANCER") or "demo_lm",
            model_path=env("ENHANCER_PATH"),
            engine=engine,
            device=device,
            model_dir=model_dir,
        ),
        "progress": Progress(),
    }
