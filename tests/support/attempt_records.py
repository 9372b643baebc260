"""Attempt records for tests."""

from __future__ import annotations

import json
from typing import Any

from pushrail_stream.core.record import Record

AT = "2026-11-24T10:00:00.000Z"
AT_MS = 1_795_514_400_000


def said(number: int, **changes: Any) -> dict[str, Any]:
    """An attempt record of event ``number``."""
    usual = {
        "attemptId": f"a-{number}",
        "at": AT,
        "vendor": "acme",
        "customerExternalId": f"acct_{number % 3}",
        "destinationId": f"dst_{number % 3}",
        "eventType": "order.completed",
        "idempotencyKey": f"key-{number}",
        "correlationId": None,
        "status": "delivered",
        "attempt": 1,
        "trigger": "live",
        "eventBridgeEventId": f"e-{number}",
        "origin": {"topic": "pushrail.events", "partition": 0, "offset": number},
    }
    return usual | changes


def record(offset: int, value: dict[str, Any] | bytes, partition: int = 0) -> Record:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Record("pushrail.attempts", partition, offset, b"dst", raw, (), AT_MS)


def world() -> list[dict[str, Any]]:
    records = [said(n, at=f"2026-11-24T10:00:0{n}.000Z") for n in range(9)]
    records[2] |= {"status": "retrying", "code": "ThrottlingException", "correlationId": "c-1"}
    records[3] |= {"eventType": "invoice.paid", "vendor": "globex", "replayId": "rp-1"}
    return records
