"""Who asks, and how much they may send: a request → its subject and its body, or a refusal."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import jwt

__all__ = ["Refused", "check_secret", "parse", "read", "subject", "token"]

_LEAST = 32  # bytes of a secret: as many as the signature has


def __dir__() -> list[str]:
    return __all__


class Refused(Exception):  # noqa: N818 - it is said to the client, and no mistake of ours
    """A request that is turned away before the model hears of it.

    Args:
        status: Of the HTTP answer.
        code: A stable word for it.
        message: What to do about it.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code

    def body(self) -> dict[str, Any]:
        """The same in OpenAI's shape."""
        kind = "authentication_error" if self.status == 401 else "invalid_request_error"
        return {"error": {"message": str(self), "type": kind, "param": None, "code": self.code}}


def check_secret(secret: str) -> str:
    """A secret that is long enough to sign with.

    Raises:
        ValueError: If it is not.
    """
    if len(secret.encode()) < _LEAST:
        raise ValueError(f"the secret has less than {_LEAST} bytes; anybody could find it by trying")
    return secret


def token(secret: str, name: str, *, hours: float) -> str:
    """Make a bearer token for somebody.

    Args:
        secret: What the server was given.
        name: Whose it is. Cached work is shared by requests of one name only.
        hours: How long it is valid.
    """
    claims = {"sub": name, "exp": int(time.time() + 3600 * hours)}
    return jwt.encode(claims, secret, algorithm="HS256")


def subject(headers: Mapping[str, str], secret: str) -> str:
    """Whose token a request carries.

    Raises:
        Refused: If there is none, or it was not made with this secret, or its time is over.
    """
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise Refused(401, "missing_api_key", "send a token: 'Authorization: Bearer ...'")
    try:
        claims = jwt.decode(bearer.strip(), secret, algorithms=["HS256"], options={"require": ["exp", "sub"]})
    except jwt.ExpiredSignatureError:
        raise Refused(401, "expired_api_key", "the token's time is over; ask for a new one") from None
    except jwt.PyJWTError:
        raise Refused(401, "invalid_api_key", "the token is not one of this server's") from None
    name = claims["sub"]
    if not isinstance(name, str) or not 0 < len(name) <= 200:
        raise Refused(401, "invalid_api_key", "the token names nobody")
    return name


async def read(
    pieces: AsyncIterator[bytes], headers: Mapping[str, str], *, limit: int, seconds: float
) -> bytes:
    """A body, as long as it is short enough and comes soon enough; no more than `limit` is ever held.

    Raises:
        Refused: If it is longer than it may be, by its header or in fact, or takes too long.
    """
    too_long = Refused(413, "body_too_large", f"the body may have {limit} bytes; send a smaller picture")
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > limit:
        raise too_long
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for piece in pieces:
                body += piece
                if len(body) > limit:
                    raise too_long
    except TimeoutError:
        raise Refused(408, "body_too_slow", f"the body did not come within {seconds:g} s") from None
    return bytes(body)


def parse(body: bytes) -> object:
    """The JSON value of a body.

    Raises:
        Refused: If it is none.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(400, "invalid_json", "the body is not JSON") from None
