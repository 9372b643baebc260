"""PutEvents on the wire: the hot path, and the one file that leans on private names of aiobotocore and botocore.

A call made by the stock client costs five times as much, half of it work that is the same for every call. That work is
done once per process, region, destination or day here. The rest of a call is the body, two hashes, one HTTP request and
the reply. The tests in tests/eventbridge compare this file with the stock client, and fail when a library leaves the
range of versions that they were made with.

Leaned on: ``botocore.auth._host_from_url``, and what eventbridge/http.py names.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote, urlsplit

import aiohttp
import orjson
from botocore.auth import _host_from_url  # type: ignore[attr-defined]

from pushrail_stream.core.entry import Entry
from pushrail_stream.core.outcome import CallFailed, Reply
from pushrail_stream.eventbridge.denials import RefusalsOnTheWay
from pushrail_stream.eventbridge.http import Http
from pushrail_stream.eventbridge.keys import Keys
from pushrail_stream.eventbridge.replies import read_bus, read_results

if TYPE_CHECKING:
    from aiobotocore.client import AioBaseClient

CONTENT_TYPE: Final = "application/x-amz-json-1.1"
PUT_EVENTS: Final = "AWSEvents.PutEvents"
DESCRIBE_EVENT_BUS: Final = "AWSEvents.DescribeEventBus"
"""``jsonVersion`` and ``targetPrefix`` of the botocore service model ``events``."""
_SERVICE: Final = "events"


class Stamp(NamedTuple):
    """A call's time as Signature Version 4 writes it."""

    time: str
    """``20261101T120000Z``"""
    day: str
    """``20261101``"""


class Stamps:
    """The stamp of now, written once a second."""

    __slots__ = ("_now", "_second", "_stamp")

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._second = -1
        self._stamp = Stamp("", "")

    def read(self) -> tuple[float, Stamp]:
        """Now, in epoch seconds and as a stamp."""
        now = self._now()
        epoch = now.timestamp()
        second = int(epoch)
        if second != self._second:
            time = f"{now:%Y%m%dT%H%M%SZ}"
            self._stamp = Stamp(time, time[:8])
            self._second = second
        return epoch, self._stamp


class Signer:
    """Signature Version 4 of one operation's calls to one endpoint with one set of keys.

    Token header and signature come from the same object, so after a rotation they change together.
    """

    __slots__ = ("_after_time", "_before_time", "_day", "_headers", "_key", "_region", "_scope", "_signed", "keys")

    def __init__(self, keys: Keys, endpoint: Endpoint, target: str = PUT_EVENTS) -> None:
        self.keys = keys
        self._region = endpoint.region
        signed = "content-type;host;x-amz-date;x-amz-target"
        self._headers = {
            "Host": endpoint.host,
            "X-Amz-Target": target,
            "Content-Type": CONTENT_TYPE,
            "User-Agent": endpoint.user_agent,
            "Accept-Encoding": "identity",
        }
        token_line = ""
        if keys.token is not None:
            signed = "content-type;host;x-amz-date;x-amz-security-token;x-amz-target"
            self._headers["X-Amz-Security-Token"] = keys.token.reveal()
            token_line = f"x-amz-security-token:{keys.token.reveal()}\n"
        self._before_time = f"POST\n{endpoint.path}\n\ncontent-type:{CONTENT_TYPE}\nhost:{endpoint.host}\nx-amz-date:"
        self._after_time = f"\n{token_line}x-amz-target:{target}\n\n{signed}\n"
        self._signed = f"SignedHeaders={signed}, Signature="
        self._day = self._scope = ""
        self._key = b""

    def headers(self, body: bytes, stamp: Stamp) -> dict[str, str]:
        """The headers of a call with this body at this time."""
        if stamp.day != self._day:
            self._start_day(stamp.day)
        request = f"{self._before_time}{stamp.time}{self._after_time}{sha256(body).hexdigest()}"
        digest = sha256(request.encode()).hexdigest()
        to_sign = f"AWS4-HMAC-SHA256\n{stamp.time}\n{self._scope}\n{digest}"
        signature = hmac.digest(self._key, to_sign.encode(), "sha256").hex()
        credential = f"AWS4-HMAC-SHA256 Credential={self.keys.access_key_id}/{self._scope}"
        return {**self._headers, "X-Amz-Date": stamp.time, "Authorization": f"{credential}, {self._signed}{signature}"}

    def _start_day(self, day: str) -> None:
        key = f"AWS4{self.keys.secret.reveal()}".encode()
        for part in (day, self._region, _SERVICE, "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        self._day, self._key = day, key
        self._scope = f"{day}/{self._region}/{_SERVICE}/aws4_request"


class Endpoint:
    """Where one region's PutEvents calls go. It lives as long as the stock client it was made from."""

    __slots__ = ("_http", "host", "path", "refusals", "region", "user_agent")

    def __init__(self, client: AioBaseClient, http: Http, *, user_agent: str) -> None:
        self.region: str = client.meta.region_name
        self.user_agent = user_agent
        self.host: str = _host_from_url(http.url)
        self.path = quote(urlsplit(http.url).path, safe="/~")
        self._http = http
        self.refusals = RefusalsOnTheWay()

    @classmethod
    async def of(cls, client: AioBaseClient, *, user_agent: str, timeout: aiohttp.ClientTimeout) -> Endpoint:
        """The endpoint a stock ``events`` client would call, on the HTTP session it would use."""
        url: str = client.meta.endpoint_url
        if not urlsplit(url).path:
            url += "/"
        return cls(client, await Http.of(client, url, timeout), user_agent=user_agent)

    async def put_events(self, entries: list[Entry], signer: Signer, stamp: Stamp) -> Reply:
        """One PutEvents call; it raises for nothing that AWS or the network does."""
        body = orjson.dumps({"Entries": entries})
        reply = await self._http.post("PutEvents", signer.headers(body, stamp), body)
        return reply if isinstance(reply, CallFailed) else read_results(reply)

    async def describe_bus(self, bus_arn: str, signer: Signer, stamp: Stamp) -> CallFailed | None:
        """One DescribeEventBus call: None when the bus exists; it raises for nothing that AWS or the network does."""
        body = orjson.dumps({"Name": bus_arn})
        reply = await self._http.post("DescribeEventBus", signer.headers(body, stamp), body)
        return reply if isinstance(reply, CallFailed) else read_bus(reply, bus_arn)
