"""Partner event sources: the limits of PutPartnerEvents and the reply of ListPartnerEventSourceAccounts.

Shapes, limits and states are those of botocore's service model ``events``. AWS does not document the fate of an event
for a source without a customer's bus: here it is taken and discarded, as PutEvents does with a missing bus.
"""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from pushrail_stream.sandbox.bus.entries import Refusal, invalid, number_refusal, resource_refusal, size_refusal
from pushrail_stream.sandbox.bus.identity import Directory
from pushrail_stream.sandbox.bus.replies import json_error
from pushrail_stream.sandbox.bus.wire import JSON_1_1, Reply

MAX_PARTNER_ENTRIES: Final = 20
SOURCE_PATTERN: Final = r"aws\.partner(/[\.\-_A-Za-z0-9]+){2,}"
_SOURCE: Final = re.compile(SOURCE_PATTERN, re.ASCII)
_MAX_SOURCE: Final = 256


def partner_limit_refusal(entries: list[dict[str, Any]], body_bytes: int) -> Refusal | None:
    """The refusal of a PutPartnerEvents call whose entries break the limits of the service model."""
    if refusal := number_refusal(entries, MAX_PARTNER_ENTRIES, "PutPartnerEventsRequestEntry"):
        return refusal
    for number, entry in enumerate(entries, start=1):
        source = entry.get("Source")
        if source is not None and not _is_source(source):
            return _not_a_source(source, f"entries.{number}.member.source")
        if refusal := resource_refusal(entry, number):
            return refusal
    return size_refusal(entries, body_bytes)


def read_source(body: bytes) -> str | Refusal:
    """The event source that a body of ListPartnerEventSourceAccounts asks for, or the refusal of the call."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = None
    source = document.get("EventSourceName") if isinstance(document, dict) else None
    if not isinstance(source, str):
        return invalid("null", "eventSourceName", "not be null")
    return source if _is_source(source) else _not_a_source(source, "eventSourceName")


def answer_accounts(directory: Directory, bus: str, request_id: str) -> Reply:
    """The reply for the event source of this bus, which has one customer's account at most."""
    account, name = bus.split(":")[4], bus.partition(":event-bus/")[2]
    if directory.bus_exists(bus):
        state = "ACTIVE"
    elif bus in directory.offers:
        state = "PENDING"
    else:
        return json_error(400, "ResourceNotFoundException", f"Event source {name} does not exist.", request_id)
    answer = {"PartnerEventSourceAccounts": [{"Account": account, "State": state}]}
    return Reply(200, orjson.dumps(answer), JSON_1_1, request_id)


def source_arn(bus: str) -> str:
    """The ARN of the event source of a partner's bus."""
    head, _, name = bus.partition(":event-bus/")
    return f"{head.rpartition(':')[0]}::event-source/{name}"


def _is_source(name: str) -> bool:
    return len(name) <= _MAX_SOURCE and _SOURCE.fullmatch(name) is not None


def _not_a_source(name: str, where: str) -> Refusal:
    return invalid(f"'{name[:200]}'", where, f"satisfy regular expression pattern: {SOURCE_PATTERN}")
