"""The keys that sign a call to AWS, and Signature Version 4 of the calls to one endpoint of EventBridge."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final, NamedTuple

from pushrail_stream.core.destination import Secret
from pushrail_stream.eventbridge.http1.request import SharedHeaders

CONTENT_TYPE: Final = "application/x-amz-json-1.1"
TARGET_PREFIX: Final = "AWSEvents"
"""``jsonVersion`` and ``targetPrefix`` of the botocore service model ``events``."""
_SERVICE: Final = "events"
_INNER: Final = bytes(number ^ 0x36 for number in range(256))
_OUTER: Final = bytes(number ^ 0x5C for number in range(256))
"""HMAC's two pads (RFC 2104), as tables for ``bytes.translate``."""
_FITS_A_HEADER: Final = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys that sign a call. Compared by identity: each sign-in makes new ones."""

    access_key_id: str
    secret: Secret
    token: Secret | None
    """Session token; None for a user's own access key."""


def checked_keys(access_key_id: object, secret: object, token: object) -> Keys | str:
    """Keys that can sign a request, or the problem with them. The problem repeats none of their characters."""
    if not isinstance(access_key_id, str) or not _FITS_A_HEADER.fullmatch(access_key_id):
        return f"the access key id {_problem_of(access_key_id)}"
    if not isinstance(secret, str) or not _FITS_A_HEADER.fullmatch(secret):
        return f"the secret access key {_problem_of(secret)}"
    if token is None:
        return Keys(access_key_id, Secret(secret), None)
    if not isinstance(token, str) or not _FITS_A_HEADER.fullmatch(token):
        return f"the session token {_problem_of(token)}"
    return Keys(access_key_id, Secret(secret), Secret(token))


def _problem_of(value: object) -> str:
    if not isinstance(value, str) or not value:
        return "is missing"
    if value != value.rstrip():
        return "ends with a space or a line end"
    return "has a character that cannot be sent in a header"


class SigV4Time(NamedTuple):
    """A call's time as Signature Version 4 writes it."""

    time: str
    """``20261101T120000Z``"""
    day: str
    """``20261101``"""


class SigV4Clock:
    """The time of now, formatted once a second."""

    __slots__ = ("_formatted", "_now", "_second")

    def __init__(self, now: Callable[[], datetime]) -> None:
        """``now``: in UTC."""
        self._now = now
        self._second = -1
        self._formatted = SigV4Time("", "")

    def read(self) -> tuple[float, SigV4Time]:
        """Now, in epoch seconds and as Signature Version 4 writes it."""
        now = self._now()
        epoch = now.timestamp()
        second = int(epoch)
        if second != self._second:
            time = f"{now:%Y%m%dT%H%M%SZ}"
            self._formatted = SigV4Time(time, time[:8])
            self._second = second
        return epoch, self._formatted


class Target(NamedTuple):
    """The endpoint that calls are signed for."""

    region: str
    host: str
    path: str
    user_agent: str


def json_headers(operation: str) -> dict[str, str]:
    """The headers that name the protocol and the operation of a call to classic EventBridge."""
    return {"X-Amz-Target": f"{TARGET_PREFIX}.{operation}", "Content-Type": CONTENT_TYPE}


class Signer:
    """Signature Version 4 of one operation's calls to one endpoint with one set of keys.

    The session token and the signature come from the same object, so after a rotation they change together.
    """

    __slots__ = (
        "_after_token", "_authorization", "_before_time", "_day", "_inner", "_outer", "_region", "_request",
        "_second", "_signature", "_signed", "keys", "shared",
    )  # fmt: skip

    def __init__(self, keys: Keys, target: Target, protocol: Mapping[str, str]) -> None:
        """``protocol``: the headers that name the protocol and the operation. They are signed."""
        self.keys = keys
        self._region = target.region
        fixed = {"Host": target.host, **protocol}
        headers = {**fixed, "User-Agent": target.user_agent, "Accept-Encoding": "identity"}
        names, lines = ["x-amz-date"], {name.lower(): f"{name.lower()}:{value}\n" for name, value in fixed.items()}
        if keys.token is not None:
            names.append("x-amz-security-token")
            headers["X-Amz-Security-Token"] = keys.token.reveal()
        self.shared = SharedHeaders(headers)
        """The headers that are the same in all calls."""
        before = "".join(lines[name] for name in sorted(lines) if name < names[0])
        after = "".join(lines[name] for name in sorted(lines) if name > names[0])
        signed = ";".join(sorted([*names, *lines]))
        self._before_time = f"POST\n{target.path}\n\n{before}x-amz-date:"
        self._after_token = f"{after}\n{signed}\n"
        self._signed = f"SignedHeaders={signed}, Signature="
        self._day = ""
        self._inner = self._outer = sha256()
        """HMAC (RFC 2104) as far as the day's key: `hmac.digest` would hash the key again for each call."""
        # The parts that change every second: calls of the same second share them.
        self._second = SigV4Time("", "")
        self._request = sha256()
        """The hash of the canonical request as far as the hash of the body."""
        self._signature = sha256()
        """The inner hash of the signature as far as the hash of the canonical request."""
        self._authorization = ""

    def headers(self, body: bytes, now: SigV4Time) -> dict[str, str]:
        """The headers of a call with this body at this time, beside the shared ones."""
        if now is not self._second:
            self._start_second(now)
        request = self._request.copy()
        request.update(sha256(body).hexdigest().encode())
        inner, outer = self._signature.copy(), self._outer.copy()
        inner.update(request.hexdigest().encode())
        outer.update(inner.digest())
        return {"X-Amz-Date": now.time, "Authorization": self._authorization + outer.hexdigest()}

    def _start_second(self, now: SigV4Time) -> None:
        if now.day != self._day:
            self._start_day(now.day)
        scope = f"{now.day}/{self._region}/{_SERVICE}/aws4_request"
        # A token has 1 KB, so no second copy is kept in memory.
        token = f"x-amz-security-token:{self.keys.token.reveal()}\n" if self.keys.token is not None else ""
        self._request = sha256(f"{self._before_time}{now.time}\n{token}{self._after_token}".encode())
        self._signature = self._inner.copy()
        self._signature.update(f"AWS4-HMAC-SHA256\n{now.time}\n{scope}\n".encode())
        self._authorization = f"AWS4-HMAC-SHA256 Credential={self.keys.access_key_id}/{scope}, {self._signed}"
        self._second = now

    def _start_day(self, day: str) -> None:
        key = f"AWS4{self.keys.secret.reveal()}".encode()
        for part in (day, self._region, _SERVICE, "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        block = key.ljust(sha256().block_size, b"\0")
        self._inner, self._outer = sha256(block.translate(_INNER)), sha256(block.translate(_OUTER))
        self._day = day
