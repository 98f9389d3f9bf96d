"""Names and addresses → the system's resolver, sockets and certificates; tests put others in their place."""

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

__all__ = ["NETWORK", "Network"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Network:
    """What a fetch needs of the outside world.

    Args:
        resolve: Gives all addresses of a name, as text. It may take its time.
        connect: Begins to connect a socket that does not block to an address and port; returns an `errno`.
        peer: The address that a socket is connected to, as text.
        context: Gives what certificates are checked by.
    """

    resolve: Callable[[str], list[str]]
    connect: Callable[[socket.socket, tuple[str, int]], int]
    peer: Callable[[socket.socket], str]
    context: Callable[[], ssl.SSLContext]


def _resolve(host: str) -> list[str]:
    # As bytes, so that no codec makes another name of it.
    found = socket.getaddrinfo(host.encode("ascii"), None, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def _connect(sock: socket.socket, address: tuple[str, int]) -> int:
    return sock.connect_ex(address)


def _peer(sock: socket.socket) -> str:
    return str(sock.getpeername()[0])


@cache  # reading the system's certificates takes tens of milliseconds
def _context() -> ssl.SSLContext:
    # Not `create_default_context`, which would write keys to where SSLKEYLOGFILE says.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # it verifies certificate and name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_default_certs()
    return context


NETWORK = Network(_resolve, _connect, _peer, _context)
