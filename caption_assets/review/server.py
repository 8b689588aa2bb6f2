"""The review server: shows pages of what there is now, and keeps what people say of it.

What it answers with is made by `reviews` and `blind`; what it may answer at all is `access`'s.
"""

import logging
import socket
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import parse_qs

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from caption_assets.errors import CaptionAssetsError, ConfigError, first_line
from caption_assets.review import paths
from caption_assets.review.access import COOKIE, LOGIN, Guard
from caption_assets.review.blind import ComparisonAsked, Comparisons, PairsAsked
from caption_assets.review.html import page
from caption_assets.review.reviews import Reviews, VerdictAsked

COMPARE = "/compare/"
log = logging.getLogger(__name__)
_MOST_BODY = 1 << 20
_LOGGED_IN = 30 * 24 * 3600  # seconds
Asked = TypeVar("Asked", bound=BaseModel)


def application(
    reviews: Reviews, token: str | None = None, comparisons: Comparisons | None = None, host: str = ""
) -> ASGIApp:
    """The server's application, which listens on `host`. With a `token`, only those who have given it are answered;
    with `comparisons`, it asks for these first."""
    guard = Guard(token, host)

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
        except ValueError as error:
            raise HTTPException(422, f"This caption is JSON, and what it was made is not taken: {error}.") from None
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
        return RedirectResponse(f"/{paths.INDEX}" if comparisons is None else COMPARE)

    routes = [
        Route("/", home),
        Route("/api/verdicts", verdict, methods=["POST"]),
        *([Route(LOGIN, login, methods=["GET", "POST"])] if token is not None else []),
        *(_comparing(comparisons) if comparisons is not None else []),
        Route("/{rel:path}", file),
    ]
    handlers = {CaptionAssetsError: _failed}
    return guard.around(Starlette(routes=routes, exception_handlers=handlers))


def _comparing(comparisons: Comparisons) -> list[Route]:
    async def shown(_: Request) -> Response:
        return HTMLResponse(page("compare", {}))

    async def pairs(request: Request) -> Response:
        try:
            wanted = PairsAsked.model_validate(dict(request.query_params))
        except ValidationError as error:
            raise HTTPException(400, f"{first_line(error)}\n") from None
        return JSONResponse(await run_in_threadpool(comparisons.pairs, wanted))

    async def answer(request: Request) -> Response:
        asked = await _asked(request, ComparisonAsked)
        try:
            return JSONResponse(await run_in_threadpool(comparisons.answer, asked))
        except LookupError:
            raise HTTPException(409, "These texts are there no more: the server has other ones now.") from None

    async def result(_: Request) -> Response:
        return JSONResponse(await run_in_threadpool(comparisons.result))

    return [
        Route(COMPARE, shown),
        Route("/api/pairs", pairs),
        Route("/api/comparisons", answer, methods=["POST"]),
        Route("/api/comparison", result),
    ]


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
