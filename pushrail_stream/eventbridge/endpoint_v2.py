"""An endpoint of eventbridgev2: that of one account in one region, spoken to in Smithy's protocol RPC v2 CBOR.

Times, paths and shapes are those of botocore's service model ``eventbridgev2``. The stock client tells the URL of each
account; the calls are ours, as those of classic buses are (endpoint.py). No content of a reply makes reading it raise.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, Literal

import cbor2

from pushrail_stream.core.destination import Destination
from pushrail_stream.core.event import Event
from pushrail_stream.core.outcome import BUS_NOT_FOUND, Delivered
from pushrail_stream.eventbridge.endpoint import target_of
from pushrail_stream.eventbridge.entry_v2 import render
from pushrail_stream.eventbridge.error_codes import UNKNOWN_RESULT, Answered, CallFailed, CallReply, EntryResult
from pushrail_stream.eventbridge.http import Http, HttpReply, StockClients
from pushrail_stream.eventbridge.refusals import ProxyRefusals, code_of, json_fields, refusal, text_of
from pushrail_stream.eventbridge.signing import Keys, Signer, SigV4Time
from pushrail_stream.settings.eventbridge import V2

if TYPE_CHECKING:
    from aiobotocore.client import AioBaseClient

PROTOCOL: Final = {
    "Smithy-Protocol": "rpc-v2-cbor",
    "Accept": "application/cbor",
    "Content-Type": "application/cbor",
}
"""The headers that name the protocol. The operation is in the path."""
_OK: Final = 200
_MAX_ENTRIES: Final = V2.limits.max_entries
_MAX_ID_LENGTH: Final = 128
"""Characters kept of an event id (``EventId`` of the service model)."""


class EndpointV2:
    """Makes calls to the eventbridgev2 of one account and region. It lives as long as the stock client."""

    __slots__ = ("_client", "_clients", "_http", "refusals", "target")

    def __init__(self, client: AioBaseClient, clients: StockClients, http: Http, refusals: ProxyRefusals) -> None:
        """``refusals``: those of the whole region, since a proxy treats all accounts alike."""
        self.target = target_of(client.meta.region_name, http.url, clients.user_agent)
        self._client = client
        self._clients = clients
        self._http = http
        self.refusals = refusals

    @classmethod
    async def of(
        cls, client: AioBaseClient, clients: StockClients, bus_arn: str, refusals: ProxyRefusals
    ) -> EndpointV2:
        """The endpoint that a stock client would call for this bus. ``client``: of `StockClients.open_v2`."""
        return cls(client, clients, await _http(client, clients, "PutEvents", bus_arn), refusals)

    def signer(self, keys: Keys) -> Signer:
        """Signs calls of `put_events`."""
        return Signer(keys, self.target, PROTOCOL)

    async def put_events(
        self, destination: Destination, events: Iterable[Event], signer: Signer, now: SigV4Time
    ) -> CallReply:
        """Make one PutEvents call. Raises for nothing that AWS or the network does."""
        entries = [render(event, destination) for event in events]
        body = cbor2.dumps({"EventBusArn": destination.bus.arn, "Entries": entries})
        reply = await self._http.post("PutEvents", signer.headers(body, now), body, signer.shared)
        return reply if isinstance(reply, CallFailed) else read_results(reply)

    async def describe_bus(self, bus_arn: str, keys: Keys, now: SigV4Time) -> CallFailed | None:
        """Make one DescribeEventBus call; None when the bus can take events. Raises no error, like `put_events`."""
        http = await _http(self._client, self._clients, "DescribeEventBus", bus_arn)
        target = target_of(self.target.region, http.url, self.target.user_agent)
        signer, body = Signer(keys, target, PROTOCOL), cbor2.dumps({"EventBusArn": bus_arn})
        reply = await http.post("DescribeEventBus", signer.headers(body, now), body, signer.shared)
        return reply if isinstance(reply, CallFailed) else read_bus(reply, bus_arn)


async def _http(
    client: Any, clients: StockClients, operation: Literal["PutEvents", "DescribeEventBus"], arn: str
) -> Http:
    if operation == "PutEvents":
        asked = await client.put_events(EventBusArn=arn, Entries=[{"Source": "none", "DetailType": "none"}])
    else:
        asked = await client.describe_event_bus(EventBusArn=arn)
    return await Http.of(client, asked["url"], clients)


def read_results(reply: HttpReply) -> CallReply:
    """The reply to PutEvents."""
    fields = _fields(reply.content)
    if reply.status != _OK:
        return _refusal(reply, fields)
    results = fields.get("Entries")
    if type(results) is not list or len(results) > _MAX_ENTRIES:
        return reply.unreadable("PutEvents", f"without a list of at most {_MAX_ENTRIES} Entries")
    return Answered(tuple([_entry_result(result) for result in results]), _OK, reply.request_id)


def read_bus(reply: HttpReply, bus_arn: str) -> CallFailed | None:
    """The reply to DescribeEventBus; None when it says that this bus exists."""
    fields = _fields(reply.content)
    if reply.status != _OK:
        return refusal("DescribeEventBus", reply, fields)
    # A proxy that answers for AWS does not know the bus's ARN.
    if fields.get("EventBusArn") != bus_arn:
        return reply.unreadable("DescribeEventBus", "that does not name the bus")
    return None


def _refusal(reply: HttpReply, fields: dict[str, Any]) -> CallFailed:
    """The failure of PutEvents. Unlike a classic bus, a missing one is told by the call itself."""
    failed = refusal("PutEvents", reply, fields)
    is_missing = failed.code.removesuffix("Exception") == "ResourceNotFound"
    return failed._replace(code=BUS_NOT_FOUND) if is_missing else failed


def _entry_result(result: Any) -> Delivered | EntryResult:
    if type(result) is not dict:
        return EntryResult(None, None, None)
    event_id = (text_of(result.get("EventId")) or "")[:_MAX_ID_LENGTH]
    code = result.get("ErrorCode")
    if code is not None and code != "":
        return EntryResult(event_id, code_of(code) or UNKNOWN_RESULT, text_of(result.get("ErrorMessage")))
    match result.get("SuccessCode"):
        case "DEDUPLICATED":
            return Delivered(event_id, is_repeat=True)
        case "PUBLISHED":
            return Delivered(event_id)
        case _:
            return EntryResult(event_id, None, None)


def _fields(content: bytes) -> dict[str, Any]:
    """The body's fields; empty when the body has none. A front end of AWS may answer in JSON."""
    try:
        value = cbor2.loads(content)
    except Exception:  # noqa: BLE001 - bytes that are no CBOR of ours make its decoder raise almost anything
        return json_fields(content)
    if type(value) is not dict:
        return json_fields(content)
    return value
