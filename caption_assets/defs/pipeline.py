"""One pipeline: everything that Dagster has of it, made from its settings."""

from collections.abc import Mapping
from functools import cached_property

import dagster as dg

from caption_assets.defs.as_they_come import AsShardsCome
from caption_assets.defs.assets import make_assets
from caption_assets.defs.io_manager import SaveExportIOManager
from caption_assets.defs.names import Names
from caption_assets.defs.partitions import shards_of
from caption_assets.defs.resources import CaptionModel, ClipDataset, TextModel
from caption_assets.defs.source import source_asset
from caption_assets.defs.workers import RunWorkers
from caption_assets.records import text_hash
from caption_assets.settings import CaptionModelSettings, PipelineSettings, TextModelSettings, part
from caption_assets.steps import Progress


class Pipeline:
    """The definitions of a pipeline. Their names begin with the pipeline's; its shards are those of its dataset."""

    def __init__(self, settings: PipelineSettings, resource_overrides: Mapping[str, object] | None = None) -> None:
        """`resource_overrides` are for resources that are not as the settings say, by name."""
        self.settings = settings
        self._overrides = dict(resource_overrides or {})
        self.names = Names(settings.name)
        self.shards = shards_of(settings.dataset)

    @cached_property
    def assets(self) -> list[dg.AssetsDefinition]:
        """Each after those that it reads."""
        condition = AsShardsCome(self.choice) if self.settings.automation else None
        return make_assets(self.settings, self.shards, condition)

    @cached_property
    def choice(self) -> str:
        """Names its settings: other settings, another name."""
        return text_hash(self.settings.model_dump_json())

    @cached_property
    def source(self) -> dg.SourceAsset:
        """What they are made of."""
        return source_asset(self.names, self.shards)

    @cached_property
    def resources(self) -> dict[str, object]:
        settings = self.settings
        plain: dict[str, object] = {
            "clips": ClipDataset(root=settings.dataset),
            "save_export": SaveExportIOManager(output_path=settings.output, source_root=settings.source_root),
            "caption_model": CaptionModel(**part(settings.captions[0], CaptionModelSettings).model_dump()),
            "text_model": TextModel(**part(settings.enhanced[0], TextModelSettings).model_dump()),
            "workers": RunWorkers(**settings.workers.model_dump()),
            "progress": Progress(),
        }
        return {self.names.of(word): resource for word, resource in plain.items()} | self._overrides
