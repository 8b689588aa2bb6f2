"""An output root of NeMo Curator or cosmos-curate: its clips, without what else it holds."""

from collections.abc import Container, Iterator

from caption_assets.dataset.files import found
from caption_assets.dataset.listed import Found, ListedDataset
from caption_assets.dataset.places import place_at, place_failures, refused
from caption_assets.dataset.sharding import HashRule
from caption_assets.records import Clip

CLIPS = "clips"
_BESIDE = ("metas", "processed_videos", "processed_clip_chunks")


def is_curator(folders: Container[str]) -> bool:
    """Whether a root with these folders is such an output root."""
    return CLIPS in folders and any(name in folders for name in _BESIDE)


class CuratorDataset(ListedDataset):
    """A `Dataset` of the clips that a splitter has put into `clips/` of its output root.

    They are captioned in place where that root is the output root, too: its documents are added to. What its filters
    rejected is no part of it. Without a rule it is one shard, `clips`.
    """

    wanted = "let the splitter write its clips first"

    def __init__(self, root: str, rule: HashRule | None = None) -> None:
        super().__init__(root, rule)
        self._place = place_at(root)

    def path_of(self, clip: Clip) -> str | None:
        path = self._place.path_of(clip.location)
        return path if path and path.startswith(f"{CLIPS}/") else None

    def find(self) -> Iterator[Found]:
        try:
            with place_failures(self.root):
                for file in self._place.files(CLIPS):
                    yield found(file, self._place, CLIPS)
        except (FileNotFoundError, NotADirectoryError):
            raise refused(self.root, f"it has no folder {CLIPS!r}", "give the splitter's output root") from None
