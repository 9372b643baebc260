"""Posts each notice to an address of the operator's, signed as Standard Webhooks says (standardwebhooks.com).

Nothing waits for it: notices queue up to a bound, one is posted at a time, and those that find no room or no taker are
dropped and counted.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import Final, Self, final

import aiohttp
import orjson

from pushrail_stream.errors import UsageError
from pushrail_stream.settings.model import NoticesSettings

_MAX_WAITING: Final = 1_000
"""Notices that wait for their turn: about 0.5 MB. A region that fails may suspend as many destinations at once."""
_PAUSES_SECS: Final = (1.0, 5.0, 30.0, 120.0)
"""Seconds before each further attempt: a receiver that restarts is back by the last one."""
_TIMEOUT: Final = aiohttp.ClientTimeout(total=15.0)
"""Longest time for one attempt: the least that Standard Webhooks recommends."""
_PREFIX: Final = "whsec_"
_SECRET_BYTES: Final = range(24, 65)
"""Lengths of a secret (Standard Webhooks, "Signature scheme")."""
_GOOD: Final = range(200, 300)


@final
class Webhook:
    """The address, and the notices that wait to be posted there. Lives on the event loop."""

    def __init__(self, url: str | None, secret: bytes, now_ms: Callable[[], int]) -> None:
        """``url``: None posts nothing."""
        self._url = url
        self._secret = secret
        self._now_ms = now_ms
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue(_MAX_WAITING)
        self.lost = 0
        """Notices that were dropped."""

    @classmethod
    def of(cls, settings: NoticesSettings, environ: Mapping[str, str], now_ms: Callable[[], int]) -> Self:
        """The webhook of the settings. Raises `UsageError` when its secret is missing or is none."""
        name = (settings.webhook_secret or "").removeprefix("env:")
        return cls(settings.webhook_url, _secret_of(name, environ) if settings.webhook_url else b"", now_ms)

    def append(self, _key: bytes, *values: bytes) -> None:
        """Post these notices when their turn comes. It never waits and never raises."""
        for value in values if self._url is not None else ():
            try:
                self._waiting.put_nowait(value)
            except asyncio.QueueFull:
                self.lost += 1

    async def keep(self) -> None:
        """Post one notice after the other until cancelled."""
        if self._url is None:
            return
        # No cookies and no redirects: the receiver is the one that the operator named.
        async with aiohttp.ClientSession(
            timeout=_TIMEOUT, cookie_jar=aiohttp.DummyCookieJar(), trust_env=True
        ) as session:
            while True:
                await self._deliver(session, self._url, await self._waiting.get())

    async def _deliver(self, session: aiohttp.ClientSession, url: str, notice: bytes) -> None:
        for pause_secs in _PAUSES_SECS:
            if await self._post(session, url, notice):
                return
            await asyncio.sleep(pause_secs)
        if not await self._post(session, url, notice):
            self.lost += 1

    async def _post(self, session: aiohttp.ClientSession, url: str, notice: bytes) -> bool:
        """Whether the receiver has taken it."""
        headers = self._headers(notice)
        try:
            async with session.post(url, data=notice, headers=headers, allow_redirects=False) as reply:
                return reply.status in _GOOD
        except (aiohttp.ClientError, OSError, ValueError):  # ValueError: a host or a proxy's address that is none
            return False

    def _headers(self, notice: bytes) -> dict[str, str]:
        """The id is the same in each attempt, so that the receiver knows a repeat; the time is this attempt's."""
        message_id, timestamp = str(orjson.loads(notice)["id"]), str(self._now_ms() // 1000)
        signed = f"{message_id}.{timestamp}.".encode() + notice
        signature = base64.b64encode(hmac.digest(self._secret, signed, hashlib.sha256)).decode()
        return {
            "content-type": "application/cloudevents+json; charset=UTF-8",
            "webhook-id": message_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": f"v1,{signature}",
        }


def _secret_of(name: str, environ: Mapping[str, str]) -> bytes:
    """The secret in a variable. The error quotes none of it."""
    text = environ.get(name, "").strip()
    if not text:
        raise UsageError(f"notices.webhook_secret: environment variable {name} is not set")
    try:
        secret = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if len(secret) not in _SECRET_BYTES:
        raise UsageError(
            f"notices.webhook_secret: environment variable {name} must hold {_PREFIX} and 24 to 64 bytes in base64"
        )
    return secret
