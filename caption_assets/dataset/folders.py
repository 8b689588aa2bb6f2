"""A root folder or URL whose folders are the shards; a shard's clips lie anywhere below it."""

from collections.abc import Iterator, Sequence
from functools import cached_property

from caption_assets.dataset.base import LeftOut, Listing, left_out, listing_version, unknown_shard
from caption_assets.dataset.files import CLIP_SUFFIXES, found_with_sidecars, holding_clips, no_clip
from caption_assets.dataset.ids import shard_key, shard_name
from caption_assets.dataset.outputs import OF_OUTPUT, written_beside
from caption_assets.dataset.places import File, Place, place_at, place_failures, refused
from caption_assets.names import written
from caption_assets.records import Clip

_SHOWN = 3


class FolderDataset:
    """A `Dataset` whose root is a local path or an fsspec URL.

    Links are followed; hidden files and folders, and whatever is no regular file, are no clips. A folder without any
    clip is no shard.
    """

    def __init__(self, root: str, top: tuple[list[str], list[str]] | None = None) -> None:
        """`top` is `top_of` the root as the caller has just found it."""
        self.root, self._top = root, top

    @cached_property
    def _place(self) -> Place:
        return place_at(self.root)

    def shards(self) -> list[str]:
        """Partition keys of all shards, in the order of their names. Where that may be far away, all files are listed.

        Hidden folders are left out. Raises DatasetError where there is no shard at all, or where clips lie beside the
        folders.
        """
        (folders, others), self._top = self._top or top_of(self.root, self._place), None
        clips = sorted(name for name in others if not no_clip(File(name)))
        with place_failures(self.root):
            folders = list(holding_clips(self._place, folders))
        if clips and folders:
            shown = ", ".join(map(written, clips[:_SHOWN])) + (", …" if len(clips) > _SHOWN else "")
            raise refused(
                self.root,
                f"it holds both clips ({len(clips)}: {shown}) and folders that may be shards",
                "move these clips into a folder, or take all clips below it together: with --shards N, or as one "
                "shard with --dataset-format flat",
            )
        if not folders:
            raise refused(
                self.root,
                f"it holds neither clips ({', '.join(sorted(CLIP_SUFFIXES))}) nor folders of clips",
                "put each shard's clips into a sub-folder",
            )
        return [shard_key(name) for name in sorted(folders)]

    def clips(self, shard: str) -> list[Clip]:
        """The clips of `listing`."""
        return self.listing(shard).clips

    def listing(self, shard: str) -> Listing:
        """All clips below the shard with partition key `shard`, in the order of their paths, and what else is there.

        Lists the shard's own folder only. Ids are not checked for being distinct: see `split_duplicates`. Raises
        DatasetError for an unknown shard.
        """
        folder = shard_name(shard)
        # No name of a folder leads out of the root, and none is written as two keys.
        if shard_key(folder) != shard or "/" in folder or folder.startswith(".") or folder == "":
            raise unknown_shard(self, shard)
        try:
            with place_failures(self.root):
                everything = list(found_with_sidecars(self._place.files(folder), self._place, shard))
        except (FileNotFoundError, NotADirectoryError):
            raise unknown_shard(self, shard) from None
        clips = [each.clip for each in everything if each.clip is not None]
        others = [(each.trouble, each.path) for each in everything if each.clip is None]
        if not everything and not self._place.looks_cost_nothing and folder not in top_of(self.root, self._place)[0]:
            raise unknown_shard(self, shard)  # object stores have no folders that could be missing
        clips.sort(key=lambda clip: clip.relative_path)
        return Listing(clips, left_out(others))

    def beside(self) -> list[LeftOut]:
        """Files in the root, folders without clips, and what is hidden."""
        with place_failures(self.root):
            folders, files = self._place.top()
            own = sorted(written_beside(folders))
            hidden = [name for name in (*(f"{folder}/" for folder in folders), *files) if name.startswith(".")]
            folders = [name for name in folders if not name.startswith(".") and name not in own]
            without = sorted(set(folders).difference(holding_clips(self._place, folders)))
        return left_out(
            [
                *(("folders without clips", f"{written(name)}/") for name in without),
                *((OF_OUTPUT, f"{name}/") for name in own),
                *(("hidden", written(name)) for name in sorted(hidden)),
                *sorted((no_clip(File(name)) or "clips", written(name)) for name in files if not name.startswith(".")),
            ]
        )

    def versions(self, shards: Sequence[str], start: int = 0) -> Iterator[tuple[str, str]]:
        """See `Dataset.versions`. Raises DatasetError where the root cannot be read."""
        with place_failures(self.root):
            for number, files in self._place.each([shard_name(key) for key in shards], start):
                clips = ((written(file.path), file.stamp) for file in files if not no_clip(file))
                yield shards[number], listing_version(clips)

    def path_of(self, clip: Clip) -> str | None:
        """See `Dataset.path_of`."""
        return self._place.path_of(clip.location)


def top_of(root: str, place: Place) -> tuple[list[str], list[str]]:
    """Names of the folders and files of a root that are not hidden, and not what an output has of clips. Raises
    DatasetError where it is no folder."""
    try:
        with place_failures(root):
            folders, others = place.top()
    except FileNotFoundError:
        raise refused(root, "it does not exist") from None
    except NotADirectoryError:
        raise refused(root, "it is a file, not a folder") from None
    own = written_beside(folders)
    shown = [name for name in folders if not name.startswith(".") and name not in own]
    return shown, [name for name in others if not name.startswith(".")]
