"""PutPartnerEvents: calls to event sources that we, as a partner of AWS, have made for customers.

Host, protocol and signature are those of classic buses (endpoint.py). An entry names the event source; it has no bus
and no trace header. No document of AWS tells that a call fails for an event source without a customer's bus, so the
state of the source is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import orjson

from pushrail_stream.core.destination import Destination
from pushrail_stream.core.event import Event
from pushrail_stream.core.text import safe_message
from pushrail_stream.eventbridge.endpoint import Endpoint, read_results
from pushrail_stream.eventbridge.entry import render
from pushrail_stream.eventbridge.error_codes import CallFailed, CallReply
from pushrail_stream.eventbridge.http import HttpReply
from pushrail_stream.eventbridge.refusals import json_fields, refusal
from pushrail_stream.eventbridge.signing import Keys, Signer, SigV4Time, json_headers
from pushrail_stream.settings.eventbridge import PARTNER
from pushrail_stream.settings.values import Arn

_NOT_TAKEN: Final = ("EventBusName", "TraceHeader")
"""The fields of an entry of PutEvents that one of PutPartnerEvents does not have."""
_OK: Final = 200
_SHOWN_CHARS: Final = 20
"""Characters of a state that are shown; those of AWS have 7."""


class PartnerEndpoint(Endpoint):
    """Makes calls to event sources of one region. It lives as long as the stock client it was made from."""

    __slots__ = ()

    def signer(self, keys: Keys) -> Signer:
        """Signs calls of `put_events`."""
        return Signer(keys, self.target, json_headers(PARTNER.operation))

    async def put_events(
        self, destination: Destination, events: Iterable[Event], signer: Signer, now: SigV4Time
    ) -> CallReply:
        """Make one PutPartnerEvents call. Raises for nothing that AWS or the network does."""
        body = orjson.dumps({"Entries": [render_partner(event, destination) for event in events]})
        reply = await self._http.post("PutEvents", signer.headers(body, now), body, signer.shared)
        return reply if isinstance(reply, CallFailed) else read_results(reply, PARTNER.limits.max_entries)

    async def describe_bus(self, bus_arn: str, keys: Keys, now: SigV4Time) -> CallFailed | None:
        """Ask for the state of the event source; None when the account of the bus has made its bus for it."""
        signer = Signer(keys, self.target, json_headers(PARTNER.check))
        body = orjson.dumps({"EventSourceName": Arn.of(bus_arn).name})
        reply = await self._http.post("DescribeEventBus", signer.headers(body, now), body, signer.shared)
        return reply if isinstance(reply, CallFailed) else read_accounts(reply, Arn.of(bus_arn).account)


def render_partner(event: Event, destination: Destination) -> dict[str, Any]:
    """The entry of this event for this destination, whose `source` is the event source."""
    return {name: value for name, value in render(event, destination).items() if name not in _NOT_TAKEN}


def read_accounts(reply: HttpReply, account: str) -> CallFailed | None:
    """The reply to ListPartnerEventSourceAccounts; None when it says that this account has made its bus."""
    fields = json_fields(reply.content)
    if reply.status != _OK:
        return refusal("DescribeEventBus", reply, fields)
    accounts = fields.get("PartnerEventSourceAccounts")
    if type(accounts) is not list or fields.get("NextToken"):
        return reply.unreadable("DescribeEventBus", "without the accounts of the event source")
    states = [one.get("State") for one in accounts if type(one) is dict and one.get("Account") == account]
    if "ACTIVE" in states:
        return None
    state = safe_message(str(states[0]))[:_SHOWN_CHARS] if states else f"not offered to account {account}"
    return reply.failed("DescribeEventBus", "ResourceNotFoundException", f"the event source is {state}")
