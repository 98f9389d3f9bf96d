"""URLs: what the parser lets through, any other parser reads the same; all else is one kind of error."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from two_parsers import agreed

from glmflash.errors import FetchError
from glmflash.media.fetch.address import parse

pytestmark = pytest.mark.property

PIECES = st.sampled_from([
    "http", "https", "HTTPS", ":", "/", "//", "://", "@", "\\", "#", "?", "%", "%2f", "[", "]", "::1", ".",
    "..", "example.com", "Example.COM", "localhost", "127.0.0.1", "127.1", "0x7f", "2130706433", "1.1.1.1",
    "[::1]", "[2606:4700::1]", "xn--a", "80", ":443", ":22", "-", "_", " ", "\t", "\r\n", "\0", "é", "①",
    "。", "a", "user:pw@",
])  # fmt: skip
URLS = st.one_of(
    st.text(max_size=60),
    st.lists(PIECES, max_size=12).map("".join),
    st.builds("https://{}{}{}".format, st.from_regex(r"[\x20-\x7e]{0,20}", fullmatch=True), PIECES, PIECES),
    st.builds("{}://{}.{}{}/{}".format, st.sampled_from(["https", "http"]),
              st.from_regex(r"[a-zA-Z0-9-]{1,9}", fullmatch=True),
              st.sampled_from(["com", "ORG", "xn--p1ai", "1"]),
              st.sampled_from(["", ":443", ":80", ":8443", ":"]),
              st.from_regex(r"[!-~]{0,9}", fullmatch=True)),
    st.builds("https://[{}]/".format, st.ip_addresses(v=6)),
    st.builds("https://{}/".format, st.ip_addresses(v=4)),
)  # fmt: skip


@given(URLS)
@example("https://1.1.1.1:443\\@127.0.0.1/")
@example("https://example.com#@127.0.0.1/")
@example("https://[2606:4700::1]/")
def test_two_parsers_agree(url):
    try:
        address = parse(url)
    except FetchError:
        return
    other = agreed(url, address)
    assert (other.path or "/") + (f"?{other.query}" if "?" in url else "") == address.target


@given(URLS)
def test_what_was_read_reads_the_same_again(url):
    try:
        address = parse(url)
    except FetchError:
        return
    assert parse(f"{address.scheme}://{address.authority}{address.target}") == address


@given(st.builds("https://{}.example.com/{}".format, st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True),
                 st.from_regex(r"[a-zA-Z0-9/._~&=+-]{0,30}", fullmatch=True)))  # fmt: skip
def test_a_usual_url_is_let_through(url):
    assert parse(url).host.endswith(".example.com")
