"""The text of a URL → its scheme, host, port and target, by the strictest reading; or a refusal.

Parsers differ in what they forgive, and whoever checks with one and connects with another can be led astray
(CVE-2026-24779, CVE-2026-25960). So nothing is forgiven here, and what was checked is what is dialled.
"""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from glmflash.errors import FetchError

__all__ = ["PORTS", "Address", "Ip", "parse", "read_host"]

Ip = IPv4Address | IPv6Address

#: The port of each scheme.
PORTS = {"https": 443, "http": 80}

_LONGEST = 8192  # signed URLs have thousands of characters
_STRANGE = re.compile(r"""[^!-~]|[\\"<>^`{|}]""")
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z.-]+)(?::([1-9][0-9]{0,4}))?")
_LABEL = re.compile(r"(?!-)[0-9a-z-]{1,63}(?<!-)")
_TOP = re.compile(r"[a-z]{2,63}|xn--[0-9a-z-]{1,58}(?<!-)")
_DOTTED = re.compile(r"(?:0|[1-9][0-9]{0,2})(?:\.(?:0|[1-9][0-9]{0,2})){3}")
# Never names of the public internet: RFC 6761, 6762, 7686, 8375, 9476, and `internal` by ICANN.
_RESERVED = frozenset("alt arpa internal invalid local localhost onion test".split())


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Address:
    """A URL that was read.

    Args:
        scheme: "https" or "http".
        host: A name in lower case, or an IP address, without brackets.
        port: Also if it was not given.
        target: Path and query, as they came.
    """

    scheme: str
    host: str
    port: int
    target: str

    @property
    def ip(self) -> Ip | None:
        """The host, if it is an IP address."""
        if ":" in self.host:
            return IPv6Address(self.host)
        return IPv4Address(self.host) if _DOTTED.fullmatch(self.host) else None

    @property
    def authority(self) -> str:
        """Host and port as a `Host` header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


def parse(url: str) -> Address:
    """Read a URL.

    Refused are: characters that RFC 3986 does not have, user names, fragments, percent signs in the host,
    names that end in a dot, have empty labels, one label only or a reserved last one, and IP addresses in any
    form but four decimal numbers or IPv6 in brackets.

    Raises:
        FetchError: If it is not such a URL; nothing of it is repeated.

    Example:
        >>> parse("https://Images.Example.com/cats/1.png?size=2")
        Address(scheme='https', host='images.example.com', port=443, target='/cats/1.png?size=2')
    """
    if len(url) > _LONGEST:
        raise FetchError(f"the URL has more than {_LONGEST} characters")
    if _STRANGE.search(url):
        raise FetchError(
            "the URL holds a character that must be percent-encoded: a space, a control character, a"
            ' backslash, one outside ASCII, or one of "<>^`{|}'
        )
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if scheme not in PORTS or not separator:
        raise FetchError("not a URL that begins with https://")
    if "#" in rest:
        raise FetchError("the URL has a fragment, which is never sent; leave out '#' and what follows")
    end = re.search("[/?]|$", rest)
    assert end is not None  # "$" is always found
    authority, target = rest[: end.start()], rest[end.start() :]
    if "@" in authority:
        raise FetchError("the URL holds a user name, and credentials are never sent")
    found = _AUTHORITY.fullmatch(authority)
    if found is None:
        raise FetchError("the URL's host or port is malformed")
    if _ESCAPE.search(target):
        raise FetchError("the URL holds a '%' without two hexadecimal digits behind it")
    host, port = read_host(found[1]), int(found[2] or PORTS[scheme])
    if port > 0xFFFF:
        raise FetchError("the URL's port is above 65535")
    return Address(scheme, host, port, target if target.startswith("/") else f"/{target}")


def read_host(text: str) -> str:
    """Read a host: a name, four decimal numbers, or IPv6 in brackets.

    Returns:
        The name in lower case; the address in its usual form, without brackets.

    Raises:
        FetchError: If it is none of these.

    Example:
        >>> read_host("[2606:4700:0::1111]")
        '2606:4700::1111'
    """
    if text.startswith("["):
        try:
            return str(IPv6Address(text[1:-1]))
        except AddressValueError:
            raise FetchError("the URL's host is no IPv6 address") from None
    if _DOTTED.fullmatch(text):
        try:
            return str(IPv4Address(text))
        except AddressValueError:
            raise FetchError("the URL's host is no IPv4 address") from None
    name = text.lower()
    labels = name.split(".")
    if not all(map(_LABEL.fullmatch, labels)) or len(name) > 253:
        raise FetchError("the URL's host is no well-formed name; write other than Latin letters as xn--…")
    if len(labels) < 2 or not _TOP.fullmatch(labels[-1]):
        raise FetchError(
            "the URL's host is neither a name such as images.example.com nor an IP address in its usual form"
        )
    if labels[-1] in _RESERVED:
        raise FetchError(f"the URL's host ends in .{labels[-1]}, which is no part of the internet")
    return name
