"""One pipeline: everything that Dagster has of it, made from its settings."""

from collections.abc import Mapping
from functools import cached_property

import dagster as dg

from caption_assets.defs.as_they_come import AsShardsCome
from caption_assets.defs.assets import PipelineAsset, make_assets
from caption_assets.defs.checks import asset_checks
from caption_assets.defs.exports import export_assets
from caption_assets.defs.io_manager import SaveExportIOManager
from caption_assets.defs.names import Names, model_names
from caption_assets.defs.partitions import shards_of
from caption_assets.defs.resources import CaptionModel, Checks, ClipDataset, Quality, TextModel
from caption_assets.defs.review import review_asset
from caption_assets.defs.source import source_asset
from caption_assets.defs.workers import RunWorkers
from caption_assets.records import text_hash
from caption_assets.settings import PEOPLE_ONLY, CaptionModelSettings, PipelineSettings, TextModelSettings, part
from caption_assets.steps import Progress


class Pipeline:
    """The definitions of a pipeline. Their names begin with the pipeline's; its shards are those of its dataset."""

    def __init__(self, settings: PipelineSettings, resource_overrides: Mapping[str, object] | None = None) -> None:
        """`resource_overrides` are for resources that are not as the settings say, by name."""
        self.settings = settings
        self._overrides = dict(resource_overrides or {})
        self.names = Names(settings.name)
        self.shards = shards_of(settings.dataset, settings.clips)

    @cached_property
    def made(self) -> list[PipelineAsset]:
        """The assets with what they make, each after those that it reads."""
        return make_assets(self.settings, self.shards, self._condition)

    @cached_property
    def exports(self) -> list[dg.AssetsDefinition]:
        return export_assets(self.settings, self.shards, self._condition)

    @property
    def assets(self) -> list[dg.AssetsDefinition]:
        """What a run of everything makes, each after those that it reads."""
        return [*(made.definition for made in self.made), *self.exports, self.review]

    @property
    def _condition(self) -> AsShardsCome | None:
        return AsShardsCome(self.settings_hash) if self.settings.automation else None

    @cached_property
    def checks(self) -> list[dg.AssetChecksDefinition]:
        """The checks of the assets, by default a part of every run of them."""
        return asset_checks(self.settings, self.made, self.names, self.shards)

    @cached_property
    def review(self) -> dg.AssetsDefinition:
        """The pages to look at what all the others have made, with what people have said of it."""
        return review_asset(self.settings, self.shards, [made.definition.key for made in self.made], self._condition)

    @cached_property
    def source(self) -> dg.SourceAsset:
        """The dataset, which all of them are made of."""
        return source_asset(self.names, self.shards, self.settings.tags)

    @cached_property
    def settings_hash(self) -> str:
        return text_hash(self.settings.model_dump_json(exclude=set(PEOPLE_ONLY)))

    @cached_property
    def resources(self) -> dict[str, object]:
        settings = self.settings
        plain: dict[str, object] = {
            "clips": ClipDataset(root=settings.dataset, output=settings.output, **settings.clips.model_dump()),
            "save_export": SaveExportIOManager(
                output_path=settings.output, source_root=settings.source_root, review_url=settings.review_url
            ),
            "quality": Quality(**settings.quality.model_dump()),
            "checks": Checks(**settings.checks.model_dump()),
            "workers": RunWorkers(**settings.workers.model_dump()),
            "progress": Progress(),
        }
        for name, model in model_names("caption_model", settings.captions).items():
            plain[name] = CaptionModel(**part(model, CaptionModelSettings).model_dump())
        for name, text_model in model_names("text_model", settings.enhanced).items():
            plain[name] = TextModel(**part(text_model, TextModelSettings).model_dump())
        return {self.names.of(word): resource for word, resource in plain.items()} | self._overrides
