"""An IP address → whether it is one of the public internet, by an own list and by the standard library's.

Neither alone is enough: `is_global` is true of NAT64 and 6to4, which lead back into private networks, of
multicast, and of a few others; and it has changed from one Python to the next.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Network

from glmflash.media.fetch.address import Ip

__all__ = ["is_public"]

# https://www.iana.org/assignments/iana-ipv4-special-registry, and multicast and what is reserved.
_NOT_PUBLIC_4 = tuple(map(IPv4Network, (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
    "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16",
    "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
)))  # fmt: skip
# All that is handed out of IPv6, and in it what is not for hosts, or holds an IPv4 address. Outside lie
# loopback, mapped and compatible IPv4, NAT64, unique-local, link-local, site-local and multicast.
_PUBLIC_6 = IPv6Network("2000::/3")
_NOT_PUBLIC_6 = tuple(map(IPv6Network, (
    "2001::/23",  # Teredo, ORCHID, benchmarks, anycast of protocols
    "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
)))  # fmt: skip


def __dir__() -> list[str]:
    return __all__


def is_public(ip: Ip) -> bool:
    """Whether it may be connected to for a stranger.

    Example:
        >>> from ipaddress import ip_address
        >>> [is_public(ip_address(text)) for text in ("1.1.1.1", "10.0.0.1", "64:ff9b::7f00:1")]
        [True, False, False]
    """
    if not ip.is_global or ip.is_multicast or ip.is_reserved:
        return False
    if isinstance(ip, IPv4Address):
        return not any(ip in network for network in _NOT_PUBLIC_4)
    return ip.scope_id is None and ip in _PUBLIC_6 and not any(ip in network for network in _NOT_PUBLIC_6)
