"""Which kind of dataset a root is: as asked for, or by what lies there."""

from collections.abc import Iterator, Sequence

from caption_assets.dataset.base import Dataset, LeftOut, Listing
from caption_assets.dataset.curator import CLIPS, CuratorDataset, is_curator
from caption_assets.dataset.files import CLIP_SUFFIXES, holding_clips, no_clip
from caption_assets.dataset.flat import FlatDataset
from caption_assets.dataset.folders import FolderDataset, top_of
from caption_assets.dataset.lerobot import LeRobotDataset, is_lerobot
from caption_assets.dataset.manifest import MANIFEST_SUFFIXES, ManifestDataset
from caption_assets.dataset.outputs import WRITTEN
from caption_assets.dataset.parquet import ParquetDataset, holds_videos
from caption_assets.dataset.places import File, Place, place_at, place_failures, refused
from caption_assets.dataset.sharding import HashRule
from caption_assets.dataset.webdataset import TarDataset
from caption_assets.names import written
from caption_assets.records import Clip
from caption_assets.settings import DatasetSettings


class ChosenDataset:
    """The `Dataset` at a root, of a kind that is found out when it is first asked for anything."""

    def __init__(self, root: str, settings: DatasetSettings) -> None:
        self.root, self._settings = root, settings
        self._chosen: Dataset | None = None

    @property
    def _dataset(self) -> Dataset:
        self._chosen = self._chosen or choose(self.root, self._settings)
        return self._chosen

    def shards(self) -> list[str]:
        return self._dataset.shards()

    def listing(self, shard: str) -> Listing:
        return self._dataset.listing(shard)

    def clips(self, shard: str) -> list[Clip]:
        return self._dataset.clips(shard)

    def beside(self) -> list[LeftOut]:
        return self._dataset.beside()

    def versions(self, shards: Sequence[str], start: int = 0) -> Iterator[tuple[str, str]]:
        return self._dataset.versions(shards, start)

    def path_of(self, clip: Clip) -> str | None:
        return self._dataset.path_of(clip)


def choose(root: str, settings: DatasetSettings) -> Dataset:
    """The dataset at one root. Raises DatasetError where there is none, and where the settings do not fit it."""
    rule = HashRule(settings.shards) if settings.shards else None
    match settings.dataset_format:
        case "auto":
            return _by_what_is_there(root, rule)
        case "folders":
            return _without(rule, root, FolderDataset(root), "its folders are its shards")
        case "flat":
            return FlatDataset(root, rule)
        case "curator":
            return CuratorDataset(root, rule)
        case "manifest":
            return ManifestDataset(root, rule)
        case "webdataset":
            return _without(rule, root, TarDataset(root), "its tars are its shards")
        case "parquet":
            return _without(rule, root, ParquetDataset(root), "its Parquet files are its shards")
        case "lerobot":
            return LeRobotDataset(root, rule)


def _by_what_is_there(root: str, rule: HashRule | None) -> Dataset:
    suffix = _suffix(root.rstrip("/"))
    if suffix == ".tar":
        return _without(rule, root, TarDataset(root), "a tar is a shard")
    if suffix == ".parquet" and holds_videos(root):
        return _without(rule, root, ParquetDataset(root), "a Parquet file with videos is a shard")
    if suffix in MANIFEST_SUFFIXES:
        return ManifestDataset(root, rule)
    if suffix in CLIP_SUFFIXES:
        raise refused(root, "it is one clip", "give the folder that it lies in, or a manifest that names it")
    return _folder(root, rule)


def _folder(root: str, rule: HashRule | None) -> Dataset:
    place = place_at(root)
    folders, others = top = top_of(root, place)
    if is_lerobot(place, folders):
        return LeRobotDataset(root, rule)
    if is_curator(folders):
        _one_kind(root, place, [name for name in folders if name not in {CLIPS, *WRITTEN}], (), "clips/", "curator")
        return CuratorDataset(root, rule)
    clips = [name for name in others if not no_clip(File(name))]
    tars = [name for name in others if _suffix(name) == ".tar"]
    if tars:
        _one_kind(root, place, folders, clips, f"tars ({len(tars)})", "webdataset")
        return _without(rule, root, TarDataset(root), "its tars are its shards")
    if not clips and ParquetDataset.is_at(root, place, folders, others):
        _one_kind(root, place, folders, clips, "Parquet files with videos", "parquet")
        return _without(rule, root, ParquetDataset(root), "its Parquet files are its shards")
    if rule is not None:
        return FlatDataset(root, rule)
    with place_failures(root):
        if clips and next(holding_clips(place, folders), None) is None:
            return FlatDataset(root)
    return FolderDataset(root, top)


def _one_kind(
    root: str, place: Place, folders: Sequence[str], clips: Sequence[str], packed: str, its_format: str
) -> None:
    """Raises DatasetError where clips lie beside files that hold some."""
    with place_failures(root):
        beside = f"clips ({len(clips)})" if clips else next(holding_clips(place, sorted(folders)), "")
    if beside:
        named = beside if clips else f"folders of clips ({written(beside)})"
        formats = f"--dataset-format {'flat' if clips else 'folders'}, or --dataset-format {its_format}"
        raise refused(root, f"it holds both {named} and {packed}", f"say which are meant: {formats}")


def _without(rule: HashRule | None, root: str, dataset: Dataset, why: str) -> Dataset:
    if rule is not None:
        raise refused(root, f"--shards and --shard-size are not for it: {why}", "leave them out")
    return dataset


def _suffix(path: str) -> str:
    name = path.rpartition("/")[2]
    return f".{name.rpartition('.')[2].lower()}" if "." in name else ""
