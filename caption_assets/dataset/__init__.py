"""Where clips come from: a dataset's root -> shards -> `Clip` records.

Here: one file for each kind of dataset, all behind the protocol `Dataset` and chosen by `open_dataset`, and the ids of
clips and shards. It lists and never opens a clip. Not here: what is in a clip (`media`), and what was made of it
(`store`).
"""

from caption_assets.dataset.base import NO_CLIPS, Dataset, LeftOut, Listing
from caption_assets.dataset.folders import CLIP_SUFFIXES, FolderDataset
from caption_assets.dataset.ids import clip_id, dataset_name, path_id, shard_key, shard_name, split_duplicates

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


def open_dataset(root: str) -> Dataset:
    """The dataset at `root`: a folder or fsspec URL whose sub-folders are the shards. Nothing is listed yet."""
    return FolderDataset(root)
