"""The text of a URL → the bytes that lie there: asked for, followed, and bounded in every direction."""

import http.client
import io
import os
import ssl
from collections.abc import Callable

from glmflash.errors import FetchError
from glmflash.media.fetch.address import Address, parse
from glmflash.media.fetch.dial import Line, dial
from glmflash.media.fetch.network import NETWORK, Network
from glmflash.media.fetch.patience import Patience
from glmflash.media.fetch.policy import UrlPolicy, check
from glmflash.media.fetch.resolve import addresses

__all__ = ["fetch"]

_REDIRECTS = 3  # are followed
_OVERHEAD = 64 * 2**10  # bytes that a reply may have beside its body: headers, sizes of chunks, trailers
_CHUNK = 2**16
_MOVED = (301, 302, 303, 307, 308)


def __dir__() -> list[str]:
    return __all__


def fetch(
    url: str,
    policy: UrlPolicy,
    *,
    max_bytes: int,
    give_up: Callable[[], bool] | None = None,
    network: Network | None = None,
) -> bytes:
    """Ask for what lies at a URL. Nothing is sent but the URL's own path: no cookies, no credentials.

    Args:
        url: Its text, which no message repeats; only the host is named.
        policy: Which hosts may be asked, and for how long.
        max_bytes: Most bytes of what lies there.
        give_up: Asked again and again; if it says yes, the fetch ends at once.
        network: The system's, unless a test has its own.

    Raises:
        FetchError: If the URL, or one that it redirects to, is refused; or nothing usable comes in time.
    """
    network = NETWORK if network is None else network
    patience = Patience.of(policy.timeout, give_up)
    address = parse(url)
    for _ in range(_REDIRECTS + 1):
        check(address, policy)
        found = _ask(address, network, patience, max_bytes)
        if isinstance(found, bytes):
            return found
        address = found
    raise FetchError(f"{address.host}: is redirected more than {_REDIRECTS} times")


def _ask(address: Address, network: Network, patience: Patience, max_bytes: int) -> bytes | Address:
    """The body, or where it has moved to."""
    try:
        line = dial(address, addresses(address, network, patience), network, patience, allowance=_OVERHEAD)
        with line:
            return _reply(address, line, max_bytes)
    except FetchError as error:
        problem = str(error)
    except Exception as error:  # noqa: BLE001 - whatever a server can bring the libraries to raise
        problem = _explain(error)
    # Raised outside the handlers: the cause's text can hold what came, and its frames the body.
    raise FetchError(f"{address.host}: {problem}")


def _reply(address: Address, line: Line, max_bytes: int) -> bytes | Address:
    # The parser lets through nothing that could end a line here.
    line.send(
        f"GET {address.target} HTTP/1.1\r\nHost: {address.authority}\r\nUser-Agent: glmflash\r\n"
        "Accept: image/*, */*;q=0.5\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n".encode("ascii")
    )
    # It reads from what its argument's `makefile` gives, and from nothing else.
    with http.client.HTTPResponse(line, method="GET") as reply:  # type: ignore[arg-type]
        reply.begin()
        if reply.status in _MOVED:
            return _follow(address, reply.getheader("Location", ""))
        if reply.status != 200:
            raise FetchError(f"answers with status {reply.status}; allowed: 200")
        for name, allowed in (("Content-Encoding", "identity"), ("Transfer-Encoding", "chunked")):
            if (reply.getheader(name) or allowed).strip().lower() != allowed:
                raise FetchError(f"answers with another {name} than was asked for; allowed: {allowed}")
        line.allow(max_bytes)
        return _body(reply, max_bytes)


def _follow(address: Address, location: str) -> Address:
    """Where a redirect leads; it is checked like any other URL."""
    if location.startswith("//"):
        location = f"{address.scheme}:{location}"
    elif location.startswith("/"):
        location = f"{address.scheme}://{address.authority}{location}"
    elif "://" not in location:
        raise FetchError("is redirected to a place that is neither a URL nor begins with '/'")
    try:
        there = parse(location)
    except FetchError as error:
        problem = str(error)
    else:
        if (address.scheme, there.scheme) != ("https", "http"):
            return there
        problem = "it leads from https:// to http://"
    raise FetchError(f"its redirect is refused: {problem}")


def _body(reply: http.client.HTTPResponse, max_bytes: int) -> bytes:
    too_long = FetchError(f"has more than {max_bytes} bytes, which is InputPolicy.max_bytes")
    if (reply.length or 0) > max_bytes:
        raise too_long
    body = io.BytesIO()
    while piece := reply.read(min(_CHUNK, max_bytes + 1 - body.tell())):
        body.write(piece)
        if body.tell() > max_bytes:
            raise too_long
    if reply.length:
        raise FetchError("ends before all of what it announced has come")
    return body.getvalue()  # without a copy


def _explain(error: Exception) -> str:
    """Say what a library's exception means, in our words: its own may hold what the server sent."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"has no certificate for this name that is trusted (verification code {error.verify_code})"
    if isinstance(error, ssl.SSLError):
        return "does not speak TLS as it should"
    if isinstance(error, OSError) and not isinstance(error, http.client.HTTPException) and error.errno:
        # of getaddrinfo it is a number of its own
        gone = type(error).__name__ == "gaierror"
        return "is not a host that can be looked up" if gone else f"fails: {os.strerror(error.errno)}"
    if isinstance(error, MemoryError):
        return "does not fit into memory"
    return f"does not answer as a web server does ({type(error).__name__})"
