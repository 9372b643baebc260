"""Dead letters as they are read back from the DLQ."""

from __future__ import annotations

from typing import Any

from pushrail_stream.core.copy import Copy
from pushrail_stream.core.delivery import Problem
from pushrail_stream.core.record import Record
from pushrail_stream.operations.dead_letters import (
    DeadLetterRecord,
    read_dead_letter,
)
from tests.support.builders import event

AT = 1_795_514_400_000


DLQ = "pushrail.dlq"


def event_record(number: int, offset: int = 7, **changes: Any) -> Record:
    value = event(number, **({"idempotencyKey": "k", "payload": {}} | changes))
    headers = (("traceparent", b"t"), ("empty", None))
    return Record("pushrail.events", 1, offset, b"key", value, headers, AT)


def letter(number: int, *, position: int = 0, value: bytes | None = None, **changes: Any) -> DeadLetterRecord:
    record = event_record(number)
    if value is not None:
        record = record._replace(value=value)
    usual: dict[str, Any] = {
        "reason": "blocked",
        "attempts": 5,
        "failed_at_ms": AT,
        "problem": Problem(
            changes.pop("code", "AccessDenied"), changes.pop("message", "no"), changes.pop("request_id", None)
        ),
    }
    dead = Copy(record=record, **(usual | {"destination_id": f"dst_{number}"} | changes))
    return read_dead_letter(Record(DLQ, 2, position, record.key, record.value, dead.headers(), AT), "acme")


def forged(at_ms: int = AT) -> DeadLetterRecord:
    """A dead letter with a forged header pushrail-failed-at; ``at_ms``: its Kafka timestamp."""
    headers = (*letter(0).record.headers, ("pushrail-failed-at", b"9999-12-31T23:59:60Z"))
    return read_dead_letter(Record(DLQ, 2, 0, b"acct_0", event_record(0).value, headers, at_ms), "acme")
