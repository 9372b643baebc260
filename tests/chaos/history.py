"""The history of single deliveries, from the attempts log: what a person needs to see why one came twice."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

from tests.chaos.copies import read_records
from tests.chaos.world import TOPICS, Place


def find_attempts(bootstrap: str, deliveries: Collection[tuple[int, int]]) -> Iterator[str]:
    """A line for each attempt of these deliveries (number and slot), in the order of the log."""
    wanted = {number for number, _ in deliveries}
    lines: list[tuple[str, str]] = []
    for message in read_records(bootstrap, TOPICS["attempts"]):
        record: dict[str, Any] = json.loads(message.value() or b"{}")
        key, destination = record.get("idempotencyKey"), record.get("destinationId")
        if key is None or destination is None:
            continue
        number, slot = int(key.rpartition("-")[2]), Place.of(destination).slot
        if number in wanted and (number, slot) in deliveries:
            lines.append((f"event {number} to {destination}", _told(record)))
    for where, told in sorted(lines):
        yield f"{where} {told}"


def _told(record: dict[str, Any]) -> str:
    origin = "/".join(str(part) for part in record["origin"].values())
    names = ("trigger", "attempt", "status", "reason", "code", "durationMs", "httpStatus", "requestId", "nextAttemptAt")
    return f"{record['at']} {origin} " + " ".join(f"{name}={record[name]}" for name in names if record.get(name))
