"""What the definitions of one pipeline are called, so that several stand side by side in one code location."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import dagster as dg

from caption_assets.models.choice import ModelChoice, check_keys, identifier
from caption_assets.settings import Captions, EnhancedCaptions
from caption_assets.steps.windows import SOURCE
from caption_assets.store.tables import TABLES, Table

M = TypeVar("M", Captions, EnhancedCaptions)


@dataclass(frozen=True, slots=True)
class Names:
    """Names of a pipeline's definitions: the plain ones, or with the pipeline's name before them."""

    pipeline: str = ""

    def of(self, word: str) -> str:
        """The name of a job, sensor, schedule or resource."""
        return f"{self.pipeline}_{word}" if self.pipeline else word

    def asset(self, table: Table[Any] | str, *keys: str) -> dg.AssetKey:
        """The asset that writes a table: `window_captions_qwen3`, `enhanced_captions_qwen3_by_qwen_lm`.

        The UI shows the last part of a key alone on a node, so that has everything. `keys` are the caption key and
        that of the text model; a table that depends on none of them, or on the first alone, takes no more.
        """
        table = TABLES[table] if isinstance(table, str) else table
        of = "_by_".join(keys[: len(table.key_columns)])
        return dg.AssetKey([*([self.pipeline] if self.pipeline else []), f"{table}_{of}" if of else str(table)])

    def export(self, called: str, *keys: str) -> dg.AssetKey:
        """The asset of an export: `export_videofolder_qwen3`, `export_txt_qwen3_by_qwen_lm`."""
        name = f"export_{called}_{'_by_'.join(keys)}"
        return dg.AssetKey([*([self.pipeline] if self.pipeline else []), name])

    @property
    def source(self) -> dg.AssetKey:
        """The asset that is the dataset."""
        return dg.AssetKey([*([self.pipeline] if self.pipeline else []), SOURCE])

    @property
    def group(self) -> str:
        return self.of("captions_and_previews")


def model_names(word: str, models: Sequence[M]) -> dict[str, M]:
    """Names for the resources of models: `word` for a single one, else with the key of each.

    Raises ConfigError as `check_keys`.
    """
    check_keys(models)
    if len(models) == 1:
        return {word: models[0]}
    return {f"{word}_{identifier(ModelChoice(model).key)}": model for model in models}
