"""Records and replies for the stories. An event's idempotency key is its offset by default."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from pushrail_stream.core.batch import Batch
from pushrail_stream.core.headers import DeliveryHeaders, encode_headers
from pushrail_stream.core.record import Headers, Origin, Partition, Record
from pushrail_stream.eventbridge.error_codes import Answered, CallFailed, CallReply, EntryResult
from tests.support.builders import EVENT_TYPE, customer_id, event

EVENTS: Final = "pushrail.events"
DLQ: Final = "pushrail.dlq"
P0: Final = Partition(EVENTS, 0)
P1: Final = Partition(EVENTS, 1)
RETRY: Final = Partition("pushrail.retry.10s", 0)
START_MS: Final = 1_780_000_000_000
"""When every story begins: the virtual clock's start."""
Answer = Callable[[Batch], CallReply]


def record(
    offset: int,
    customer: str = "acme",
    *,
    event_type: str = EVENT_TYPE,
    key: str | None = None,
    partition: Partition = P0,
    padding: int = 0,
    headers: Headers = (),
) -> Record:
    """A canonical event at this offset, ``padding`` bytes larger than it has to be."""
    value = event(
        customer,
        offset,
        eventType=event_type,
        idempotencyKey=str(offset) if key is None else key,
        payload={"n": offset, "padding": "x" * padding},
    )
    return raw(offset, value, customer=customer, partition=partition, headers=headers)


def raw(
    offset: int, value: bytes | None, *, customer: str = "acme", partition: Partition = P0, headers: Headers = ()
) -> Record:
    """A record with any value."""
    return Record(partition.topic, partition.number, offset, customer_id(customer).encode(), value, headers, START_MS)


def records(offsets: Iterable[int], customer: str = "acme", **same: Any) -> list[Record]:
    """Events of one customer at these offsets."""
    return [record(offset, customer, **same) for offset in offsets]


def retry_record(
    offset: int,
    customer: str = "acme",
    *,
    due: float = 0.0,
    event: int = 0,
    partition: Partition = RETRY,
    padding: int = 0,
    **state: Any,
) -> Record:
    """A retry topic's record: event ``event`` of a customer, due at this moment of the story."""
    usual: dict[str, Any] = {
        "origin": Origin(EVENTS, 0, event),
        "attempts": 3,
        "reason": "retryable",
        "failed_at_ms": START_MS - 10_000,
        "first_attempt_at_ms": START_MS - 15_000,
        "destination": f"dst_{customer}",
        "not_before_ms": START_MS + round(due * 1000),
    }
    headers = DeliveryHeaders(**usual | state)
    own = record(event, customer, padding=padding)
    return own._replace(
        topic=partition.topic, partition=partition.number, offset=offset, headers=encode_headers(headers, own.headers)
    )


def without(record: Record, header: str) -> Record:
    """The record without one of its headers."""
    return record._replace(headers=tuple(h for h in record.headers if h[0] != header))


def having(record: Record, header: str, value: bytes) -> Record:
    """The record with another value of one of its headers."""
    return record._replace(headers=tuple((name, value if name == header else v) for name, v in record.headers))


def keys(batch: Batch) -> list[str]:
    """The batch's events, by their idempotency keys."""
    return [delivery.event.idempotency_key for delivery in batch.deliveries]


def take_all(batch: Batch) -> CallReply:
    """EventBridge takes every entry."""
    return answered(batch)


def answered(batch: Batch, faults: dict[str, EntryResult] | None = None) -> CallReply:
    """A result per entry: those with these keys have a fault, the others are taken."""
    faults = faults or {}
    results = tuple(faults.get(key, EntryResult(f"event-{key}", None, None)) for key in keys(batch))
    return Answered(results, 200, "request-200")


def fault(code: str, message: str = "because") -> EntryResult:
    """A result that says why EventBridge did not take the entry."""
    return EntryResult(None, code, message)


def failed(code: str, status: int | None = None, message: str = "because", operation: Any = "PutEvents") -> CallFailed:
    """The whole call failed."""
    return CallFailed(operation, code, message, status, None if status is None else f"request-{status}")


def always(reply: CallReply) -> Answer:
    """The same reply to every call."""
    return lambda _batch: reply


def in_turn(*answers: Answer | CallReply) -> Answer:
    """One answer after the other; the last one from then on."""
    left = list(answers)

    def answer(batch: Batch) -> CallReply:
        now = left.pop(0) if len(left) > 1 else left[0]
        return now(batch) if callable(now) else now

    return answer
