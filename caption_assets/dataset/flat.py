"""A root folder or URL all of whose clips lie together, however deep: one shard, or as many as asked for."""

from collections.abc import Iterator

from caption_assets.dataset.files import found_with_sidecars
from caption_assets.dataset.listed import Found, ListedDataset
from caption_assets.dataset.places import place_at, place_failures, refused
from caption_assets.dataset.sharding import HashRule
from caption_assets.records import Clip


class FlatDataset(ListedDataset):
    """A `Dataset` whose clips lie anywhere below a local path or an fsspec URL. Without a rule it is one shard, named
    after the root."""

    wanted = "put clips there, or give another folder"

    def __init__(self, root: str, rule: HashRule | None = None) -> None:
        super().__init__(root, rule)
        self._place = place_at(root)

    def path_of(self, clip: Clip) -> str | None:
        return self._place.path_of(clip.location)

    def find(self) -> Iterator[Found]:
        shard = self._place.name or "root"
        try:
            with place_failures(self.root):
                yield from found_with_sidecars(self._place.files(""), self._place, shard)
        except FileNotFoundError:
            raise refused(self.root, "it does not exist") from None
        except NotADirectoryError:
            raise refused(self.root, "it is a file, not a folder") from None
