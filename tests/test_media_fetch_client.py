"""Fetching: what is connected to, what is sent, and servers that are slow, endless, lying or broken."""

import socket
import ssl
import threading
import time
import tracemalloc
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
from url_world import CALLS, HOST, PUBLIC, Internet, moved, reply, says

from glmflash.errors import FetchError
from glmflash.media import DataUrl, InputPolicy, Url, UrlPolicy, read
from glmflash.media.fetch import fetch, resolve
from glmflash.media.fetch.dial import Line
from glmflash.media.fetch.network import NETWORK
from glmflash.media.fetch.patience import Patience
from glmflash.media.sources import from_url

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

URL = f"https://{HOST}/a.png"
ANY = UrlPolicy(hosts=("*", "*:8443", PUBLIC), http=True, timeout=5.0)
MOST = 100_000
OTHER = "151.101.1.69"


def get(internet: Internet, url=URL, policy=ANY, most=MOST, **options) -> bytes:
    return fetch(url, policy, max_bytes=most, network=internet.network, **options)


def refused(internet: Internet, url=URL, policy=ANY, **options) -> str:
    with pytest.raises(FetchError) as caught:
        get(internet, url, policy, **options)
    assert caught.value.code == "fetch_error"
    said = str(caught.value)
    assert len(said) <= 500
    assert "secret" not in said
    assert "0x" not in said
    return said


@contextmanager
def serving(*replies: bytes, **options):
    internet = Internet()
    with internet.serving(says(*replies), **options):
        yield internet


def test_a_picture_comes():
    with serving(reply(b"bytes")) as internet, CALLS.heard() as calls:
        assert get(internet, f"https://{HOST.upper()}/a%20b.png?size=2") == b"bytes"
    assert [host for host, _ in calls.connects] == ["127.0.0.1"]  # they are heard
    assert internet.looked_up == [HOST]
    assert internet.connected == [(PUBLIC, 443)]
    assert internet.requests == [
        f"GET /a%20b.png?size=2 HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: glmflash\r\n"
        "Accept: image/*, */*;q=0.5\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n".encode()
    ]


@pytest.mark.parametrize(
    "raw",
    [
        reply(b"bytes", length=None),
        reply(b"5\r\nbytes\r\n0\r\n\r\n", length=None, Transfer_Encoding="chunked"),
        reply(b"2;a=b\r\nby\r\n3\r\ntes\r\n0\r\nX: y\r\n\r\n", length=None, Transfer_Encoding="chunked"),
        reply(b"bytes", Content_Encoding="identity", Content_Type="text/html"),
        b"HTTP/1.0 200 OK\r\n\r\nbytes",
        b"HTTP/1.1 100 Continue\r\n\r\n" + reply(b"bytes"),
        reply(b"bytes and more", length=5),
    ],
)
def test_ways_to_answer(raw):
    with serving(raw) as internet:
        assert get(internet) == b"bytes"


def test_http_if_it_is_chosen():
    with serving(reply(b"bytes"), port=80, tls=False) as internet:
        assert get(internet, f"http://{HOST}/") == b"bytes"
        assert "http:// is not allowed" in refused(internet, f"http://{HOST}/", UrlPolicy(hosts=(HOST,)))


def test_nothing_of_the_environment_counts(monkeypatch, tmp_path):
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    (tmp_path / ".netrc").write_text(f"machine {HOST} login me password secret\n")
    with serving(reply(b"bytes", Set_Cookie="a=secret")) as internet:
        get(internet), get(internet)
    assert internet.connected == [(PUBLIC, 443)] * 2
    assert not any(b"ookie" in request or b"uthorization" in request for request in internet.requests)
    NETWORK.context()
    assert not (tmp_path / "keys").exists()


def test_the_systems_own_context_verifies():
    context = NETWORK.context()
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


# Whom it is connected to.


def test_a_host_that_is_not_allowed_is_not_even_looked_up():
    internet = Internet()
    policy = UrlPolicy(hosts=("*.example.org",))
    assert f"{HOST} is not allowed" in refused(internet, policy=policy)
    assert internet.looked_up == internet.connected == []


@pytest.mark.parametrize(
    "found",
    [["127.0.0.1"], [PUBLIC, "10.0.0.1"], ["::1", PUBLIC], ["64:ff9b::7f00:1"], ["::ffff:127.0.0.1"],
     ["what?"],
     ["fe80::1%eth0"], ["169.254.169.254"], [PUBLIC] * 20 + ["192.168.0.1"]],
)  # fmt: skip
def test_every_address_of_a_host_must_be_public(found):
    internet = Internet()
    internet.names[HOST] = [found]
    assert "not a public address" in refused(internet)
    assert internet.connected == []


@pytest.mark.parametrize("ip", ["127.0.0.1", "10.0.0.1", "[::1]", "[::ffff:1.1.1.1]", "169.254.169.254"])
def test_an_address_that_is_not_public_cannot_be_allowed(ip):
    internet = Internet()
    assert "not a public address" in refused(internet, f"https://{ip}/", UrlPolicy(hosts=(ip,)))
    assert internet.looked_up == internet.connected == []


def test_rebinding_is_of_no_use():
    """A name that is public when it is checked, and loopback when somebody looks again."""
    internet = Internet()
    internet.names[HOST] = [[PUBLIC], ["127.0.0.1"]]
    inner = []
    with internet.serving(says(reply(b"bytes"))), internet.serving(
        lambda *asked: inner.append(asked), ip="127.0.0.1"
    ):  # fmt: skip
        assert get(internet) == b"bytes"
        assert internet.looked_up == [HOST]
        assert "not a public address" in refused(internet)
    assert internet.connected == [(PUBLIC, 443)]
    assert inner == []


def test_a_redirect_to_itself_is_looked_up_and_checked_again():
    internet = Internet()
    internet.names[HOST] = [[PUBLIC], ["127.0.0.1"]]
    with internet.serving(says(moved("/b.png"))):
        assert "not a public address" in refused(internet)
    assert internet.connected == [(PUBLIC, 443)]


def test_another_peer_than_the_one_checked_gets_no_byte():
    internet = Internet()
    with internet.serving(says(reply(b"bytes"))):
        internet.network = replace(internet.network, peer=lambda sock: "127.0.0.1")
        assert "another address" in refused(internet)
    assert internet.requests == []


def test_addresses_are_tried_in_turn():
    internet = Internet()
    internet.names[HOST] = [["2606:4700::1111", OTHER, PUBLIC]]
    with internet.serving(says(reply(b"bytes"))):
        internet.network = replace(internet.network, connect=partial(_only_v4, internet))
        assert get(internet) == b"bytes"
    assert internet.connected == [("2606:4700::1111", 443), (OTHER, 443), (PUBLIC, 443)]


def _only_v4(internet: Internet, sock, address) -> int:
    if ":" in address[0]:
        internet.connected.append(address)
        return 101
    return internet._connect(sock, address)


def test_nobody_answers():
    assert "Connection refused" in refused(Internet())
    internet = Internet()
    internet.names = {}
    assert "cannot be looked up" not in refused(internet)
    assert "is not a host that can be looked up" in refused(internet)


# Certificates.


def test_whoever_answers_must_have_a_certificate_for_the_name():
    internet = Internet()
    internet.names = {"images.example.net": [[PUBLIC]]}
    with internet.serving(says(reply(b"bytes"))):
        assert "no certificate for this name" in refused(internet, "https://images.example.net/")
        assert "no certificate for this name" in refused(internet, f"https://{PUBLIC}/")
        internet.names = {HOST: [[PUBLIC]]}
        internet.network = replace(
            internet.network, context=NETWORK.context
        )  # knows nothing of our authority
        assert "no certificate for this name" in refused(internet)
    assert internet.requests == []


def test_what_speaks_no_tls():
    with serving(reply(b"bytes"), tls=False) as internet:
        assert f"{HOST}: " in refused(internet)


# Redirects.


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(status):
    with serving(moved(f"https://{HOST}/b?c", status), moved("/d", status), reply(b"bytes")) as internet:
        assert get(internet) == b"bytes"
    assert [request.split()[1] for request in internet.requests] == [b"/a.png", b"/b?c", b"/d"]


def test_three_and_no_more():
    with serving(*[moved("/again")] * 3, reply(b"bytes")) as internet:
        assert get(internet) == b"bytes"
    with serving(moved("/again")) as internet:
        assert "more than 3 times" in refused(internet)
    assert len(internet.requests) == 4


@pytest.mark.parametrize(
    ("to", "why"),
    [
        ("https://127.0.0.1/", "is not allowed"),
        ("https://inner.example.com/", "not a public address"),
        ("https://1.1.1.1:443\\@127.0.0.1/secret", "character"),
        ("//inner.example.com/secret", "not a public address"),
        ("https://me:secret@images.example.com/", "user name"),
        (f"http://{HOST}/", "from https:// to http://"),
        (f"https://{HOST}:8080/", "is not allowed"),
        ("file:///etc/secret", "begins with https://"),
        ("secret.png", "neither a URL nor"),
        ("", "neither a URL nor"),
        ("gopher://127.0.0.1:6379/_x", "begins with https://"),
        (f"https://{HOST}/\u00e9", "character"),
    ],
)
def test_a_redirect_is_checked_like_any_url(to, why):
    internet = Internet()
    internet.names["inner.example.com"] = [["10.0.0.1"]]
    with internet.serving(says(moved(to))):
        assert why in refused(internet)
    assert internet.connected == [(PUBLIC, 443)]


def test_a_chain_that_ends_inside():
    internet = Internet()
    internet.names |= {"b.example.org": [[OTHER]], "c.example.org": [["192.168.0.1"]]}
    with (
        internet.serving(says(moved("https://b.example.org/"))),
        internet.serving(says(moved("https://c.example.org/")), ip=OTHER),
    ):
        assert "c.example.org: is not a public address" in refused(internet)
    assert internet.connected == [(PUBLIC, 443), (OTHER, 443)]


def test_from_http_to_https_is_fine():
    internet = Internet()
    with (
        internet.serving(says(moved(URL)), port=80, tls=False),
        internet.serving(says(reply(b"bytes"))),
    ):
        assert get(internet, f"http://{HOST}/") == b"bytes"


# Replies that are not what they should be.


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (reply(b"secret", status="404 secret"), "status 404"),
        (reply(b"secret", status="500 secret"), "status 500"),
        (reply(b"secret", status="206 secret"), "status 206"),
        (reply(status="204 secret"), "status 204"),
        (reply(status="304 secret"), "status 304"),
        (reply(b"secret", Content_Encoding="gzip"), "Content-Encoding"),
        (reply(b"secret", Content_Encoding="identity, gzip"), "Content-Encoding"),
        (reply(b"secret", Transfer_Encoding="gzip, chunked"), "Transfer-Encoding"),
        (reply(b"secret", length=7), "ends before"),
        (reply(b"secret", length=MOST + 1), "InputPolicy.max_bytes"),
        (reply(b"secret", length=10**30), "InputPolicy.max_bytes"),
        (reply(bytes(MOST + 1), length=None), "InputPolicy.max_bytes"),
        (reply(b"9\r\nsecret", length=None, Transfer_Encoding="chunked"), "IncompleteRead"),
        (reply(b"secret\r\n", length=None, Transfer_Encoding="chunked"), "IncompleteRead"),
        (reply(b"-5\r\nsecret\r\n", length=None, Transfer_Encoding="chunked"), "ValueError"),
        (reply(b"7;" + b"a" * 70_000 + b"\r\nsecret!\r\n", length=None, Transfer_Encoding="chunked"), ""),
        (b"", "RemoteDisconnected"),
        (b"secret\r\n\r\n", "BadStatusLine"),
        (b"HTTP/1.1 secret\r\n\r\n", "BadStatusLine"),
        (b"SSH-2.0-secret\r\n", "BadStatusLine"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000, "sends more"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", "HTTPException"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 9000, "sends more"),
    ],
)
def test_replies_that_are_refused(raw, why):
    with serving(raw) as internet:
        assert why in refused(internet, f"https://{HOST}/secret?secret")


def test_exactly_as_much_as_is_allowed():
    for raw in (reply(bytes(MOST)), reply(bytes(MOST), length=None)):
        with serving(raw) as internet:
            assert get(internet) == bytes(MOST)


def endless(piece: bytes, head: bytes):
    """Goes on until nobody listens; counts."""
    sent = [0]

    def serve(sock, request) -> None:
        sock.sendall(head)
        while True:
            sock.sendall(piece)
            sent[0] += len(piece)

    return serve, sent


CHUNKED = reply(length=None, Transfer_Encoding="chunked")


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (reply(length=None), bytes(16384)),
        (CHUNKED, b"4000\r\n" + bytes(16384) + b"\r\n"),
        (CHUNKED, b"1;" + b"a" * 1000 + b"\r\nx\r\n"),
        (CHUNKED + b"-1\r\n", bytes(16384)),
        (CHUNKED + b"0\r\n", b"X: y\r\n" * 1000),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 10),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"", b"a" * 1000),
    ],
    ids=["plain", "chunks", "extensions", "to the end", "trailers", "headers", "continue", "status"],
)  # fmt: skip
def test_endless_replies_end(head, piece):
    internet = Internet()
    serve, _ = endless(piece, head)
    with internet.serving(serve, port=80, tls=False):
        began = time.monotonic()
        refused(internet, f"http://{HOST}/")
        assert time.monotonic() - began < 4  # of 5


def test_no_more_is_read_than_is_allowed():
    ours, theirs = socket.socketpair()
    with theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        theirs.send(bytes(5000))
        with Line(ours, Patience.of(5), allowance=1000) as line:
            buffer = bytearray(300)
            assert [line.readinto(buffer) for _ in range(4)] == [300, 300, 300, 100]
            with pytest.raises(FetchError, match="sends more"):
                line.readinto(buffer)
            line.allow(10)
            assert line.readinto(buffer) == 10


@pytest.mark.slow
def test_an_endless_reply_takes_little_memory():
    internet, most = Internet(), 20 * 2**20
    serve, _ = endless(b"10000\r\n" + bytes(2**16) + b"\r\n", CHUNKED)
    with internet.serving(serve, port=80, tls=False):
        tracemalloc.start()
        try:
            refused(internet, f"http://{HOST}/", UrlPolicy(hosts=(HOST,), http=True, timeout=60), most=most)
            assert tracemalloc.get_traced_memory()[1] < 40e6
        finally:
            tracemalloc.stop()


# Time.

SOON = UrlPolicy(hosts=("*",), http=True, timeout=0.3)


def drip(sock, request, *, at_once=0) -> None:
    raw = reply(bytes(1000))
    sock.sendall(raw[:at_once])
    for byte in raw[at_once:]:
        sock.sendall(bytes([byte]))
        time.sleep(0.02)


def timed(internet: Internet, url=URL, policy=SOON, **options) -> float:
    began = time.monotonic()
    assert "UrlPolicy.timeout" in refused(internet, url, policy, **options)
    return time.monotonic() - began


@pytest.mark.parametrize("serve", [
    drip,
    partial(drip, at_once=-1000),
    lambda sock, request: sock.recv(1),
], ids=["headers", "body", "nothing"])  # fmt: skip
def test_a_slow_server_gets_no_more_time(serve):
    internet = Internet()
    with internet.serving(serve):
        assert 0.25 < timed(internet) < 1.3


def test_redirects_share_the_time():
    internet = Internet()

    def serve(sock, request) -> None:
        time.sleep(0.2)
        sock.sendall(moved("/again"))

    with internet.serving(serve):
        assert timed(internet) < 1.3


def test_a_handshake_that_never_comes():
    internet = Internet()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        internet.ports[(PUBLIC, 443)] = silent.getsockname()[1]
        assert timed(internet) < 1.3


def test_a_connection_that_is_never_accepted_gets_its_share_only():
    internet = Internet()
    internet.names[HOST] = [[OTHER, PUBLIC]]
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        internet.ports[(OTHER, 443)] = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:  # so that nothing comes back to whoever is next
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        with internet.serving(says(reply(b"bytes"))):
            began = time.monotonic()
            assert get(internet, policy=UrlPolicy(hosts=("*",), timeout=1.2)) == b"bytes"
            assert time.monotonic() - began > 0.5
        for one in waiting:
            one.close()


def test_a_lookup_that_hangs_is_left_behind():
    internet, go = Internet(), threading.Event()
    internet.network = replace(internet.network, resolve=lambda host: (go.wait(10), [PUBLIC])[1])
    try:
        assert timed(internet) < 1.3
    finally:
        go.set()


def test_lookups_that_hang_are_few(monkeypatch):
    monkeypatch.setattr(resolve, "_LOOKUPS", threading.BoundedSemaphore(1))
    internet, go, begun = Internet(), threading.Event(), []
    internet.network = replace(
        internet.network, resolve=lambda host: (begun.append(host), go.wait(10), [PUBLIC])[2]
    )
    for _ in range(3):
        timed(internet, policy=UrlPolicy(hosts=("*",), timeout=0.1))
    assert len(begun) == 1
    go.set()
    with internet.serving(says(reply(b"bytes"))):
        assert get(internet) == b"bytes"  # the place is free again


@pytest.mark.parametrize("stage", ["lookup", "handshake", "body"])
def test_giving_up_ends_it_at_once(stage):
    internet, go, given_up = Internet(), threading.Event(), threading.Event()
    if stage == "lookup":
        internet.network = replace(internet.network, resolve=lambda host: (go.wait(10), [PUBLIC])[1])
    timer = threading.Timer(0.1, given_up.set)
    with socket.create_server(("127.0.0.1", 0)) as silent, internet.serving(lambda sock, _: sock.recv(1)):
        if stage == "handshake":
            internet.ports[(PUBLIC, 443)] = silent.getsockname()[1]
        timer.start()
        began = time.monotonic()
        assert "not waited for" in refused(internet, give_up=given_up.is_set)
        assert time.monotonic() - began < 1.5
        go.set()
    timer.join()


def test_nothing_is_left_open(recwarn):
    with serving(reply(b"bytes")) as internet:
        get(internet)
    with serving(reply(b"bytes", length=9)) as internet:
        refused(internet)
    refused(Internet())
    assert not recwarn.list


# What strangers send.


@pytest.fixture
def refuse(test_data) -> list[str]:
    lines = (test_data / "data" / "urls_refuse.txt").read_text(encoding="utf-8").splitlines()
    return [line.encode().decode("unicode_escape") if "\\t" in line else line for line in lines]


POLICIES = {
    "off": None,
    "named": UrlPolicy(hosts=("images.example.com",)),
    "any": UrlPolicy(hosts=("*",), http=True, timeout=5),
    "all": UrlPolicy(
        hosts=("*", "*:22", "*:6379", "127.0.0.1", "127.0.0.1:6379", "[::1]", "10.0.0.1", "1.1.1.1"),
        http=True,
    ),
}


@pytest.mark.parametrize("urls", POLICIES.values(), ids=POLICIES)
def test_b1_ssrf_every_url_of_the_list_is_refused(refuse, urls, monkeypatch):
    """With the system's own resolver replaced only where it would ask the network: literals stay literals."""
    internet = Internet()
    internet.names |= {"127.0.0.1.nip.io": [["127.0.0.1"]], "metadata.google.internal": [["169.254.169.254"]]}
    internet.network = replace(internet.network, connect=NETWORK.connect)
    monkeypatch.setattr("glmflash.media.fetch.client.NETWORK", internet.network)
    policy = InputPolicy(urls=urls)
    assert len(refuse) == 69
    with CALLS.heard() as calls:
        for url in refuse:
            with pytest.raises(FetchError) as caught:
                read(Url(url), policy=policy)
            assert len(str(caught.value)) <= 500
            with pytest.raises((FetchError, ValueError)):
                read(from_url(url) if url else DataUrl(url), policy=policy)
            if urls is not None:
                with pytest.raises(FetchError):
                    fetch(url, urls, max_bytes=MOST)
    assert calls.connects == []
    assert calls.lookups == []
