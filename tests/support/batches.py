"""Batches of decoded events, to be sent to a bus."""

from __future__ import annotations

from typing import Final

from pushrail_stream.core.batch import Batch, CallLimits
from pushrail_stream.core.delivery import Delivery
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.event import Event, decode
from pushrail_stream.core.offsets import OffsetTracker
from pushrail_stream.core.pending import PendingRecord
from pushrail_stream.core.record import Headers, Record
from pushrail_stream.eventbridge.entry import Entry, entry_size, render
from tests.support.builders import VENDOR, bus_arn, customer_id, event

BUS: Final = bus_arn("acme")

LIMITS: Final = CallLimits(10, 1_048_576)
"""Of one PutEvents call."""


def value(number: int, *, note: str = "", padding: int = 0) -> bytes:
    payload = {"orderId": f"ord_{number}", "note": note, "quoted": 'say "hi"\\', "padding": "x" * padding}
    return event(number=number, payload=payload)


def batch_of(target: Destination, values: list[bytes], headers: Headers = (), *, limits: CallLimits = LIMITS) -> Batch:
    deliveries = []
    for offset, raw in enumerate(values):
        decoded = decode(raw, headers, VENDOR)
        assert isinstance(decoded, Event), decoded
        record = Record("pushrail.events", 0, offset, customer_id("acme").encode(), raw, headers, 0)
        deliveries.append(
            Delivery(
                decoded, record, target.id, entry_size(decoded, target), PendingRecord(OffsetTracker(), offset, 0, 1, 0)
            )
        )
    return Batch(target, tuple(deliveries), limits)


def render_batch(batch: Batch) -> list[Entry]:
    """The entries of a batch for a classic bus, in the order of its deliveries."""
    return [render(delivery.event, batch.destination) for delivery in batch.deliveries]


def batch(target: Destination, entries: int = 2) -> Batch:
    return batch_of(target, [value(number) for number in range(entries)])
