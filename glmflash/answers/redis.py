"""Answers in a Redis server, which machines share; the one place that imports its client (extra `redis`)."""

import re
from typing import TYPE_CHECKING

from glmflash.answers.store import read_size
from glmflash.errors import ParameterError

if TYPE_CHECKING:
    import redis

__all__ = ["RedisAnswers"]

_TIMEOUT = 0.05  # seconds, of a connection and of a reply
_PAGE = 500  # keys forgotten at once


def __dir__() -> list[str]:
    return __all__


class RedisAnswers:
    """Answers in a Redis server, each until its time is over. How many that are is the server's business.

    Set `maxmemory` and `maxmemory-policy allkeys-lru` there, so that old ones make room. Whoever can write to
    the server can change answers, though nothing else: it should ask for a password.

    Args:
        server: An address such as "redis://:password@host:6379/0" or "unix:///run/redis.sock"; or a client
            of your own, with short timeouts, that does not decode replies.
        prefix: What keys begin with: letters, digits and any of ":._-". Servers may be shared with others.
        max_value_bytes: Most bytes of one answer, or a text such as "1 MiB"; larger ones are not kept.

    Raises:
        ParameterError: If an argument is not as above, or the extra `redis` is not installed.
    """

    def __init__(
        self,
        server: "str | redis.Redis",
        *,
        prefix: str = "glmflash:answers:",
        max_value_bytes: str | int = "1 MiB",
    ) -> None:
        name: object = prefix
        if not isinstance(name, str) or not re.fullmatch(r"[\w:.-]{1,200}", name, re.ASCII):
            raise ParameterError(
                "prefix", 'is not made of letters, digits and ":._-" alone, 1 to 200 of them'
            )
        self._prefix = prefix
        self._most = read_size(max_value_bytes, parameter="max_value_bytes")
        self._own = isinstance(server, str)
        self._client = _client(server)

    @property
    def nbytes(self) -> None:
        """Not known."""
        return

    def get(self, key: str) -> bytes | None:
        """See `AnswerStore`. Of a value that is too large, whoever put it there, only a part is read."""
        value: object = self._client.getrange(self._prefix + key, 0, self._most)
        return value if isinstance(value, bytes) and value else None

    def put(self, key: str, value: bytes, ttl: float) -> None:
        """See `AnswerStore`."""
        if len(value) <= self._most:
            self._client.set(self._prefix + key, value, px=max(int(ttl * 1000), 1))

    def clear(self) -> None:
        """Forget all answers with this prefix, and nothing else."""
        page: list[bytes] = []
        for name in self._client.scan_iter(match=f"{self._prefix}*", count=_PAGE):
            page.append(name)
            if len(page) == _PAGE:
                self._client.unlink(*page)
                page.clear()
        if page:
            self._client.unlink(*page)

    def close(self) -> None:
        """Close the connections; a client of yours stays open."""
        if self._own:
            self._client.close()

    def __repr__(self) -> str:
        return f"<RedisAnswers: {self._prefix}>"  # no address: it may hold a password


def _client(server: "str | redis.Redis") -> "redis.Redis":
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError:
        raise ParameterError(
            "server", 'needs the package redis: pip install "glmflash[redis]", or keep answers in SQLite'
        ) from None
    try:
        if isinstance(server, redis.Redis):
            client = server
        else:
            client = redis.Redis.from_url(
                server,
                socket_timeout=_TIMEOUT,
                socket_connect_timeout=_TIMEOUT,
                retry=Retry(NoBackoff(), 0),
                decode_responses=False,
            )
    except (ValueError, TypeError, AttributeError):
        allowed = '"redis://host:6379/0", "rediss://..." or "unix:///path"'
        raise ParameterError("server", f"is no address of a Redis server; allowed: {allowed}") from None
    if client.get_encoder().decode_responses:  # an address can say so too
        raise ParameterError("server", "decodes replies; allowed: a client with decode_responses=False")
    return client
