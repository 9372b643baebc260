"""Destinations and batches for the tests of this room."""

from __future__ import annotations

from typing import Final

import orjson

from pushrail_stream.core.batch import Batch, CallLimits
from pushrail_stream.core.delivery import Delivery
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.event import Event, decode
from pushrail_stream.core.offsets import OffsetTracker, PendingRecord
from pushrail_stream.core.record import Headers, Record
from pushrail_stream.eventbridge.entry import entry_size
from pushrail_stream.settings.eventbridge import Auth

BUS = "arn:aws:events:us-east-1:123456789012:event-bus/pushrail-events"

LIMITS: Final = CallLimits(10, 1_048_576)
"""Of one PutEvents call."""


def destination(auth: Auth, identity: str = "dst_acme_1", region: str = "us-east-1") -> Destination:
    return Destination(
        id=identity,
        vendor="acme",
        customer_external_id="acct_1",
        type="EVENTBRIDGE",
        name="Customer bus",
        bus=BUS.replace("us-east-1", region),
        region=region,
        source="pushrail.acme",
        auth=auth,
    )


def value(number: int, *, note: str = "", padding: int = 0) -> bytes:
    return orjson.dumps(
        {
            "eventType": "order.created",
            "occurredAt": "2026-05-26T14:21:08.493Z",
            "source": "orders",
            "customerExternalId": "acct_1",
            "idempotencyKey": f"key_{number}",
            "payload": {"orderId": f"ord_{number}", "note": note, "quoted": 'say "hi"\\', "padding": "x" * padding},
        }
    )


def batch_of(target: Destination, values: list[bytes], headers: Headers = ()) -> Batch:
    deliveries = []
    for offset, raw in enumerate(values):
        event = decode(raw, headers, "acme")
        assert isinstance(event, Event), event
        record = Record("pushrail.events", 0, offset, b"acct_1", raw, headers, 0)
        deliveries.append(
            Delivery(
                event, record, target.id, entry_size(event, target), PendingRecord(OffsetTracker(), offset, 0, 1, 0)
            )
        )
    return Batch(target, tuple(deliveries), LIMITS)


def batch(target: Destination, entries: int = 2) -> Batch:
    return batch_of(target, [value(number) for number in range(entries)])
