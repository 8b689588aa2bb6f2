"""The review server: shows pages of what there is now, and keeps what people say of it.

Starlette's application, and what its answers are made from (`Reviews`). What it may answer at all is `access`'s.
"""

import logging
import re
import socket
from collections.abc import Callable, Mapping
from typing import Annotated, TypeVar
from urllib.parse import parse_qs

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError, model_validator
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from caption_assets.errors import CaptionAssetsError, ConfigError, first_line
from caption_assets.records import Verdict
from caption_assets.review import access, paths
from caption_assets.review.access import COOKIE, LOGIN, Guard
from caption_assets.review.html import page
from caption_assets.review.journal import Journal
from caption_assets.review.render import index_page, known_shards, read_summaries, read_view, shard_page
from caption_assets.review.views import ShardView, TextView
from caption_assets.store.rows import VerdictRow
from caption_assets.store.store import Store
from caption_assets.store.tables import SHARD_REVIEW
from caption_assets.store.verdicts import TextId

log = logging.getLogger(__name__)
_MOST_BODY = 1 << 20
_LOGGED_IN = 30 * 24 * 3600  # seconds
_LINKED: Mapping[re.Pattern[str], str] = {
    re.compile(r"previews/[^/]+/[^/]+\.webp"): "image/webp",
    re.compile(r"metas/v0/[^/]+\.json"): "application/json",
}
"""The files below the output root that pages link to, with their types."""

Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")
]
Asked = TypeVar("Asked", bound=BaseModel)


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
    reviewer: Name

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

    `changed` is told of each shard that something was said of.
    """

    def __init__(self, store: Store, changed: Callable[[str], None]) -> None:
        self._store, self._changed = store, changed
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
        """Keeps a verdict. Raises LookupError where there is no such text (any more)."""
        text = self._text(asked)

        def row(now: str) -> VerdictRow:
            return VerdictRow(
                clip_id=asked.clip,
                start_frame=asked.start_frame,
                end_frame=asked.end_frame,
                key=asked.key,
                text_hash=asked.text_hash,
                text=text.text or "",
                verdict=asked.verdict,
                edited=asked.edited,
                reviewer=asked.reviewer,
                at=now,
            )

        said = self._journal.add(asked.shard, row)
        self._changed(asked.shard)
        return said

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


def application(reviews: Reviews, token: str | None = None) -> ASGIApp:
    """The server's application. With a `token`, only those who have given it are answered."""
    guard = Guard(token)

    async def file(request: Request) -> Response:
        rel = request.path_params["rel"]
        if rel.startswith(f"{paths.FOLDER}/"):
            html = await run_in_threadpool(reviews.page, rel)
            if html is not None:
                return HTMLResponse(html)
        elif (found := await run_in_threadpool(reviews.file, rel)) is not None:
            return Response(found[0], media_type=found[1], headers={"Cache-Control": "private, max-age=60"})
        raise HTTPException(404, "There is no such page.\n")

    async def verdict(request: Request) -> Response:
        asked = await _asked(request, VerdictAsked)
        try:
            row = await run_in_threadpool(reviews.judge, asked)
        except LookupError:
            raise HTTPException(409, "This text is there no more: it has changed since the page was loaded.") from None
        return JSONResponse({"at": row.at})

    async def login(request: Request) -> Response:
        given = parse_qs((await _body(request)).decode("utf-8", "replace")) if request.method == "POST" else {}
        if guard.is_token(given.get("token", [""])[0]):
            answer = RedirectResponse("/", 303)
            secure = request.url.scheme == "https"
            answer.set_cookie(
                COOKIE, guard.session(), max_age=_LOGGED_IN, httponly=True, samesite="strict", secure=secure
            )
            return answer
        return HTMLResponse(page("login", {"refused": bool(given)}), 403 if given else 200)

    async def home(_: Request) -> Response:
        return RedirectResponse(f"/{paths.INDEX}")

    routes = [
        Route("/", home),
        Route("/api/verdicts", verdict, methods=["POST"]),
        *([Route(LOGIN, login, methods=["GET", "POST"])] if token is not None else []),
        Route("/{rel:path}", file),
    ]
    handlers = {CaptionAssetsError: _failed}
    return guard.around(Starlette(routes=routes, exception_handlers=handlers))


async def _asked(request: Request, what: type[Asked]) -> Asked:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "This takes JSON.\n")
    try:
        return what.model_validate_json(await _body(request))
    except ValidationError as error:
        raise HTTPException(400, f"{first_line(error)}\n") from None


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BODY:
            raise HTTPException(413, "This is too large.\n")
    return body


async def _failed(_: Request, error: Exception) -> Response:
    log.error("%s", error)
    return PlainTextResponse(f"{error}\n", 503)


def serve(app: ASGIApp, host: str, port: int, listening: Callable[[str], None]) -> None:
    """Answers until the process is told to stop; `listening` is told the address. Raises ConfigError where the address
    is taken or none of this machine's."""
    import uvicorn

    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"listen on {host}, port {port}", reason, "choose another --host or --port") from error
    with listener:
        shown = f"[{host}]" if ":" in host else host
        listening(f"http://{shown}:{listener.getsockname()[1]}/")
        config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, lifespan="off")
        uvicorn.Server(config).run(sockets=[listener])
