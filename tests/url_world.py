"""A small internet for tests: names, public addresses that lead to loopback, and a log of all calls."""

import io
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from PIL import Image

from glmflash.media.fetch.network import Network

TLS = Path(__file__).with_name("tls")
HOST, PUBLIC = "images.example.com", "93.184.216.34"

Serve = Callable[[socket.socket, bytes], None]


def picture(size=(60, 40), colour="red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def reply(body=b"", *, status="200 OK", length: int | None = -1, **headers) -> bytes:
    """A reply of HTTP; the length is the true one unless it is given, and left out if it is None."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    if length is not None:
        fields["Content-Length"] = len(body) if length == -1 else length
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode("latin-1") + body


def moved(to: str, status=302) -> bytes:
    return reply(status=f"{status} Moved", Location=to)


def says(*replies: bytes) -> Serve:
    """Answers one connection after the other with these; the last one again and again."""
    left = list(replies)

    def serve(sock: socket.socket, request: bytes) -> None:
        sock.sendall(left.pop(0) if len(left) > 1 else left[0])

    return serve


class Internet:
    """Who has which name and address, and what was asked of it.

    Args:
        names: Host -> its addresses at each lookup in turn; the last ones stay.
    """

    def __init__(self, **names) -> None:
        self.names: dict[str, list[list[str]]] = {HOST: [[PUBLIC]]}
        self.ports: dict[tuple[str, int], int] = {}
        self.context: ssl.SSLContext | None = None
        self.looked_up: list[str] = []
        self.connected: list[tuple[str, int]] = []
        self.requests: list[bytes] = []
        self.peers: dict[int, str] = {}
        self.network = Network(self._resolve, self._connect, self._peer, self._context)

    def _resolve(self, host: str) -> list[str]:
        self.looked_up.append(host)
        turns = self.names.get(host)
        if not turns:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return turns.pop(0) if len(turns) > 1 else turns[0]

    def _connect(self, sock: socket.socket, address: tuple[str, int]) -> int:
        self.connected.append(address)
        self.peers[sock.fileno()] = address[0]
        port = self.ports.get(address)
        return sock.connect_ex(("127.0.0.1", port)) if port is not None else 111

    def _peer(self, sock: socket.socket) -> str:
        return self.peers[sock.fileno()]

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(TLS / "ca.pem")
        return context

    @contextmanager
    def serving(self, serve: Serve, *, ip=PUBLIC, port=443, tls=True) -> Iterator[None]:
        """Have an address answer: `serve` is given each connection, and what was asked."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(TLS / "server.pem")
        listener = socket.create_server(("127.0.0.1", 0))
        self.ports[(ip, port)] = listener.getsockname()[1]
        over, threads = threading.Event(), []

        def answer(sock: socket.socket) -> None:
            with suppress(OSError), sock:
                sock.settimeout(10)
                secured = context.wrap_socket(sock, server_side=True) if tls else sock
                with secured:
                    request = b""
                    while (
                        not request.endswith(b"\r\n\r\n")
                        and request[:1] in (b"", b"G")
                        and (piece := secured.recv(65536))
                    ):
                        request += piece
                    self.requests.append(request)
                    serve(secured, request)
                    if tls:
                        secured.unwrap()

        def accept() -> None:
            while not over.is_set():
                with suppress(TimeoutError):
                    sock, _ = listener.accept()
                    threads.append(threading.Thread(target=answer, args=(sock,)))
                    threads[-1].start()

        listener.settimeout(0.02)
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield
        finally:
            over.set()
            accepting.join()
            listener.close()
            del self.ports[(ip, port)]
            for thread in threads:
                thread.join(15)
                assert not thread.is_alive()


class Calls:
    """What the interpreter itself reports of lookups and connections, while it listens."""

    def __init__(self) -> None:
        self.listening = False
        self.lookups: list[object] = []
        self.connects: list[object] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple) -> None:
        if self.listening and event == "socket.getaddrinfo":
            self.lookups.append(args[0])
        if self.listening and event == "socket.connect":
            self.connects.append(args[1])

    @contextmanager
    def heard(self) -> Iterator["Calls"]:
        self.lookups, self.connects, self.listening = [], [], True
        try:
            yield self
        finally:
            self.listening = False


CALLS = Calls()  # a hook of the interpreter cannot be taken away, so there is one
