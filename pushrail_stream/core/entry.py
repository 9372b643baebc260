"""The entry: one event rendered for one destination, in PutEvents' own words.

Deterministic: the same event and destination give the same entry for ever, so that a replay re-emits what was sent.
"""

from __future__ import annotations

from typing import Final, NotRequired, TypedDict

from pushrail_stream.core.destination import Destination
from pushrail_stream.core.event import Event, utf8_length

MAX_ENTRIES: Final = 10
"""Entries in one PutEvents call (botocore service model)."""
MAX_REQUEST_BYTES: Final = 1_048_576
"""Largest sum of entry sizes in one call (AWS documentation; 262,144 before 2026-01-29)."""
_TIME_BYTES: Final = 14
"""What AWS counts for a ``Time`` field, whatever its value."""


class Entry(TypedDict):
    """PutEvents request entry (contract 3.3)."""

    Time: int
    """Epoch seconds: EventBridge keeps no fraction."""
    Source: str
    Resources: list[str]
    DetailType: str
    Detail: str
    EventBusName: str
    TraceHeader: NotRequired[str]


def render(event: Event, destination: Destination) -> Entry:
    """The entry of this event for this destination; ``Detail`` is the produced JSON, byte for byte."""
    entry: Entry = {
        "Time": event.occurred_at_ms // 1000,
        "Source": destination.source,
        "Resources": [event.customer_external_id, event.idempotency_key],
        "DetailType": event.event_type,
        "Detail": event.value.decode(),
        "EventBusName": destination.bus_arn,
    }
    if event.trace_header is not None:
        entry["TraceHeader"] = event.trace_header
    return entry


def entry_size(event: Event, destination: Destination) -> int:
    """Bytes AWS counts for the entry, known before it is rendered. Bus name and trace header do not count."""
    return _TIME_BYTES + event.size + utf8_length(destination.source)
