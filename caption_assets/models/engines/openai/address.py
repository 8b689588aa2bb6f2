"""Where servers are and what they ask for, by the environment, and what may be shown of that."""

import base64
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from caption_assets.errors import ModelError


class _Variables(NamedTuple):
    """Environment variables of a model's servers: their addresses, their key, and further headers for them."""

    address: str
    key: str
    headers: str


# The text model's own server comes first where it has one.
_CAPTIONS = _Variables("OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_HEADERS")
_TEXT = _Variables("OPENAI_TEXT_BASE_URL", "OPENAI_TEXT_API_KEY", "OPENAI_TEXT_HEADERS")
HOW_TO_START = "start one with `vllm serve <model>` (docs/engines.md has the whole command)"
# A query may have commas: one that ends an address has another behind it, a blank or nothing.
_SEPARATOR = re.compile(r"[\s,]*\s[\s,]*|,+(?=\w+://|$)")
_COMMENT = re.compile(r"(^|\s)#.*")
_EXAMPLE = "http://localhost:8000/v1"
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


@dataclass(frozen=True, slots=True, eq=False)
class Address:
    """Where a server is and what it asks for. `shown` is what may be shown of it: no path, no credentials.

    `base` is the address of the API and ends in a slash; `query` goes with every request to it. `key_variable` is the
    environment variable that holds the key, `headers_variable` that of further headers.
    """

    variable: str
    key_variable: str
    headers_variable: str
    shown: str
    base: str = field(repr=False)
    query: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)

    def url(self, path: str) -> str:
        """Of a call of the API, such as "models"."""
        return self.base + path + (f"?{self.query}" if self.query else "")

    def beside(self, path: str) -> str | None:
        """Of what the server has at its root, beside /v1; None where the API is elsewhere."""
        return self.base.removesuffix("v1/") + path if self.base.endswith("/v1/") else None

    def redact(self, text: str) -> str:
        """`text` in one line, cut short, with nothing secret in it, whatever the server has put there."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        text = " ".join(text.encode(errors="replace").decode().split())
        return text if len(text) <= 500 else f"{text[:500]}…"


def find_addresses(*, text_model: bool) -> tuple[Address, ...]:
    """The servers' addresses by the environment, which are parted by blanks or commas, there or in the lines of a file.

    One that stands there twice is one. Key and headers go to the addresses that they stand beside, and to no other.
    Raises ModelError.
    """
    all_of_them = (_TEXT, _CAPTIONS) if text_model else (_CAPTIONS,)
    names = next((names for names in all_of_them if _parts(os.environ.get(names.address, ""))), all_of_them[-1])
    given, key = (os.environ.get(name, "").strip() for name in (names.address, names.key))
    if not _parts(given):
        asked = f"server of engine 'openai' in {names.address}"
        wrong = " and ".join(n.address for n in all_of_them) + " are not set" if text_model else "it is not set"
        raise ModelError(asked, wrong, f"set {names.address}, such as {_EXAMPLE}; {HOW_TO_START}")
    if not _sendable(key):
        raise ModelError(
            f"key in {names.key}", "it has characters that no HTTP header can carry", "set it again, as it was issued"
        )
    headers = _headers(names.headers)
    found = [_address(names, address, place, key, headers) for place, address in _listed(names.address, given)]
    return tuple({address.url(""): address for address in found}.values())


def _listed(variable: str, given: str) -> list[tuple[str, str]]:
    """The addresses as they are written, each with where that is. Raises ModelError for a file without any."""
    file = os.path.expanduser(given)
    if "://" in given or not os.path.exists(file):
        parts = _parts(given)
        return [(f"{variable}{f', address {k}' * (len(parts) > 1)}", each) for k, each in enumerate(parts, 1)]
    asked = f"file of servers in {variable}"
    try:
        lines = Path(file).read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(asked, f"it cannot be read ({type(error).__name__})", "name another one") from None
    if found := [
        (f"{variable}, line {number} of that file", address)
        for number, line in enumerate(lines, 1)
        for address in _parts(_COMMENT.sub("", line))
    ]:
        return found
    raise ModelError(asked, "it names none", f"write each on a line of its own, like {_EXAMPLE}")


def _parts(text: str) -> list[str]:
    return [part for part in _SEPARATOR.split(text.strip(" \t\r\n,")) if part]


def _address(names: _Variables, given: str, place: str, key: str, headers: Mapping[str, str]) -> Address:
    """`place` is where it stands. Raises ModelError for what is no address."""
    try:
        parts = urlsplit(given)
        usable = bool(parts.hostname) and parts.port != 0 and not re.search(r"[\\,;]", f"{parts.hostname}{parts.path}")
    except ValueError:
        usable = False
    if not usable or parts.scheme not in ("http", "https") or parts.fragment:
        wrong = "it is no address of an API"
        if given[0] in "/~.":
            wrong = "there is no such file, or it does not stand alone"
        elif "," in given:
            wrong = "it is no address of an API, and what follows its comma does not begin like one, with http://"
        fix = f"give it like {_EXAMPLE}, several with commas between them, or the path of one file that has them"
        raise ModelError(f"server of engine 'openai' in {place}", wrong, fix)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    basic = base64.b64encode(f"{user}:{password}".encode()).decode()
    credentials = f"Bearer {key}" if key else f"Basic {basic}" if user else ""
    if credentials and "authorization" not in map(str.lower, headers):
        headers = {"Authorization": credentials, **headers}
    netloc = parts.netloc.rpartition("@")[2]
    queried = [value for _, value in parse_qsl(parts.query)]
    secrets = {given, key, basic, parts.password or "", password, netloc, parts.query, *queried, *headers.values()}
    return Address(
        variable=names.address,
        key_variable=names.key,
        headers_variable=names.headers,
        shown=f"{parts.scheme}://{netloc}",
        base=f"{parts.scheme}://{netloc}{parts.path.rstrip('/')}/",
        query=parts.query,
        headers=headers,
        secrets=tuple(sorted((secret for secret in secrets if len(secret) > 3), key=len, reverse=True)),
    )


def _headers(variable: str) -> dict[str, str]:
    """Further headers, which the environment holds as JSON. Raises ModelError, which says nothing of their values."""
    text = os.environ.get(variable, "").strip()
    if not text:
        return {}
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        fix = 'write it as {"api-key": "…"}'
        raise ModelError(f"headers in {variable}", "they are no JSON of names with texts", fix)
    for name, value in given.items():
        if not _HEADER_NAME.fullmatch(name) or not _sendable(value):
            wrong = "its name or its value has characters that HTTP cannot carry"
            raise ModelError(f"header {name!r} in {variable}", wrong, "write it as the server's documentation does")
    return given


def _sendable(value: str) -> bool:
    return value.isascii() and value.isprintable()
