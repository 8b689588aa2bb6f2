"""Where clips come from: a dataset's root -> shards -> `Clip` records.

Here: one file for each kind of dataset, all behind the protocol `Dataset` and chosen by `open_dataset`, and the ids of
clips and shards. It lists and never opens a clip. Not here: what is in a clip (`media`), and what was made of it
(`store`).
"""

from caption_assets.dataset.base import NO_CLIPS, Dataset, LeftOut, Listing
from caption_assets.dataset.choose import ChosenDataset
from caption_assets.dataset.files import CLIP_SUFFIXES
from caption_assets.dataset.ids import (
    clip_id,
    dataset_name,
    path_id,
    shard_key,
    shard_name,
    split_duplicates,
)
from caption_assets.dataset.several import SeveralDatasets
from caption_assets.errors import ConfigError
from caption_assets.names import roots_of
from caption_assets.settings import DatasetSettings

__all__ = [
    "CLIP_SUFFIXES",
    "NO_CLIPS",
    "Dataset",
    "LeftOut",
    "Listing",
    "clip_id",
    "dataset_name",
    "open_dataset",
    "path_id",
    "shard_key",
    "shard_name",
    "split_duplicates",
]


def open_dataset(root: str, settings: DatasetSettings | None = None) -> Dataset:
    """The dataset at `root`: a folder or fsspec URL, a manifest, a tar, or several of them, a line each. Nothing is
    listed yet.

    `settings` say what kind it is, by default what it looks like, and how its clips become shards. A `shard_size` needs
    an output root: see `steps.sharding.dataset_for`. Raises ConfigError.
    """
    settings = settings or DatasetSettings()
    if settings.shard_size:
        asked = f"dataset {root!r}, shard size {settings.shard_size}"
        wrong = "how many shards that makes is kept in an output root, and none is given"
        raise ConfigError(asked, wrong, "give the output root, or a number of shards")
    roots = roots_of(root)
    return SeveralDatasets(roots, settings) if len(roots) > 1 else ChosenDataset("".join(roots), settings)
