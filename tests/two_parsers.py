"""An address that was read, beside what the standard library reads in the same text."""

from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from glmflash.media.fetch.address import PORTS, Address


def agreed(text: str, address: Address) -> SplitResult:
    """What the standard library reads, once it is seen to lead to the same place."""
    other = urlsplit(text)
    assert other.hostname is not None
    assert other.scheme == address.scheme
    assert (other.port or PORTS[other.scheme]) == address.port
    assert other.username is other.password is None
    assert other.fragment == ""
    if address.ip is not None:
        assert ip_address(other.hostname) == address.ip
    else:
        assert other.hostname == address.host
    return other
