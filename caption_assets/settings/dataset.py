"""How a dataset is read: what kind it is, and how its clips become shards."""

from typing import Literal

from pydantic import model_validator

from caption_assets.settings.declare import Settings, setting

DatasetFormat = Literal["auto", "folders", "flat", "curator", "manifest", "webdataset", "parquet", "lerobot"]
_MEANINGS = {
    "auto": "by what the root is",
    "folders": "each folder in the root is a shard",
    "flat": "all clips below the root are one shard, or as many as asked for",
    "curator": "an output root of NeMo Curator or cosmos-curate",
    "manifest": "a CSV, TSV, JSONL, Parquet or TXT file that names clips",
    "webdataset": "each tar is a shard",
    "parquet": "each Parquet file with videos in it is a shard",
    "lerobot": "the videos of a LeRobot dataset",
}


class DatasetSettings(Settings):
    """What kind of dataset it is, and how clips that lie together become shards."""

    dataset_format: DatasetFormat = setting(
        "auto",
        "What kind of dataset it is.",
        flag="--dataset-format",
        env="DATASET_FORMAT",
        meanings=_MEANINGS,
    )
    shards: int | None = setting(
        None,
        "Put the clips into so many shards, by a hash of their paths: a clip's shard depends on no other clip.",
        flag="--shards",
        env="SHARDS",
        ge=1,
        le=100_000,
    )
    shard_size: int | None = setting(
        None,
        "The same with as many shards as have about so many clips each when the dataset is first used with an output "
        "root; that number is kept there, and later clips join these shards.",
        flag="--shard-size",
        env="SHARD_SIZE",
        ge=1,
    )

    @model_validator(mode="after")
    def _one_number(self) -> "DatasetSettings":
        if self.shards is not None and self.shard_size is not None:
            raise ValueError("shards and shard_size are two ways to say the same: give one of them")
        return self

    @property
    def rule(self) -> str:
        """How clips become shards, in a word; empty where the dataset itself says."""
        return f"hash{self.shards}" if self.shards else f"size{self.shard_size}" if self.shard_size else ""
