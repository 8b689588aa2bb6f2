"""The HTTP client of a server, and what is wrong when there is no connection, in words."""

import logging
import ssl
from collections.abc import Iterator
from socket import gaierror
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from caption_assets.errors import ModelError, first_line
from caption_assets.models.engines.openai.address import Address

if TYPE_CHECKING:
    import httpx2


def new_client(address: Address, connect_s: float) -> "httpx2.AsyncClient":
    """A client with a connection of its own for each request; the caller bounds how long one takes.

    On a connection that is used again, what a server has sent too much would be taken for the next request's answer,
    and a caption would stand under another window. Raises ModelError for a proxy or authorities in the environment that
    cannot be such.
    """
    import httpx2

    log = logging.getLogger("httpx2")
    if log.level == logging.NOTSET:
        log.setLevel(logging.WARNING)  # it would write the address into every run's log
    try:
        return httpx2.AsyncClient(
            headers={"Content-Type": "application/json", "Connection": "close", **address.headers},
            timeout=httpx2.Timeout(None, connect=connect_s),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0),
            follow_redirects=False,
        )
    except OSError as error:  # ssl.SSLError, too
        asked = "certificates of the environment, in SSL_CERT_FILE"
        fix = "let it name a file with the authorities' certificates (PEM), or unset it"
        raise ModelError(asked, f"they cannot be read ({error.strerror or type(error).__name__})", fix) from None
    except (ValueError, ImportError, httpx2.InvalidURL) as error:
        asked = f"proxy of the environment, for the server in {address.variable}"
        fix = "mend HTTPS_PROXY, HTTP_PROXY or ALL_PROXY, or except the server by NO_PROXY"
        raise ModelError(asked, address.redact(f"it cannot be used ({first_line(error)})"), fix) from None


def no_connection(error: Exception, address: Address) -> tuple[str, bool]:
    """Why there is no connection, in words, and whether that lasts: a certificate does not mend itself."""
    import httpx2

    way = by_way_of(address)
    if isinstance(error, httpx2.ProxyError):
        said = address.redact(str(error))
        return f"the proxy that the environment names lets nothing through ({said})", " 407" in f" {said}"
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            why = cause.verify_message
            return f"its certificate is not trusted{way} ({why}; SSL_CERT_FILE names further authorities)", True
        if isinstance(cause, ssl.SSLError) and "EOF" not in (cause.reason or "EOF"):
            reason = (cause.reason or "").replace("_", " ").lower()
            hint = "; does it want http:// rather than https://?" if "wrong version" in reason else ""
            return f"there is no TLS with it{way} ({reason}{hint})", True
        if isinstance(cause, gaierror):
            return f"there is no connection{way} (its name is not known)", False
        if isinstance(cause, ConnectionRefusedError):
            return f"there is no connection{way} (it is refused)", False
    if isinstance(error, httpx2.ConnectTimeout):
        return f"there is no connection{way} within the time for that", False
    return f"there is no connection{way} ({type(error).__name__})", False


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and what it came of, of groups each."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        for one in getattr(error, "exceptions", ()):
            yield from _causes(one)
        error = error.__cause__ or error.__context__


def by_way_of(address: Address) -> str:
    """The proxy that stands before the server, in words; "" where there is none."""
    parts = urlsplit(address.shown)
    proxies = getproxies()
    is_used = (proxies.get(parts.scheme) or proxies.get("all")) and not proxy_bypass(parts.hostname or "")
    return " by way of the proxy that the environment names" if is_used else ""
