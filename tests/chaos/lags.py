"""The busiest customers' buses fall behind, again and again, each time in another way.

So cursors are open during most of a run, and workers are killed, stopped and started meanwhile.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, NamedTuple

from pushrail_stream.sandbox.bus.faults import (
    CallError,
    EntryError,
    Hang,
    Latency,
    Match,
    Probability,
    RateAbove,
    Rule,
)
from tests.chaos.world import Place

SLOW: Final = "slow"
"""Begins the name of a rule that answers late; the seconds follow."""
LAGGING: Final = (Place(0, 0), Place(1, 0))
"""The destinations of the customers with most events."""
_FIRST_SECS: Final = 4.0
_LAG_SECS: Final = (6.0, 14.0)
_PAUSE_SECS: Final = (1.0, 6.0)
"""Seconds between two lags of a destination: its backlog may go down."""


class Lag(NamedTuple):
    """From ``start`` to ``end`` (seconds from the start) these rules are in force."""

    start: float
    end: float
    rules: tuple[Rule, ...]


def plan_lags(seed: int, secs: float) -> list[Lag]:
    """The lags of a run of this length. Each destination has all kinds, in an order of its own."""
    lags = []
    for place in LAGGING:
        dice = random.Random(f"{seed}/lags/{place.id}")
        order = dice.sample(_KINDS, len(_KINDS))
        start, number = _FIRST_SECS + dice.uniform(*_PAUSE_SECS), 0
        while start < secs:
            end = start + dice.uniform(*_LAG_SECS)
            rules = order[number % len(order)](dice, Match(operation="PutEvents", bus=place.bus_arn))
            lags.append(Lag(start, end, tuple(rules)))
            start, number = end + dice.uniform(*_PAUSE_SECS), number + 1
    return lags


def _hanging(_dice: random.Random, bus: Match) -> list[Rule]:
    return [Rule(Hang(), bus, name="lag-hang")]


def _down(_dice: random.Random, bus: Match) -> list[Rule]:
    return [Rule(CallError(503, "ServiceUnavailable"), bus, name="lag-down")]


def _far(dice: random.Random, bus: Match) -> list[Rule]:
    """Every call takes seconds, and is taken."""
    secs = round(dice.uniform(0.8, 1.5), 2)
    return [Rule(Latency(secs), bus, name=f"{SLOW}:{secs}")]


def _throttled(dice: random.Random, bus: Match) -> list[Rule]:
    return [Rule(CallError(400, "ThrottlingException"), bus, RateAbove(dice.uniform(0.5, 3)), name="lag-throttle")]


def _partly_failing(dice: random.Random, bus: Match) -> list[Rule]:
    """Some entries of most calls fail."""
    secs = round(dice.uniform(0.3, 1.0), 2)
    failure = EntryError("InternalFailure", "Try again.")
    return [
        Rule(failure, bus, Probability(dice.uniform(0.1, 0.5)), name="lag-entries"),
        Rule(Latency(secs), bus, name=f"{SLOW}:{secs}"),
    ]


def _throttled_entries(dice: random.Random, bus: Match) -> list[Rule]:
    throttle = EntryError("ThrottlingException", "Rate exceeded")
    return [Rule(throttle, bus, RateAbove(dice.uniform(5, 20)), name="lag-entry-throttle")]


_KINDS: Final[list[Callable[[random.Random, Match], list[Rule]]]] = [
    _hanging, _down, _far, _throttled, _partly_failing, _throttled_entries,
]  # fmt: skip
