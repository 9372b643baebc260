"""Entries: one event rendered for one destination in PutEvents' own words, and the limits of one call.

Rendering is deterministic: the same event and destination always give the same entry, so a replay sends again exactly
the bytes that were sent before.
"""

from __future__ import annotations

from typing import Final, NotRequired, TypedDict, final

from pushrail_stream.core.batch import CallLimits
from pushrail_stream.core.destination import CustomerBus, Destination
from pushrail_stream.core.event import Event, utf8_length
from pushrail_stream.settings.cloud_event import cloud_event
from pushrail_stream.settings.eventbridge import FLAVOURS, TIME_BYTES

FORMER_MAX_REQUEST_BYTES: Final = 262_144
"""Largest sum of entry sizes in one call, in bytes, where AWS has not raised it (Amazon EventBridge quotas, before
2026-01-29)."""
_FORMER_LIMITS: Final = {
    flavour.type: flavour.limits._replace(max_bytes=FORMER_MAX_REQUEST_BYTES) for flavour in FLAVOURS.values()
}


class Entry(TypedDict):
    """PutEvents request entry."""

    Time: int
    """Epoch seconds: EventBridge keeps no fraction."""
    Source: str
    Resources: list[str]
    DetailType: str
    Detail: str
    EventBusName: str
    TraceHeader: NotRequired[str]


def render(event: Event, destination: Destination) -> Entry:
    """The entry of this event for this destination; a canonical ``Detail`` is the produced JSON, byte for byte."""
    entry: Entry = {
        "Time": event.occurred_at_ms // 1000,
        "Source": destination.source,
        "Resources": [event.customer_external_id, event.idempotency_key],
        "DetailType": event.event_type,
        "Detail": (event.value if destination.detail_format == "canonical" else cloud_event(event)).decode(),
        "EventBusName": destination.bus.arn,
    }
    if event.traceparent is not None:
        entry["TraceHeader"] = trace_header(event.traceparent)
    return entry


def trace_header(traceparent: str) -> str:
    """The X-Ray form of a valid W3C ``traceparent``."""
    _, trace, span, flags, *_ = traceparent.split("-")
    return f"Root=1-{trace[:8]}-{trace[8:]};Parent={span};Sampled={int(flags, 16) & 1}"


def entry_size(event: Event, destination: Destination) -> int:
    """Bytes that AWS counts for the entry, known before it is rendered. Bus name and trace header do not count."""
    size = TIME_BYTES + event.size + utf8_length(destination.source)
    return size if destination.detail_format == "canonical" else size - len(event.value) + len(cloud_event(event))


@final
class RegionLimits:
    """The limits of one call in each region, learnt from refusals.

    AWS raised its limit to 1 MiB, but not in all regions at once. A region that refuses a larger request than the
    former limit gets only requests within that limit from then on, until the process ends. Buses of another type are
    called as before.
    """

    __slots__ = ("_small",)

    def __init__(self) -> None:
        self._small: set[tuple[str, str]] = set()

    def of(self, destination: Destination) -> CallLimits:
        """The limits of one call to the destination's bus."""
        if self._small and (destination.bus.type, destination.bus.region) in self._small:
            return _FORMER_LIMITS[destination.bus.type]
        return FLAVOURS[destination.bus.type].limits

    def refused(self, bus: CustomerBus, size: int) -> bool:
        """Learn that a request of ``size`` bytes was too large; return whether the former limit explains it."""
        if size <= FORMER_MAX_REQUEST_BYTES:
            return False
        self._small.add((bus.type, bus.region))
        return True
