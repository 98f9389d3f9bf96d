"""Host patterns → whether a URL may be asked for: one frozen value, and all that turns URLs on."""

import re
from dataclasses import dataclass
from math import isfinite

from glmflash.errors import FetchError, ParameterError
from glmflash.media.fetch.address import PORTS, Address, read_host

__all__ = ["UrlPolicy", "check"]

_ENTRY = re.compile(r"(\*|(?:\*\.)?[0-9A-Za-z.-]+|\[[0-9A-Fa-f:.]+\])(?::([1-9][0-9]{0,4}))?")


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class UrlPolicy:
    """Which URLs pictures may be fetched from: `InputPolicy(urls=UrlPolicy(hosts=("images.example.com",)))`.

    Whatever it says, only public addresses of the internet are connected to.

    Args:
        hosts: Each is a name, which stands for itself alone; `"*.example.com"`, for all names below
            example.com, at any depth, but not for itself; an IP address, IPv6 in brackets; or `"*"`, for
            every name, but no IP address. With a port behind it, `"images.example.com:8443"`, it stands for
            this port alone, else for that of the scheme. Upper and lower case are the same.
        http: Whether `http://` is allowed too. What comes that way may be anybody's.
        timeout: Seconds for one picture: looking the host up, connecting, all redirects, and the last byte.

    Raises:
        ParameterError: If a value is not as above.

    Example:
        >>> UrlPolicy(hosts=("Images.Example.com", "*.example.org:8443"))
        UrlPolicy(hosts=('images.example.com', '*.example.org:8443'), http=False, timeout=10.0)
    """

    hosts: tuple[str, ...]
    http: bool = False
    timeout: float = 10.0

    def __post_init__(self) -> None:
        hosts: object = self.hosts
        if not isinstance(hosts, tuple) or not hosts:
            raise ParameterError("hosts", f"is {_kind(hosts)}; allowed: a tuple of at least one host")
        object.__setattr__(self, "hosts", tuple(_pattern(host) for host in hosts))
        if not isinstance(self.http, bool):
            raise ParameterError("http", f"is {_kind(self.http)}; allowed: True or False")
        timeout: object = self.timeout
        if isinstance(timeout, bool) or not isinstance(timeout, int | float):
            raise ParameterError("timeout", f"is {_kind(timeout)}; allowed: seconds above 0")
        if not (isfinite(timeout) and timeout > 0):
            raise ParameterError("timeout", f"is {timeout}; allowed: seconds above 0")


def check(address: Address, policy: UrlPolicy) -> None:
    """Pass if this may be asked for.

    Raises:
        FetchError: If its scheme, host or port is not allowed.
    """
    if address.scheme == "http" and not policy.http:
        raise FetchError("http:// is not allowed; use https://, or allow it with UrlPolicy(http=True)")
    if not any(_matches(pattern, address) for pattern in policy.hosts):
        raise FetchError(
            f"{address.authority} is not allowed; UrlPolicy.hosts names the hosts that are, and the ports"
            " other than the scheme's own"
        )


def _matches(pattern: str, address: Address) -> bool:
    found = _ENTRY.fullmatch(pattern)
    assert found is not None  # it was checked when the policy was made
    if address.port != int(found[2] or PORTS[address.scheme]):
        return False
    match found[1]:
        case "*":
            return address.ip is None
        case suffix if suffix.startswith("*."):
            return address.ip is None and address.host.endswith(suffix[1:])
        case host:
            return address.host == host.strip("[]")


def _pattern(host: object) -> str:
    """A pattern as it is compared: lower case, addresses in their usual form."""
    found = _ENTRY.fullmatch(host) if isinstance(host, str) else None
    problem = f"has {host!r:.80}" if isinstance(host, str) else f"has {_kind(host)}"
    if found is None or int(found[2] or 0) > 0xFFFF:
        raise ParameterError("hosts", f"{problem}; allowed: {_ALLOWED}")
    name, port = found[1], "" if found[2] is None else f":{found[2]}"
    if name == "*":
        return name + port
    below = "*." if name.startswith("*.") else ""
    try:
        # "*.com" is a pattern, though "com" is no host
        read = read_host(f"x.{name[2:]}")[2:] if below else read_host(name)
    except FetchError as error:
        raise ParameterError("hosts", f"{problem}: {error}; allowed: {_ALLOWED}") from None
    return f"{below}[{read}]{port}" if ":" in read else f"{below}{read}{port}"


def _kind(value: object) -> str:
    return "empty" if value == () else f"a {type(value).__name__}"


_ALLOWED = '"images.example.com", "*.example.com", "*", or an IP address; each may have ":port" behind it'
