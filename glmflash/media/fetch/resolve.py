"""A host → its addresses: asked for once, within a time limit, and refused if any of them is not public."""

import ipaddress
import threading
from concurrent.futures import Future
from contextlib import suppress

from glmflash.errors import FetchError
from glmflash.media.fetch.address import Address, Ip
from glmflash.media.fetch.network import Network
from glmflash.media.fetch.patience import Patience
from glmflash.media.fetch.public import is_public

__all__ = ["addresses"]

_MOST = 8  # addresses that are tried
# The system's resolver cannot be interrupted. One that hangs is left behind on its thread, but not too many.
_LOOKUPS = threading.BoundedSemaphore(32)


def __dir__() -> list[str]:
    return __all__


def addresses(address: Address, network: Network, patience: Patience) -> list[Ip]:
    """Look a host up.

    Raises:
        FetchError: If there is no such host, it takes too long, or any of its addresses is not public.
    """
    texts = [address.host] if address.ip is not None else _look_up(address.host, network, patience)
    found = list(dict.fromkeys(map(_read, texts)))
    if not found:
        raise FetchError("has no address")
    if not all(ip is not None and is_public(ip) for ip in found):
        raise FetchError("is not a public address of the internet, and no other is connected to")
    return [ip for ip in found if ip is not None][:_MOST]


def _look_up(host: str, network: Network, patience: Patience) -> list[str]:
    places = _LOOKUPS  # what is left behind gives back the very place that it took
    while not places.acquire(timeout=patience.slice()):
        pass
    future: Future[list[str]] = Future()

    def run() -> None:
        try:
            future.set_result(network.resolve(host))
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            future.set_exception(error)
        finally:
            places.release()

    try:
        threading.Thread(target=run, name="glmflash-lookup", daemon=True).start()
    except BaseException:
        places.release()
        raise
    while not future.done():
        with suppress(TimeoutError):  # which may be the resolver's own: it is raised below
            return future.result(timeout=patience.slice())
    return future.result()


def _read(text: str) -> Ip | None:
    with suppress(ValueError):
        return ipaddress.ip_address(text)
    return None
