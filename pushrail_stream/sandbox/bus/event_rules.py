"""Event rules: each has an inbox of the events on its bus that match its pattern, as EventBridge gives them to targets.

Inboxes are read from the bus's arrivals when they are asked for, so a new rule also finds the events before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple

import orjson

from pushrail_stream.patterns import PatternError, Test, compile_pattern
from pushrail_stream.sandbox.bus.ledger import Arrival


class Delivered(NamedTuple):
    """An event, and the rules of its bus that match it."""

    at_ms: int
    """Time of its arrival, in epoch milliseconds."""
    bus: str
    """ARN."""
    rules: tuple[str, ...]
    event: str
    """JSON, with Detail as it came: decoding and encoding it again could change it."""


class EventRules:
    """The event rules of all buses."""

    def __init__(self, arrivals: Sequence[Arrival]) -> None:
        self._arrivals = arrivals
        self._rules: dict[str, dict[str, Test]] = {}

    def add(self, bus: str, name: str, pattern: Any) -> None:
        """Add a rule to a bus, in the place of one of that name. Raises ValueError for a wrong pattern."""
        try:
            self._rules.setdefault(bus, {})[name] = compile_pattern(pattern)
        except PatternError as error:
            place = ".".join(filter(None, ("pattern", error.path)))
            raise ValueError(f"{place}: {error.problem}") from None

    def inbox(self, bus: str, name: str) -> list[str]:
        """The events of one rule, oldest first. KeyError: no such rule."""
        only = {bus: {name: self._rules[bus][name]}}
        return [found.event for found in _delivered(self._arrivals, only)]

    def newest(self, limit: int, *, rule: str | None = None, key: str | None = None) -> list[Delivered]:
        """The events that came last and match a rule, oldest first; of this rule or idempotency key if one is given."""
        rules = {
            bus: {name: test for name, test in tests.items() if rule in {None, name}}
            for bus, tests in self._rules.items()
        }
        arrivals = (one for one in reversed(self._arrivals) if key is None or key in one.resources)
        return list(islice(_delivered(arrivals, rules), limit))[::-1]


def _delivered(
    arrivals: Iterator[Arrival] | Sequence[Arrival], rules: Mapping[str, Mapping[str, Test]]
) -> Iterator[Delivered]:
    for arrival in arrivals:
        tests = rules.get(arrival.bus_arn)
        if not tests:
            continue
        envelope = _envelope(arrival)
        event = {**envelope, "detail": orjson.loads(arrival.detail)}
        if matching := tuple(name for name, matches in tests.items() if matches(event)):
            text = f'{orjson.dumps(envelope).decode()[:-1]},"detail":{arrival.detail}}}'
            yield Delivered(round(arrival.received_at * 1000), arrival.bus_arn, matching, text)


def _envelope(arrival: Arrival) -> dict[str, Any]:
    """The event without its detail."""
    _, _, _, region, account, _ = arrival.bus_arn.split(":", 5)
    at = arrival.received_at if arrival.time is None else arrival.time
    return {
        "version": "0",
        "id": arrival.event_id,
        "detail-type": arrival.detail_type,
        "source": arrival.source,
        "account": account,
        "time": datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": region,
        "resources": list(arrival.resources),
    }
