"""PutEvents on the wire: the hot path, and the one file that leans on private names of aiobotocore and botocore.

A call made by the stock client costs five times as much, half of it work that is the same for every call. That work is
done once per process, region, destination or day here. The rest of a call is the body, two hashes, one HTTP request and
the reply. The tests in tests/eventbridge compare this file with the stock client, and fail when a library leaves the
range of versions that they were made with.

Leaned on: ``botocore.auth._host_from_url``, and what eventbridge/http.py names.

No content of a reply makes reading it raise: proxies answer for AWS with HTML, redirects and empty bodies. An error
code stands in the body's ``__type``, else in the header ``x-amzn-ErrorType``, else in the body's ``code``; without any
of them the HTTP status is the code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, final
from urllib.parse import quote, urlsplit

import orjson
from botocore.auth import _host_from_url  # type: ignore[attr-defined]

from pushrail_stream.core.text import safe_message
from pushrail_stream.eventbridge.entry import Entry
from pushrail_stream.eventbridge.error_codes import (
    UNKNOWN_RESULT,
    Answered,
    CallFailed,
    CallReply,
    EntryResult,
    Operation,
)
from pushrail_stream.eventbridge.http import Http, HttpReply, StockClients
from pushrail_stream.eventbridge.signing import Signer, SigV4Time
from pushrail_stream.settings.eventbridge import MAX_ENTRIES

if TYPE_CHECKING:
    from aiobotocore.client import AioBaseClient


class Endpoint:
    """Where one region's PutEvents calls go. It lives as long as the stock client it was made from."""

    __slots__ = ("_http", "host", "path", "refusals", "region", "user_agent")

    def __init__(self, client: AioBaseClient, http: Http, *, user_agent: str) -> None:
        self.region: str = client.meta.region_name
        self.user_agent = user_agent
        self.host: str = _host_from_url(http.url)
        self.path = quote(urlsplit(http.url).path, safe="/~")
        self._http = http
        self.refusals = ProxyRefusals()

    @classmethod
    async def of(cls, client: AioBaseClient, clients: StockClients) -> Endpoint:
        """The endpoint a stock ``events`` client would call, on the HTTP session it would use."""
        url: str = client.meta.endpoint_url
        if not urlsplit(url).path:
            url += "/"
        return cls(client, await Http.of(client, url, clients.timeouts), user_agent=clients.user_agent)

    async def put_events(self, entries: list[Entry], signer: Signer, stamp: SigV4Time) -> CallReply:
        """One PutEvents call; it raises for nothing that AWS or the network does."""
        body = orjson.dumps({"Entries": entries})
        reply = await self._http.post("PutEvents", signer.headers(body, stamp), body)
        return reply if isinstance(reply, CallFailed) else read_results(reply)

    async def describe_bus(self, bus_arn: str, signer: Signer, stamp: SigV4Time) -> CallFailed | None:
        """One DescribeEventBus call: None when the bus exists; it raises for nothing that AWS or the network does."""
        body = orjson.dumps({"Name": bus_arn})
        reply = await self._http.post("DescribeEventBus", signer.headers(body, stamp), body)
        return reply if isinstance(reply, CallFailed) else read_bus(reply, bus_arn)


SEVERAL: Final = 2
"""Destinations whose calls a proxy or firewall must refuse before that counts as our own fault."""


@final
class ProxyRefusals:
    """The destinations that a proxy or firewall has refused since AWS last answered a call to this endpoint."""

    __slots__ = ("_refused",)

    def __init__(self) -> None:
        self._refused: set[str] = set()

    def answered(self) -> None:
        """AWS answered a call to this endpoint."""
        self._refused.clear()

    def refused(self, destination_id: str) -> bool:
        """A call for this destination was refused on the way; whether that is our own fault."""
        if len(self._refused) < SEVERAL:
            self._refused.add(destination_id)
        return len(self._refused) >= SEVERAL


_ERROR_TYPE: Final = "x-amzn-ErrorType"
_QUERY_ERROR: Final = "x-amzn-query-error"
"""``CODE;FAULT``: takes the place of the code in the body, as botocore reads it."""
_OK: Final = 200
_REDIRECT: Final = 301
"""The first HTTP status that botocore treats as an error."""
_SERVER_ERROR: Final = 500
_STATUS_NAMES: Final[Mapping[int, str]] = {status.value: status.phrase for status in HTTPStatus}
_CODE: Final = re.compile(r"(?:[^:]*#)?([A-Za-z0-9_.-]{1,128})(?::.*)?", re.DOTALL)
"""An error code, perhaps after a namespace (``com.amazonaws.events#``) and before a URL (``:http://...``)."""
_MAX_ID_LENGTH: Final = 256
"""Characters kept of an event id; AWS's have 36."""


def read_results(reply: HttpReply) -> CallReply:
    """The reply to PutEvents. A 200 without a body is no success, although botocore reads it as ``{}``."""
    if reply.status != _OK:
        return _refusal("PutEvents", reply)
    results = _fields(reply.content).get("Entries")
    if type(results) is not list or len(results) > MAX_ENTRIES:
        return _no_answer("PutEvents", reply, f"without a list of at most {MAX_ENTRIES} Entries")
    return Answered(tuple([_entry_result(result) for result in results]), _OK, reply.request_id)


def read_bus(reply: HttpReply, bus_arn: str) -> CallFailed | None:
    """The reply to DescribeEventBus: None when it says that this bus exists."""
    if reply.status != _OK:
        return _refusal("DescribeEventBus", reply)
    # A proxy that answers for AWS does not know the bus's ARN.
    if _fields(reply.content).get("Arn") != bus_arn:
        return _no_answer("DescribeEventBus", reply, "that does not name the bus")
    return None


def _refusal(operation: Operation, reply: HttpReply) -> CallFailed:
    if reply.status < _REDIRECT:
        return _no_answer(operation, reply, "is no answer")
    fields = _fields(reply.content)
    code = (
        _code(reply.headers.get(_QUERY_ERROR, "").partition(";")[0])
        or _code(fields.get("__type"))
        or _code(reply.headers.get(_ERROR_TYPE))
        or _code(fields.get("code"))
        or _code(fields.get("Code"))
        or str(reply.status)
    )
    message = fields.get("message", fields.get("Message")) if fields else _page(reply)
    text = safe_message(message if type(message) is str else "")
    return CallFailed(operation, code, text, reply.status, reply.request_id)


def _page(reply: HttpReply) -> str:
    """The text of a body that is not JSON; for a server's error page only the name of its status."""
    page = reply.content.decode(errors="replace")
    is_error_page = reply.status >= _SERVER_ERROR and page.strip().startswith(("<html>", "<!DOCTYPE"))
    return _STATUS_NAMES.get(reply.status, "") if is_error_page or not page.strip() else page


def _no_answer(operation: Operation, reply: HttpReply, what: str) -> CallFailed:
    message = f"HTTP {reply.status} {what}, {len(reply.content)} bytes"
    return CallFailed(operation, UNKNOWN_RESULT, message, reply.status, reply.request_id)


def _fields(content: bytes) -> dict[str, Any]:
    """The body's JSON object; empty when the body is not one."""
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return value if type(value) is dict else {}


def _entry_result(result: Any) -> EntryResult:
    if type(result) is not dict:
        return EntryResult(None, None, None)
    event_id = result.get("EventId")
    if type(event_id) is not str or len(event_id) > _MAX_ID_LENGTH:
        event_id = event_id[:_MAX_ID_LENGTH] if type(event_id) is str else None
    if event_id is not None and len(result) == 1:
        return EntryResult(event_id, None, None)
    code = result.get("ErrorCode")
    if code is None or code == "":
        return EntryResult(event_id, None, None)
    return EntryResult(event_id, _code(code) or UNKNOWN_RESULT, _text(result.get("ErrorMessage")))


def _code(value: Any) -> str | None:
    found = _CODE.fullmatch(value) if type(value) is str else None
    return found and found[1]


def _text(value: Any) -> str | None:
    return value if type(value) is str else None
