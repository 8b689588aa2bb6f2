"""Everything put together."""

from collections.abc import Mapping

import dagster as dg

from caption_assets.defs.assets import ASSETS
from caption_assets.defs.automation import caption_shards, missing_shards, register_new_shards
from caption_assets.defs.environment import DATASET, OUTPUT, SOURCE_ROOT, check_names, from_environment, variable
from caption_assets.defs.io_manager import SaveExportIOManager
from caption_assets.defs.resources import CaptionModel, ClipDataset, TextModel
from caption_assets.defs.workers import RunWorkers
from caption_assets.settings import CaptionModelSettings, TextModelSettings, WorkerSettings
from caption_assets.steps import Progress

DEMO_DATASET = "demo/clips"
DEMO_OUTPUT = "demo/output"


def build_defs(resource_overrides: Mapping[str, object] | None = None) -> dg.Definitions:
    """The Dagster definitions, with resources from the environment unless overridden.

    CAPTION_ASSETS_DATASET, CAPTION_ASSETS_OUTPUT, CAPTION_ASSETS_SOURCE_ROOT: where clips are read and results
    written (default: the demo's folders below the working directory). Every setting has a variable, too, which
    `settings` declares beside it. Raises ConfigError for a value that cannot be, and for a name that is none.
    """
    return dg.Definitions(
        assets=ASSETS,
        jobs=[caption_shards],
        sensors=[register_new_shards],
        schedules=[missing_shards],
        resources={**default_resources(), **(resource_overrides or {})},
        # Steps of a run share its worker processes, and what one has made for another; the heavy work is done by
        # processes of their own either way.
        executor=dg.in_process_executor,
    )


def default_resources() -> dict[str, object]:
    """The resources that the environment asks for."""
    check_names()
    return {
        "clips": ClipDataset(root=variable(DATASET) or DEMO_DATASET),
        "save_export": SaveExportIOManager(
            output_path=variable(OUTPUT) or DEMO_OUTPUT, source_root=variable(SOURCE_ROOT)
        ),
        "caption_model": CaptionModel(**from_environment(CaptionModelSettings)),
        "text_model": TextModel(**from_environment(TextModelSettings)),
        "workers": RunWorkers(**from_environment(WorkerSettings)),
        "progress": Progress(),
    }
