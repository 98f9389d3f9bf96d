"""Checked addresses → a connection to exactly one of them, which reads no more and no longer than allowed."""

import errno
import io
import os
import selectors
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import TypeVar

from glmflash.errors import FetchError
from glmflash.media.fetch.address import Address, Ip
from glmflash.media.fetch.network import Network
from glmflash.media.fetch.patience import Patience

__all__ = ["Line", "dial"]

T = TypeVar("T")

_BEGUN = {0, errno.EINPROGRESS, errno.EWOULDBLOCK, getattr(errno, "WSAEWOULDBLOCK", errno.EWOULDBLOCK)}


def __dir__() -> list[str]:
    return __all__


class Line(io.RawIOBase):
    """A connection that counts what it reads: headers, chunks and trailers as well as the body.

    Args:
        sock: Connected, and not blocking.
        patience: Limits all waiting.
        allowance: Most bytes that are read, until `allow` adds to them.
    """

    def __init__(self, sock: socket.socket, patience: Patience, *, allowance: int) -> None:
        self._socket = sock
        self._patience = patience
        self._left = allowance

    def allow(self, more: int) -> None:
        """Let it read so many bytes more."""
        self._left += more

    def readable(self) -> bool:
        """As files say."""
        return True

    # The base class takes any buffer; what calls this is `io.BufferedReader`.
    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read what is there, and wait until something is.

        Raises:
            FetchError: If it is more than is allowed, takes too long, or nobody waits any more.
        """
        if self._left <= 0:
            raise FetchError("sends more than a picture of the allowed size needs")
        view = memoryview(buffer)[: self._left]
        count = self._go(lambda: self._socket.recv_into(view))
        self._left -= count
        return count

    def send(self, data: bytes) -> None:
        """Send all of it. Raises as `readinto` does."""
        while data:
            count = self._go(lambda data=data: self._socket.send(data))  # type: ignore[misc]
            data = data[count:]

    def secure(self, context: ssl.SSLContext, host: str) -> None:
        """Speak TLS from now on, with whoever has a certificate for this name.

        Raises:
            ssl.SSLError: If there is none, or it is not trusted.
        """
        secured = context.wrap_socket(self._socket, server_hostname=host, do_handshake_on_connect=False)
        self._socket = secured
        self._go(secured.do_handshake)

    def makefile(self, mode: str) -> io.BufferedReader:
        """What `http.client` reads from."""
        assert mode == "rb"
        return io.BufferedReader(self)

    def close(self) -> None:
        """Let go of the connection."""
        self._socket.close()
        super().close()

    def _go(self, step: Callable[[], T]) -> T:
        while True:
            self._patience.left()  # also of a server that never lets anybody wait
            try:
                return step()
            except (BlockingIOError, ssl.SSLWantReadError):
                event = selectors.EVENT_READ
            except ssl.SSLWantWriteError:
                event = selectors.EVENT_WRITE
            _wait(self._socket, event, self._patience)


def dial(
    address: Address, ips: Sequence[Ip], network: Network, patience: Patience, *, allowance: int
) -> Line:
    """Connect to the first of the addresses that answers; each gets its share of the time.

    Args:
        address: What is asked for; with https, whoever answers must have a certificate for its host.
        ips: Its host's addresses, checked.
        network: Connects.
        patience: Limits all waiting, also that of the line.
        allowance: Most bytes that the line reads.

    Raises:
        FetchError: If none answers in time.
        OSError: If none answers at all, or what answers fails.
    """
    failure: OSError = ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    for untried, ip in zip(range(len(ips), 0, -1), ips, strict=True):
        until = time.monotonic() + patience.left() / untried
        try:
            sock = _connect(ip, address.port, network, patience, until)
        except OSError as error:
            failure = error
            continue
        line = Line(sock, patience, allowance=allowance)
        try:
            if address.scheme == "https":
                line.secure(network.context(), address.host)
        except BaseException:
            line.close()
            raise
        return line
    raise failure


def _connect(ip: Ip, port: int, network: Network, patience: Patience, until: float) -> socket.socket:
    sock = socket.socket(socket.AF_INET if ip.version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        code = network.connect(sock, (str(ip), port))
        if code not in _BEGUN:
            raise OSError(code, os.strerror(code))
        if not _wait(sock, selectors.EVENT_WRITE, patience, until):
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(code, os.strerror(code))
        if ip_address(network.peer(sock)) != ip:
            raise FetchError("is connected to another address than the one that was checked")
    except BaseException:
        sock.close()
        raise
    return sock


def _wait(sock: socket.socket, event: int, patience: Patience, until: float | None = None) -> bool:
    """Wait until a socket is ready; False if `until` comes before."""
    with selectors.DefaultSelector() as selector:
        selector.register(sock, event)
        while not selector.select(patience.slice()):
            if until is not None and time.monotonic() > until:
                return False
    return True
