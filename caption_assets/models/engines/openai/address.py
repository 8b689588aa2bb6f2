"""Where a server is and what it asks for, by the environment, and what may be shown of that."""

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from caption_assets.errors import ModelError

# Environment variables with a server's address and its key. The text model's own server comes first where it has one.
_CAPTIONS = ("OPENAI_BASE_URL", "OPENAI_API_KEY")
_TEXT = ("OPENAI_TEXT_BASE_URL", "OPENAI_TEXT_API_KEY")
HOW_TO_START = "start one with `vllm serve <model>` (docs/engines.md has the whole command)"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is and what it asks for. `shown` is what may be shown of it: no path, no credentials."""

    variable: str
    shown: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)

    def redact(self, text: str) -> str:
        """`text` in one line, cut short, with nothing secret in it, whatever the server has put there."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        text = " ".join(text.split())
        return text if len(text) <= 500 else f"{text[:500]}…"


def find_address(*, text_model: bool) -> Address:
    """The server's address by the environment. A key is sent to the address of its own pair only. Raises ModelError."""
    pairs = (_TEXT, _CAPTIONS) if text_model else (_CAPTIONS,)
    variable, key_variable = next((pair for pair in pairs if os.environ.get(pair[0], "").strip()), pairs[-1])
    given, key = (os.environ.get(name, "").strip() for name in (variable, key_variable))
    asked = f"server of engine 'openai' in {variable}"
    if not given:
        wrong = " and ".join(pair[0] for pair in pairs) + " are not set" if text_model else "it is not set"
        raise ModelError(asked, wrong, f"set {variable}, such as http://localhost:8000/v1; {HOW_TO_START}")
    try:
        parts = urlsplit(given)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise ModelError(asked, "it is no address of an API", "give it like http://localhost:8000/v1")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    basic = base64.b64encode(f"{user}:{password}".encode()).decode()
    credentials = f"Bearer {key}" if key else f"Basic {basic}" if user else ""
    netloc = parts.netloc.rpartition("@")[2]
    secrets = (given, key, basic, parts.password or "", password, netloc)
    return Address(
        variable,
        f"{parts.scheme}://{netloc}",
        f"{parts.scheme}://{netloc}{parts.path.rstrip('/')}/",
        {"Authorization": credentials} if credentials else {},
        tuple(secret for secret in secrets if len(secret) > 3),
    )
