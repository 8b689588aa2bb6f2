"""What a server says of itself: its software, its models, and which of them is ours."""

import asyncio
import logging
import time
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from caption_assets.errors import ModelError
from caption_assets.models.engines.openai import server as asking
from caption_assets.models.engines.openai.address import HOW_TO_START, Address
from caption_assets.models.engines.openai.dialects import DIALECTS, UNKNOWN, Dialect, dialect_of, software_of
from caption_assets.models.engines.openai.replies import as_object, listed_models
from caption_assets.models.engines.openai.server import BUSY, RefusedError, Server, TroubleError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Served:
    """What a server says of itself and of the model: `software` such as "vllm", "" where it does not say.

    `root` is what the model was loaded from, "" where it does not say that. `context` is how many tokens the model
    takes, prompt and answer together, None where it does not say that. `others` are the models that it lists, if any,
    where this one is not among them, else None.
    """

    model: str
    root: str = ""
    software: str = ""
    version: str = ""
    context: int | None = None
    others: str | None = None

    @property
    def dialect(self) -> Dialect:
        return dialect_of(self.software)


async def look(server: Server, names: tuple[str, ...], wait_s: float) -> Served:
    """Finds the model that is served under the options' name, or else under one of `names`, or alone.

    A name that the options give is taken where the server lists no models, or others: its answer will tell whether it
    has it. Waits up to `wait_s` seconds for a server that is not there. Raises ModelError.
    """
    wanted = server.options.model
    cards, others = await _cards(server, wait_s) or [], None
    card = _named(cards, (wanted,) if wanted else names)
    if card is None and wanted:
        # Azure lists what can be deployed, routers take names with suffixes, and a list may have further pages.
        card, others = {"id": wanted}, _listed(cards, server.address)
    card = card or _only(cards, names, server.address)
    software = software_of(card.get("owned_by"))
    if dialect_of(software) is not UNKNOWN:
        version = await _version(server, dialect_of(software).version_path)
    elif version := await _version(server, DIALECTS["ollama"].version_path):
        software = "ollama"  # whose models have owners of their own
    return Served(card["id"], _root(card), software, version, _context(card), others)


def way_in(address: Address, status: int) -> str:
    """What to do where a server, or the proxy before it, does not let us in; "" for a status of another kind."""
    if status == 407:
        return "put the proxy's user and password into its address in the environment, or except the server by NO_PROXY"
    key = f"{address.key_variable} to a key that the server accepts, or its header in {address.headers_variable}"
    return f"set {key}" if status in (401, 403) else ""


async def _cards(server: Server, wait_s: float) -> list[dict[str, Any]] | None:
    """What the server lists; None where that is no list and the options name a model. Raises ModelError."""
    address, wanted = server.address, server.options.model
    asked = f"server of engine 'openai' at {address.shown}, from {address.variable}"
    deadline, pause = time.monotonic() + wait_s, asking.FIRST_PAUSE_S
    while True:
        asked_to_wait, status = 0.0, 0
        try:
            async with asyncio.timeout(asking.CONNECT_S):
                status, headers, data = await server.exchange("GET", "models")
            wrong = server.said(status, headers, data)
            if status not in BUSY and (status < 500 or status == 501):
                break
        except TimeoutError:
            wrong = f"it does not answer within {asking.CONNECT_S:g} s"
        except TroubleError as trouble:
            wrong, asked_to_wait = str(trouble), trouble.wait_s
        except RefusedError as refusal:
            wrong = str(refusal)
        if time.monotonic() + max(pause, asked_to_wait) > deadline:
            if wanted and status:
                break
            raise ModelError(asked, wrong, f"check {address.variable}; {HOW_TO_START}")
        await asyncio.sleep(pause)
        pause = min(2 * pause, asking.LONGEST_PAUSE_S)
    cards = listed_models(data) if status == 200 else None
    if cards is not None or wanted:
        return cards
    if fix := way_in(address, status):
        raise ModelError(asked, f"it does not let us in ({wrong})", fix)
    fix = f"give {address.variable} the API's address, which mostly ends in /v1"
    fix += "; if the server has no list of models, name one as server_model"
    raise ModelError(asked, f"it lists no models ({wrong})", fix)


def _named(cards: list[dict[str, Any]], names: tuple[str, ...]) -> dict[str, Any] | None:
    """The first card that has one of the names, written just so or nearly."""
    for alike in (str, _plain):
        for name in names:
            for card in cards:
                if alike(name) in (alike(card["id"]), alike(_root(card) or card["id"])):
                    return card
    return None


def _only(cards: list[dict[str, Any]], names: tuple[str, ...], address: Address) -> dict[str, Any]:
    """The only card, which may have any name, but not another origin: "root" is a folder or a Hugging Face id."""
    origin = PurePath(_root(cards[0])).name if len(cards) == 1 else None
    if origin == "" or origin in [PurePath(name).name for name in names]:
        return cards[0]
    raise ModelError(
        f"model {names[0]!r} at the server in {address.variable}",
        f"it does not serve this model, but {_listed(cards, address) or 'none'}",
        "choose one of these as server_model, if it is the one that you mean",
    )


def _listed(cards: list[dict[str, Any]], address: Address) -> str:
    return address.redact(", ".join(card["id"] for card in cards))


def _root(card: dict[str, Any]) -> str:
    """What a model was loaded from, "" where its server does not say."""
    root = card.get("root")
    return root.encode(errors="replace").decode() if isinstance(root, str) else ""


def _context(card: dict[str, Any]) -> int | None:
    """By vLLM's, SGLang's or LMDeploy's field, where it holds a length."""
    length = card.get("max_model_len")
    return length if type(length) is int and length > 0 else None


def _plain(name: str) -> str:
    """A model's name without what some servers put around it: Gemini's "models/…", Ollama's "…:latest"."""
    return name.removeprefix("models/").removesuffix(":latest").lower()


async def _version(server: Server, path: str) -> str:
    """What the server states beside its API, "" where it does not."""
    version = as_object(await server.beside(path)).get("version") if path else None
    return server.address.redact(version)[:40] if isinstance(version, str) else ""
