"""One region's endpoint of EventBridge: the hot path, and a file that relies on a private name of botocore.

The stock client costs five times as much per call, half of it for work that is the same for every call. That work is
done here once per process, region, destination or day. A call then needs its body, two hashes, one HTTP request and the
reply. The tests in tests/eventbridge compare this file with the stock client, and fail when a library leaves the range
of versions that they were made with.

Private names: ``botocore.auth._host_from_url``, and those that http.py and proxied.py list.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote, urlsplit

import orjson
from botocore.auth import _host_from_url  # type: ignore[attr-defined]

from pushrail_stream.core.destination import Destination
from pushrail_stream.core.event import Event
from pushrail_stream.core.outcome import Delivered
from pushrail_stream.eventbridge.entry import render
from pushrail_stream.eventbridge.error_codes import UNKNOWN_RESULT, Answered, CallFailed, CallReply, EntryResult
from pushrail_stream.eventbridge.http import Http, HttpReply, StockClients
from pushrail_stream.eventbridge.refusals import ProxyRefusals, code_of, json_fields, refusal, text_of
from pushrail_stream.eventbridge.signing import Keys, Signer, SigV4Time, Target, json_headers
from pushrail_stream.settings.eventbridge import CLASSIC

if TYPE_CHECKING:
    from aiobotocore.client import AioBaseClient


_OK: Final = 200
_MAX_ENTRIES: Final = CLASSIC.limits.max_entries
_MAX_ID_LENGTH: Final = 256
"""Characters kept of an event id; AWS's have 36."""


class Endpoint:
    """Makes calls to one region's EventBridge. It lives as long as the stock client it was made from."""

    __slots__ = ("_http", "refusals", "target")

    def __init__(self, region: str, http: Http, user_agent: str) -> None:
        self.target = target_of(region, http.url, user_agent)
        self._http = http
        self.refusals = ProxyRefusals()

    @classmethod
    async def of(cls, client: AioBaseClient, clients: StockClients) -> Self:
        """The endpoint that a stock ``events`` client would call, on the HTTP session it would use."""
        url: str = client.meta.endpoint_url
        if not urlsplit(url).path:
            url += "/"
        return cls(client.meta.region_name, await Http.of(client, url, clients), clients.user_agent)

    def signer(self, keys: Keys) -> Signer:
        """Signs calls of `put_events`."""
        return Signer(keys, self.target, json_headers("PutEvents"))

    async def put_events(
        self, destination: Destination, events: Iterable[Event], signer: Signer, now: SigV4Time
    ) -> CallReply:
        """Make one PutEvents call. Raises for nothing that AWS or the network does."""
        body = orjson.dumps({"Entries": [render(event, destination) for event in events]})
        reply = await self._http.post("PutEvents", signer.headers(body, now), body, signer.shared)
        return reply if isinstance(reply, CallFailed) else read_results(reply)

    async def describe_bus(self, bus_arn: str, keys: Keys, now: SigV4Time) -> CallFailed | None:
        """Make one DescribeEventBus call; None when the bus exists. Raises no error, like `put_events`."""
        signer = Signer(keys, self.target, json_headers("DescribeEventBus"))
        body = orjson.dumps({"Name": bus_arn})
        reply = await self._http.post("DescribeEventBus", signer.headers(body, now), body, signer.shared)
        return reply if isinstance(reply, CallFailed) else read_bus(reply, bus_arn)


def target_of(region: str, url: str, user_agent: str) -> Target:
    """The target of calls to this URL."""
    return Target(region, _host_from_url(url), quote(urlsplit(url).path, safe="/~"), user_agent)


def read_results(reply: HttpReply, max_entries: int = _MAX_ENTRIES) -> CallReply:
    """The reply to PutEvents, or to an operation like it.

    A 200 without a body is a failure, although botocore reads it as ``{}``.
    """
    if reply.status != _OK:
        return refusal("PutEvents", reply, json_fields(reply.content))
    results = json_fields(reply.content).get("Entries")
    if type(results) is not list or len(results) > max_entries:
        return reply.unreadable("PutEvents", f"without a list of at most {max_entries} Entries")
    return Answered(tuple([_entry_result(result) for result in results]), _OK, reply.request_id)


def read_bus(reply: HttpReply, bus_arn: str) -> CallFailed | None:
    """The reply to DescribeEventBus; None when it says that this bus exists."""
    if reply.status != _OK:
        return refusal("DescribeEventBus", reply, json_fields(reply.content))
    # A proxy that answers for AWS does not know the bus's ARN.
    if json_fields(reply.content).get("Arn") != bus_arn:
        return reply.unreadable("DescribeEventBus", "that does not name the bus")
    return None


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
    return EntryResult(event_id, code_of(code) or UNKNOWN_RESULT, text_of(result.get("ErrorMessage")))
