"""One region's endpoint of EventBridge: the hot path, and a file that relies on a private name of botocore.

The stock client costs five times as much per call, half of it for work that is the same for every call. That work is
done here once per process, region, destination or day. A call then needs its body, two hashes, one HTTP request and the
reply. The tests in tests/eventbridge compare this file with the stock client, and fail when a library leaves the range
of versions that they were made with.

No content of a reply makes reading it raise: proxies answer for AWS with HTML, redirects and empty bodies. An error
code is in the body's ``__type``, else in the header ``x-amzn-ErrorType``, else in the body's ``code``; without any of
them the HTTP status is the code.

Private names: ``botocore.auth._host_from_url``, and those that http.py and proxied.py list.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, final
from urllib.parse import quote, urlsplit

import orjson
from botocore.auth import _host_from_url  # type: ignore[attr-defined]

from pushrail_stream.core.outcome import Delivered
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
from pushrail_stream.eventbridge.signing import Signer, SigV4Time, Target
from pushrail_stream.settings.eventbridge import MAX_ENTRIES

if TYPE_CHECKING:
    from aiobotocore.client import AioBaseClient


_ERROR_TYPE: Final = b"x-amzn-errortype"
_QUERY_ERROR: Final = b"x-amzn-query-error"
"""``CODE;FAULT``: replaces the code in the body, as in botocore."""
_OK: Final = 200
_REDIRECT: Final = 301
"""The first HTTP status that botocore treats as an error."""
_SERVER_ERROR: Final = 500
_STATUS_NAMES: Final[Mapping[int, str]] = {status.value: status.phrase for status in HTTPStatus}
_CODE: Final = re.compile(r"(?:[^:]*#)?([A-Za-z0-9_.-]{1,128})(?::.*)?", re.DOTALL)
"""An error code, perhaps after a namespace (``com.amazonaws.events#``) and before a URL (``:http://...``)."""
_MAX_ID_LENGTH: Final = 256
"""Characters kept of an event id; AWS's have 36."""
SEVERAL: Final = 2
"""Destinations that a proxy or firewall must refuse before the refusals count as our own fault."""


class Endpoint:
    """Makes calls to one region's EventBridge. It lives as long as the stock client it was made from."""

    __slots__ = ("_http", "refusals", "target")

    def __init__(self, client: AioBaseClient, http: Http, user_agent: str) -> None:
        path = quote(urlsplit(http.url).path, safe="/~")
        self.target = Target(client.meta.region_name, _host_from_url(http.url), path, user_agent)
        self._http = http
        self.refusals = ProxyRefusals()

    @classmethod
    async def of(cls, client: AioBaseClient, clients: StockClients) -> Endpoint:
        """The endpoint that a stock ``events`` client would call, on the HTTP session it would use."""
        url: str = client.meta.endpoint_url
        if not urlsplit(url).path:
            url += "/"
        return cls(client, await Http.of(client, url, clients), clients.user_agent)

    async def put_events(self, entries: list[Entry], signer: Signer, now: SigV4Time) -> CallReply:
        """Make one PutEvents call. Raises for nothing that AWS or the network does."""
        body = orjson.dumps({"Entries": entries})
        reply = await self._http.post("PutEvents", signer.headers(body, now), body, signer.shared)
        return reply if isinstance(reply, CallFailed) else read_results(reply)

    async def describe_bus(self, bus_arn: str, signer: Signer, now: SigV4Time) -> CallFailed | None:
        """Make one DescribeEventBus call; None when the bus exists. Raises no error, like `put_events`."""
        body = orjson.dumps({"Name": bus_arn})
        reply = await self._http.post("DescribeEventBus", signer.headers(body, now), body, signer.shared)
        return reply if isinstance(reply, CallFailed) else read_bus(reply, bus_arn)


@final
class ProxyRefusals:
    """The destinations that a proxy or firewall has refused since AWS last answered a call to this endpoint.

    A proxy treats all customers alike: when it refuses several destinations and AWS answers none, the fault is ours.
    """

    __slots__ = ("_refused",)

    def __init__(self) -> None:
        self._refused: set[str] = set()

    def answered(self) -> None:
        """AWS answered a call to this endpoint."""
        self._refused.clear()

    def refused(self, destination_id: str) -> bool:
        """Note that a call for this destination was refused on its way to AWS; return whether that is our own fault."""
        if len(self._refused) < SEVERAL:
            self._refused.add(destination_id)
        return len(self._refused) >= SEVERAL


def read_results(reply: HttpReply) -> CallReply:
    """The reply to PutEvents. A 200 without a body is a failure, although botocore reads it as ``{}``."""
    if reply.status != _OK:
        return _refusal("PutEvents", reply)
    results = _fields(reply.content).get("Entries")
    if type(results) is not list or len(results) > MAX_ENTRIES:
        return reply.unreadable("PutEvents", f"without a list of at most {MAX_ENTRIES} Entries")
    return Answered(tuple([_entry_result(result) for result in results]), _OK, reply.request_id)


def read_bus(reply: HttpReply, bus_arn: str) -> CallFailed | None:
    """The reply to DescribeEventBus; None when it says that this bus exists."""
    if reply.status != _OK:
        return _refusal("DescribeEventBus", reply)
    # A proxy that answers for AWS does not know the bus's ARN.
    if _fields(reply.content).get("Arn") != bus_arn:
        return reply.unreadable("DescribeEventBus", "that does not name the bus")
    return None


def _refusal(operation: Operation, reply: HttpReply) -> CallFailed:
    if reply.status < _REDIRECT:
        return reply.unreadable(operation, "is no answer")
    fields = _fields(reply.content)
    code = (
        _code((reply.header(_QUERY_ERROR) or "").partition(";")[0])
        or _code(fields.get("__type"))
        or _code(reply.header(_ERROR_TYPE))
        or _code(fields.get("code"))
        or _code(fields.get("Code"))
        or str(reply.status)
    )
    message = fields.get("message", fields.get("Message")) if fields else _page(reply)
    text = safe_message(message if type(message) is str else "")
    return reply.failed(operation, code, text)


def _page(reply: HttpReply) -> str:
    """The text of a body that is not JSON; for a server's error page, only the name of its status."""
    page = reply.content.decode(errors="replace")
    is_error_page = reply.status >= _SERVER_ERROR and page.strip().startswith(("<html>", "<!DOCTYPE"))
    return _STATUS_NAMES.get(reply.status, "") if is_error_page or not page.strip() else page


def _fields(content: bytes) -> dict[str, Any]:
    """The body's JSON object; empty when the body is not one."""
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return value if type(value) is dict else {}


def _entry_result(result: Any) -> Delivered | EntryResult:
    if type(result) is not dict:
        return EntryResult(None, None, None)
    event_id = result.get("EventId")
    event_id = event_id[:_MAX_ID_LENGTH] if type(event_id) is str else None
    if event_id and len(result) == 1:
        return Delivered(event_id)
    code = result.get("ErrorCode")
    if code is None or code == "":
        return EntryResult(event_id, None, None)
    return EntryResult(event_id, _code(code) or UNKNOWN_RESULT, _text(result.get("ErrorMessage")))


def _code(value: Any) -> str | None:
    found = _CODE.fullmatch(value) if type(value) is str else None
    return found and found[1]


def _text(value: Any) -> str | None:
    return value if type(value) is str else None
