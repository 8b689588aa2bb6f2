"""What the definitions of one pipeline are called, so that several stand side by side in one code location."""

from dataclasses import dataclass
from typing import Any

import dagster as dg

from caption_assets.store.tables import Table


@dataclass(frozen=True, slots=True)
class Names:
    """Names of a pipeline's definitions: the plain ones, or with the pipeline's name before them."""

    pipeline: str = ""

    def of(self, word: str) -> str:
        """The name of a job, sensor, schedule or resource."""
        return f"{self.pipeline}_{word}" if self.pipeline else word

    def asset(self, table: Table[Any] | str) -> dg.AssetKey:
        """The asset that writes a table."""
        return dg.AssetKey([*([self.pipeline] if self.pipeline else []), str(table)])

    def op(self, table: Table[Any] | str) -> str:
        """The step that makes it, as a run's config names it."""
        return self.asset(table).to_python_identifier()

    @property
    def group(self) -> str:
        return self.of("captions_and_previews")
