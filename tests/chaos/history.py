"""The history of single deliveries, from the attempts log: the facts that explain a duplicate to a person."""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple

from tests.chaos.records import read_records
from tests.chaos.world import TOPICS, Place


class History(NamedTuple):
    """The attempts log's records of some deliveries."""

    lines: list[str]
    """Each attempt, for people."""
    unanswered: dict[tuple[int, int], list[float]]
    """By delivery, the times of attempts without any reply (epoch seconds). Their result is unknown."""


def read_history(bootstrap: str, deliveries: Collection[tuple[int, int]]) -> History:
    """Look these deliveries (number and slot) up."""
    wanted = {number for number, _ in deliveries}
    lines: list[str] = []
    unanswered: dict[tuple[int, int], list[float]] = {}
    for message in read_records(bootstrap, TOPICS["attempts"]):
        record: dict[str, Any] = json.loads(message.value() or b"{}")
        key, destination = record.get("idempotencyKey"), record.get("destinationId")
        if key is None or destination is None:
            continue
        number, slot = int(key.rpartition("-")[2]), Place.of(destination).slot
        if number in wanted and (number, slot) in deliveries:
            lines.append(f"event {number} to {destination} {_told(record)}")
            if record["attempt"] and record.get("httpStatus") is None:
                at = datetime.fromisoformat(record["at"]).timestamp()
                unanswered.setdefault((number, slot), []).append(at)
    return History(sorted(lines), unanswered)


def _told(record: dict[str, Any]) -> str:
    origin = "/".join(str(record["origin"][part]) for part in ("topic", "partition", "offset"))
    names = ("trigger", "attempt", "status", "reason", "code", "durationMs", "httpStatus", "requestId", "nextAttemptAt")
    return f"{record['at']} {origin} " + " ".join(f"{name}={record[name]}" for name in names if record.get(name))
