"""A LeRobot dataset, v2 or v3: its videos, with what its tables say of their episodes."""

import json
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from caption_assets.dataset.base import as_json
from caption_assets.dataset.files import found
from caption_assets.dataset.listed import Found, ListedDataset
from caption_assets.dataset.places import Place, place_at, place_failures, refused
from caption_assets.dataset.sharding import HashRule
from caption_assets.errors import first_line
from caption_assets.records import Clip

_INFO, _VIDEOS, _EPISODES = "meta/info.json", "videos", "meta/episodes"


def is_lerobot(place: Place, folders: Container[str]) -> bool:
    """Whether a root with these folders is such a dataset."""
    if "meta" not in folders or _VIDEOS not in folders:
        return False
    with suppress(FileNotFoundError, NotADirectoryError):
        place.stamp(_INFO)
        return True
    return False


class LeRobotDataset(ListedDataset):
    """A `Dataset` of a LeRobot root's videos. A shard is a camera's chunk: the first two folders below `videos/`.

    v2 has a file for each episode, whose `camera`, `episode_index` and `tasks` are the clip's columns. In v3 a file has
    several episodes behind each other: its columns are `camera` and `episodes`, a list with the seconds of each.
    """

    wanted = "give a LeRobot dataset of version 2 or 3 that has videos"

    def __init__(self, root: str, rule: HashRule | None = None) -> None:
        super().__init__(root, rule)
        self._place = place_at(root)

    def path_of(self, clip: Clip) -> str | None:
        path = self._place.path_of(clip.location)
        return path if path and path.startswith(f"{_VIDEOS}/") else None

    def find(self) -> Iterator[Found]:
        with place_failures(self.root):
            is_v3 = self._version().startswith("v3")
            columns = self._columns_v3() if is_v3 else self._columns_v2()
            for file in self._place.files(_VIDEOS):
                path = PurePosixPath(file.path)
                chunk = path.parts[1:3]
                each = found(file, self._place, "/".join(chunk))
                camera = next((part for part in chunk if not part.startswith("chunk-")), "")
                key = "/".join(path.with_suffix("").parts[1:]) if is_v3 else path.name
                if each.clip is not None:
                    of_clip = {"camera": camera, **columns.get(key, {})}
                    each = replace(each, clip=replace(each.clip, columns=as_json(of_clip)))
                yield each

    def _version(self) -> str:
        try:
            info = self._read(_INFO)
        except (FileNotFoundError, NotADirectoryError):
            raise refused(self.root, f"it is no LeRobot dataset: it has no {_INFO}", self.wanted) from None
        try:
            return str(json.loads(info)["codebase_version"])
        except ValueError as error:
            raise refused(self.root, f"its {_INFO} is no JSON ({first_line(error)})", self.wanted) from None
        except (KeyError, TypeError):
            raise refused(self.root, f"its {_INFO} names no codebase_version", self.wanted) from None

    def _read(self, path: str) -> bytes:
        with self._place.open(path) as file:
            return file.read()

    def _columns_v2(self) -> Mapping[str, Mapping[str, Any]]:
        """By the file's name."""
        found: dict[str, Mapping[str, Any]] = {}
        with suppress(FileNotFoundError):
            for line in self._read(f"{_EPISODES}.jsonl").decode().splitlines():
                with suppress(ValueError, TypeError, KeyError):
                    episode = json.loads(line)
                    number = int(episode["episode_index"])
                    found[f"episode_{number:06d}.mp4"] = {"episode_index": number, "tasks": episode.get("tasks")}
        return found

    def _columns_v3(self) -> Mapping[str, Mapping[str, Any]]:
        """By the file's path below `videos/`, without its suffix."""
        import pyarrow.parquet as pq

        episodes: dict[str, list[dict[str, Any]]] = defaultdict(list)
        with suppress(FileNotFoundError):
            for file in self._place.files(_EPISODES):
                if not file.path.endswith(".parquet"):
                    continue
                with self._place.open(file.path) as opened:
                    table = pq.ParquetFile(opened)
                    names = [n for n in table.schema_arrow.names if n.startswith("videos/")]
                    rows = table.read(columns=["episode_index", "tasks", *names]).to_pylist()
                for row in rows:
                    for camera in {name.removeprefix("videos/").rpartition("/")[0] for name in names}:
                        of = {part: row.get(f"videos/{camera}/{part}") for part in ("chunk_index", "file_index")}
                        if None in of.values():
                            continue
                        key = f"{camera}/chunk-{of['chunk_index']:03d}/file-{of['file_index']:03d}"
                        episodes[key].append(
                            {
                                "episode_index": row["episode_index"],
                                "tasks": row["tasks"],
                                "start_s": row.get(f"videos/{camera}/from_timestamp"),
                                "end_s": row.get(f"videos/{camera}/to_timestamp"),
                            }
                        )
        return {key: {"episodes": of_file} for key, of_file in episodes.items()}
