"""What the server shows of an output root, and verdicts on its texts: the work behind its answers."""

import re
from collections.abc import Callable, Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, model_validator

from caption_assets.records import Verdict
from caption_assets.review import access, paths
from caption_assets.review.journal import Journal, Reviewer
from caption_assets.review.render import index_page, known_shards, read_summaries, read_view, shard_page
from caption_assets.review.views import ShardView, TextView
from caption_assets.store.rows import VerdictRow, window_key
from caption_assets.store.store import Store
from caption_assets.store.tables import SHARD_REVIEW, WINDOW_CAPTIONS
from caption_assets.store.verdicts import TextId

_LINKED: Mapping[re.Pattern[str], str] = {
    re.compile(r"previews/[^/]+/[^/]+\.webp"): "image/webp",
    re.compile(r"metas/v0/[^/]+\.json"): "application/json",
}
"""The files below the output root that pages link to, with their types."""


class VerdictAsked(BaseModel):
    """A verdict as a page sends it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shard: str
    clip: str
    start_frame: int
    end_frame: int
    key: str
    text_hash: str
    verdict: Verdict
    edited: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100_000)] | None = None
    reviewer: Reviewer

    @model_validator(mode="after")
    def _edited_or_not(self) -> "VerdictAsked":
        if (self.verdict == "edited") != (self.edited is not None):
            raise ValueError("an edited text comes with the verdict 'edited', and no other")
        return self

    @property
    def text(self) -> TextId:
        return self.clip, self.start_frame, self.end_frame, self.key, self.text_hash


class Reviews:
    """What people see of an output root, and what they say of it. For any thread.

    `changed` is told of each shard that something was said of. `as_json` makes a text that a person has edited the JSON
    that is kept, by the schema of the caption; it raises ValueError where that is none.
    """

    def __init__(self, store: Store, changed: Callable[[str], None], as_json: Callable[[str, str | None], str]) -> None:
        self._store, self._changed, self._as_json = store, changed, as_json
        self._journal: Journal[VerdictRow] = Journal(store, SHARD_REVIEW)
        # Of the shards whose pages were asked for, the texts that these showed.
        self._texts: dict[str, Mapping[TextId, TextView]] = {}

    def page(self, rel: str) -> bytes | None:
        """The index, or the page of a shard, as it would be written now to this path; None for any other."""
        shards = known_shards(self._store)
        if rel == paths.INDEX:
            known = {of_shard["shard"]: of_shard for of_shard in read_summaries(self._store)}
            return index_page(self._store.url(), [known.get(shard) or {"shard": shard, "keys": {}} for shard in shards])
        shard = next((shard for shard in shards if paths.page(shard) == rel), None)
        return None if shard is None else shard_page(self._view(shard), live=True)

    def file(self, rel: str) -> tuple[bytes, str] | None:
        """A file that pages link to, with its type; None for any other."""
        kind = next((kind for name, kind in _LINKED.items() if name.fullmatch(rel)), None)
        if kind is None or not access.is_inside(self._store, rel):
            return None
        data = self._store.read_bytes(rel)
        return None if data is None else (data, kind)

    def judge(self, asked: VerdictAsked) -> VerdictRow:
        """Keeps a verdict. Raises LookupError where there is no such text (any more), ValueError where a caption that
        is JSON has been made something else."""
        text, edited = self._text(asked), self._edited(asked)

        def row(now: str) -> VerdictRow:
            return VerdictRow(
                clip_id=asked.clip,
                start_frame=asked.start_frame,
                end_frame=asked.end_frame,
                key=asked.key,
                text_hash=asked.text_hash,
                text=text.text or "",
                verdict=asked.verdict,
                edited=edited,
                reviewer=asked.reviewer,
                at=now,
            )

        said = self._journal.add(asked.shard, row)
        self._changed(asked.shard)
        return said

    def _edited(self, asked: VerdictAsked) -> str | None:
        if asked.edited is None or "/" in asked.key:
            return asked.edited
        for row in self._store.read_rows(WINDOW_CAPTIONS, asked.shard, asked.key):
            if window_key(row) == asked.text[:3] and row.is_json:
                return self._as_json(asked.edited, row.json_schema)
        return asked.edited

    def _text(self, asked: VerdictAsked) -> TextView:
        if asked.text not in self._texts.get(asked.shard, {}):
            if asked.shard not in known_shards(self._store):
                raise LookupError
            self._view(asked.shard)
        return self._texts[asked.shard][asked.text]

    def _view(self, shard: str) -> ShardView:
        view = read_view(self._store, shard)
        self._texts[shard] = view.texts()
        return view
