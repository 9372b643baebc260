"""Signals as the pipeline sends them, and observers' products in a readable form."""

from __future__ import annotations

import copy
import io
import json
from typing import Any, final

from pushrail_stream.core.copy import Copy
from pushrail_stream.core.delivery import Delivery, Problem
from pushrail_stream.core.event import Event, decode
from pushrail_stream.core.outcome import Outcome
from pushrail_stream.core.record import Record
from pushrail_stream.core.retry import DeadReason, Decision
from pushrail_stream.core.signals import Attempted
from tests.support.builders import VENDOR, destination
from tests.support.records import record
from tests.support.samples import pending

AT_MS = 1_780_000_000_000


def event_of(given: Record) -> Event:
    event = decode(given.value, given.headers, VENDOR)
    assert isinstance(event, Event)
    return event


def attempted(*results: tuple[Outcome, Decision], **changes: Any) -> Attempted:
    """A call with one entry per result, at offsets 0, 1 ..; the entries' sizes are 100, 101 .."""
    to = destination()
    records = [record(n)._replace(timestamp_ms=AT_MS - 75) for n in range(len(results))]
    deliveries = tuple(Delivery(event_of(one), one, to.id, 100 + n, pending(n)) for n, one in enumerate(records))
    outcomes, decisions = tuple(outcome for outcome, _ in results), tuple(decision for _, decision in results)
    attempts = (2,) * len(results)
    signal = Attempted(to, AT_MS, 0.0123456, 200, "request-1", deliveries, attempts, outcomes, decisions)
    return signal._replace(**changes)


def changed(signal: Attempted, index: int = 0, **changes: Any) -> Attempted:
    """The call with other attributes of one delivery."""
    delivery = copy.copy(signal.deliveries[index])
    for name, value in changes.items():
        setattr(delivery, name, value)
    deliveries = list(signal.deliveries)
    deliveries[index] = delivery
    return signal._replace(deliveries=tuple(deliveries))


def letter(reason: DeadReason, code: str, message: str, *, attempts: int = 0, to: str | None = None) -> Copy:
    return Copy(
        record=record(7), reason=reason, failed_at_ms=AT_MS, problem=Problem(code, message), attempts=attempts,
        destination_id=to,
    )  # fmt: skip


@final
class Terminal(io.StringIO):
    """A stream that people read."""

    def isatty(self) -> bool:
        return True


@final
class BrokenPipe(io.StringIO):
    """A stream whose reader has gone."""

    def write(self, _text: str) -> int:
        raise BrokenPipeError


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """The log's lines, each of which has to be one JSON object; without their times."""
    parsed = [json.loads(line) for line in stream.getvalue().splitlines()]
    for line in parsed:
        assert line.pop("timestamp").endswith("Z")
    return parsed
