"""The rows of ``make bench`` about destinations that fall behind, each measured with one worker after the other."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pushrail_stream.sandbox.bus.faults import CallError, Latency, Match, Rule
from tests.bench import world
from tests.bench.checkout import Checkout
from tests.bench.trial import Look, Stage, Surroundings, Trial

MOST_CUSTOMERS: Final = 100
_HOT: Final = 0
"""The customer that has nearly all events."""
_NEIGHBOURS: Final = range(50, 100)
_NEIGHBOUR_EVENTS: Final = 2_000
_SHARES: Final = (0.5, 0.75, 0.98)
_BUS: Final = "arn:aws:events:us-east-1:123456789012:event-bus/bus-{}"
_SLOW_PER_SECOND: Final = 200.0
_LAGGING_PER_SECOND: Final = 2_000.0
"""Events that all lagging buses together take a second."""
_WARM_SECS: Final = 1.0
"""Seconds from the first call to the start of a measurement: signing in is not counted."""
_ENTRIES: Final = 10
"""Entries of a full call."""
_ON_PUT: Final = Match(operation="PutEvents")

Figures = dict[str, float | None]


@dataclass(frozen=True)
class Size:
    """Events of the cases, and the seconds after which each is cut off."""

    events: int
    secs: float
    outage_events: int
    outage_secs: float
    recovery_secs: float
    """Seconds after the end of an outage."""


QUICK: Final = Size(40_000, 8.0, 40_000, 10.0, 15.0)
"""All rows take about two minutes."""
FULL: Final = Size(120_000, 24.0, 100_000, 20.0, 130.0)


class Case(NamedTuple):
    """One measurement."""

    name: str
    surroundings: Surroundings
    measure: Callable[[Trial], Figures]


def hot(size: Size) -> Iterator[Case]:
    """One customer has all events of every partition, and its bus is near or far."""
    for milliseconds in (0, 10, 50):
        plan = _round_trip(milliseconds)
        around = Surroundings(customers=[_HOT] * size.events, events=size.events, spread=True, plan=plan)
        yield Case(f"hot_{milliseconds}ms", around, lambda trial: _rate(trial, size))


def slow(size: Size) -> Iterator[Case]:
    """A customer has nearly all events of every partition, and its bus is slow or far. Its neighbours' are near."""
    customers = list(interleave([_HOT] * size.events, _neighbours()))
    far = Rule(Latency(0.05), Match(operation="PutEvents", bus=_BUS.format(_HOT)))
    for name, plan, paces in (
        ("slow_bus", (), {_BUS.format(_HOT): _SLOW_PER_SECOND}),
        ("slow_50ms", (far,), dict[str, float]()),
    ):
        around = Surroundings(customers=customers, events=len(customers), spread=True, plan=plan, paces=paces)
        yield Case(name, around, lambda trial: _neighbours_times(trial, size))


def outage(size: Size) -> Iterator[Case]:
    """Every bus answers 503 for a while."""
    healthy = _round_trip(10)
    plan = (Rule(CallError(503, "ServiceUnavailable", "down"), _ON_PUT), *healthy)
    customers = _turns(range(50), size.outage_events)
    around = Surroundings(customers=customers, events=size.outage_events, plan=plan)
    yield Case("outage", around, lambda trial: _recovery(trial, size, healthy))


def many(size: Size) -> Iterator[Case]:
    """Fifty customers with far buses; ten and fifty customers that lag while their neighbours do not."""
    plan, everybody = _round_trip(50), _turns(range(50), size.events)
    around = Surroundings(customers=everybody, events=size.events, plan=plan)
    yield Case("many_50ms", around, lambda trial: _rate(trial, size))
    for count in (10, 50):
        customers = list(interleave(_turns(range(count), size.events), _neighbours()))
        paces = {_BUS.format(customer): _LAGGING_PER_SECOND / count for customer in range(count)}
        around = Surroundings(customers=customers, events=len(customers), spread=True, paces=paces)
        yield Case(f"many_{count}_lagging", around, lambda trial: _neighbours_times(trial, size))


ROWS: Final[Mapping[str, Callable[[Size], Iterator[Case]]]] = {
    "hot": hot,
    "slow": slow,
    "outage": outage,
    "many": many,
}


def measure_rows(names: Sequence[str], size: Size, stage: Stage, checkouts: Sequence[Checkout]) -> dict[str, Any]:
    """Measure every case of these rows with the worker of each checkout in turn; figures by case.

    ``checkouts``: ours and, to compare, another.
    """
    for customer in range(MOST_CUSTOMERS):
        world.write_document(stage.folder / "destinations", customer)
    return {case.name: _measure(case, stage, checkouts) for name in names for case in ROWS[name](size)}


def _measure(case: Case, stage: Stage, checkouts: Sequence[Checkout]) -> Figures:
    _say(f"{case.name}: {case.surroundings.events:,} events")
    events = stage.produce(case.surroundings)
    told = []
    for checkout in checkouts:
        with stage.trial(checkout, events, case.surroundings) as trial:
            figures = case.measure(trial)
            last = trial.look()
            figures["copies_per_event"] = round(trial.copies() / max(1, last.arrivals), 2)
            figures["read_again_per_served"] = trial.read_again_per_served()
        told.append(figures)
        _say("  " + ", ".join(f"{name} {value}" for name, value in figures.items()))
    return told[0] if len(told) == 1 else compared(*told)


def compared(ours: Mapping[str, float | None], theirs: Mapping[str, float | None]) -> Figures:
    """Ours, theirs with a prefix, and the ratios of speed and of CPU time: ours divided by theirs."""
    ratios: Figures = {}
    for name in ("events_per_s", "cpu_us_per_event"):
        mine, other = ours[name], theirs[name]
        ratios[f"{name}_ratio"] = round(mine / other, 3) if mine and other else None
    return dict(ours) | {f"against_{name}": value for name, value in theirs.items()} | ratios


def _rate(trial: Trial, size: Size) -> Figures:
    trial.wait_for_calls()
    time.sleep(_WARM_SECS)
    first = trial.look()
    return speed(first, trial.look_until(lambda look: look.arrivals >= size.events, size.secs))


def _neighbours_times(trial: Trial, size: Size) -> Figures:
    """Seconds from the first call until these shares of the neighbours' events have arrived; None for never."""
    started = trial.wait_for_calls()
    times = dict.fromkeys(_SHARES, None) | dict[float, float | None]()
    buses = [_BUS.format(customer) for customer in _NEIGHBOURS]

    def note(look: Look) -> bool:
        arrived = sum(look.by_bus.get(bus, 0) for bus in buses)
        for share in _SHARES:
            if times[share] is None and arrived >= share * _NEIGHBOUR_EVENTS:
                times[share] = round(look.at - started.at, 1)
        return False

    last = trial.look_until(note, size.secs)
    return {f"neighbours_{share:.0%}_secs": secs for share, secs in times.items()} | speed(started, last)


def _recovery(trial: Trial, size: Size, healthy: Sequence[Rule]) -> Figures:
    trial.wait_for_calls()
    time.sleep(size.outage_secs)
    trial.set_plan(healthy)
    end = trial.look()
    last = trial.look_until(lambda look: look.arrivals >= size.outage_events, size.recovery_secs)
    return {
        "through_secs": round(last.at - end.at, 1) if last.arrivals >= size.outage_events else None,
        "arrived": last.arrivals,
        "calls_while_down": end.calls,
        "calls_vs_normal": round(last.calls * _ENTRIES / size.outage_events, 2),
        "events_per_s": round(last.arrivals / (last.at - end.at)),
        "cpu_us_per_event": _micros(last.cpu_secs, last.arrivals),
    }


def speed(first: Look, last: Look) -> Figures:
    """Events a second, and CPU time of an event."""
    events = last.arrivals - first.arrivals
    return {
        "events_per_s": round(events / (last.at - first.at)),
        "cpu_us_per_event": _micros(last.cpu_secs - first.cpu_secs, events),
    }


def interleave(many: Sequence[int], few: Sequence[int]) -> Iterator[int]:
    """All of both, the few evenly among the many."""
    done = 0
    for number, one in enumerate(many):
        yield one
        due = (number + 1) * len(few) // len(many)
        yield from few[done:due]
        done = due


def _neighbours() -> list[int]:
    return _turns(_NEIGHBOURS, _NEIGHBOUR_EVENTS)


def _turns(customers: Sequence[int], events: int) -> list[int]:
    """A number of events for which these customers have their turns."""
    return [customers[number % len(customers)] for number in range(events)]


def _round_trip(milliseconds: int) -> tuple[Rule, ...]:
    return (Rule(Latency(milliseconds / 1000), _ON_PUT),) if milliseconds else ()


def _micros(secs: float, events: int) -> float | None:
    return round(secs / events * 1e6, 1) if events else None


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
