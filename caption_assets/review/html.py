"""Pages as single HTML files: one template, with style, script and data put into it.

Every text from elsewhere reaches a page as data, which its script shows as text only. The page's policy allows the
scripts and styles that stand here, and pictures; nothing is loaded from elsewhere.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

Kind = Literal["shard", "index", "compare", "login"]


def page(kind: Kind, data: Mapping[str, Any]) -> bytes:
    """The page of a kind that shows `data`, which is what JSON has, or dataclasses of it."""
    script, style = _source("common.js") + _source(f"{kind}.js"), _source("page.css")
    made = {"POLICY": _policy(script, style), "STYLE": style, "SCRIPT": script, "DATA": _embedded(data)}
    before, *rest = _source("page.html").split("{{")
    parts = [before]
    for part in rest:  # not by `replace`, which would find marks in what was put in
        name, _, after = part.partition("}}")
        parts += [made[name], after]
    return "".join(parts).encode("utf-8")


def _embedded(data: Mapping[str, Any]) -> str:
    """JSON that can stand in a script element: nothing in it ends that, or begins a comment."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, default=_plain, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {name: getattr(value, name) for name in value.__dataclass_fields__}
    raise TypeError(f"{type(value).__name__} is nothing that a page can be given")


def _policy(script: str, style: str) -> str:
    """Content Security Policy of the page. `file:` is for pages that are opened from a folder."""
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src '{_hash(script)}'",
            f"style-src '{_hash(style)}'",
            "img-src 'self' file: data:",
            "connect-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
        ]
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@cache
def _source(name: str) -> str:
    return (files("caption_assets.review") / "pages" / name).read_text("utf-8")
