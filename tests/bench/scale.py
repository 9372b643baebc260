"""The rows of ``make bench`` about scale: entries a call, signed-in destinations, a cold start, two workers, commits,
latency and memory."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.bench import commits, put_events, region, sign_in, world
from tests.bench.checkout import Checkout
from tests.bench.fleet import Fleet, Setup, cost, fleet, in_runs, produced, write_documents
from tests.bench.trial import Stage

_FULL_CALL: Final = 10
"""Entries of a full call."""
_WARM_SHARE: Final = 0.1
"""Share of the events before the measurement: imports, joining the group and most sign-ins are not counted."""
_LIMIT_SECS: Final = 600.0
"""Longest time of one case. It fails when events are missing by then."""
_FAST_STS: Final = {"max_calls_per_second": 600}
"""The most that the settings allow: the destinations sign in within seconds."""
_KIB: Final = 1024


@dataclass(frozen=True)
class Scale:
    """The sizes of the cases."""

    fill_events: int
    """At ten entries a call; with fewer entries there are fewer events."""
    destinations: tuple[int, ...]
    destination_events: int
    """Events of each case, and at least ten for each destination."""
    cold: int
    """Destinations of the cold start, which have 30 events each, and of a region that is down."""
    worker_events: int
    latency_secs: float
    down_secs: float
    """Time for which a region is down."""


QUICK: Final = Scale(30_000, (10, 50, 1_000), 20_000, 1_000, 60_000, 4.0, 15.0)
"""Each row takes about a minute on two idle cores."""
FULL: Final = Scale(150_000, (10, 50, 1_000, 10_000), 150_000, 10_000, 300_000, 30.0, 60.0)
Row = Callable[[Scale, Stage, Checkout], dict[str, Any]]


def fill(scale: Scale, stage: Stage, checkout: Checkout) -> dict[str, Any]:
    """A backlog of 50 customers with 1, 3 and 10 entries a call, beside the stock client with as many."""
    rows: dict[str, Any] = {}
    for entries in (1, 3, _FULL_CALL):
        events = scale.fill_events * (entries + 2) // (_FULL_CALL + 2)
        topic = produced(stage, in_runs(world.CUSTOMERS, events, _FULL_CALL))
        setup = Setup(events=topic, sections={"delivery": {"max_entries": entries}})
        figures = _drain(stage, checkout, setup, events)
        stock = put_events.measure(calls=1_000, entries_per_call=entries)["stock_put_events_cpu_us_per_event"]
        figures |= {"stock_us_per_event": stock, "worker_by_stock": round(figures["cpu_us_per_event"] / stock, 2)}
        _tell(rows, f"fill_{entries}", figures)
    return rows


def destinations(scale: Scale, stage: Stage, checkout: Checkout) -> dict[str, Any]:
    """Full calls to 10, 50, 1,000 and 10,000 destinations that have signed in before."""
    rows: dict[str, Any] = {}
    for customers in scale.destinations:
        events = max(scale.destination_events, customers * _FULL_CALL)
        topic = produced(stage, range(customers))
        sections = {"registry": {"path": str(write_documents(stage.folder, customers))}, "sts": _FAST_STS}
        with fleet(stage, checkout, Setup(events=topic, sections=sections)) as workers:
            signed_in = workers.look_until(customers, _LIMIT_SECS)
            resting_mib = workers.mib("VmRSS")
            produced(stage, in_runs(customers, events, _FULL_CALL), topic)
            first = workers.look_until(customers + int(_WARM_SHARE * events), _LIMIT_SECS)
            figures = cost(first, workers.look_until(customers + events, _LIMIT_SECS))
            figures |= _ends(workers, customers + events)
            figures |= {"start_cpu_secs": round(signed_in.cpu_secs, 2), "signed_in_mib": round(resting_mib)}
        _tell(rows, f"destinations_{customers}", figures)
    _tell(rows, "destinations", by_destination(rows, scale.destinations))
    return rows


def cold(scale: Scale, stage: Stage, checkout: Checkout) -> dict[str, Any]:
    """A backlog for destinations of which none has signed in, at the default rate of sign-ins."""
    events = 30 * scale.cold
    topic = produced(stage, in_runs(scale.cold, events, _FULL_CALL))
    sections = {"registry": {"path": str(write_documents(stage.folder, scale.cold))}}
    with fleet(stage, checkout, Setup(events=topic, sections=sections)) as workers:
        first = workers.look_until(1, _LIMIT_SECS)
        last = workers.look_until(events, _LIMIT_SECS)
        figures = cost(first, last) | _ends(workers, events)
        figures["secs"] = round(last.at - first.at, 1)
    rows: dict[str, Any] = {}
    _tell(rows, f"cold_{scale.cold}", figures)
    return rows


def signing_in(scale: Scale, stage: Stage, checkout: Checkout) -> dict[str, Any]:
    """CPU time and memory of one sign-in, without Kafka."""
    del scale, stage, checkout
    rows: dict[str, Any] = {}
    _tell(rows, "sign_in", sign_in.measure())
    return rows


def workers(scale: Scale, stage: Stage, checkout: Checkout) -> dict[str, Any]:
    """One command with one worker and with two, on the same backlog."""
    topic = produced(stage, in_runs(world.CUSTOMERS, scale.worker_events, _FULL_CALL))
    rows: dict[str, Any] = {}
    for number in (1, 2):
        setup = Setup(events=topic, sections={}, workers=number)
        _tell(rows, f"workers_{number}", _drain(stage, checkout, setup, scale.worker_events))
    ratio = rows["workers_2"]["cpu_us_per_event"] / rows["workers_1"]["cpu_us_per_event"]
    rows["workers_2_by_1"] = {"cpu_us_per_event_ratio": round(ratio, 2)}
    return rows


def committing(scale: Scale, stage: Stage, checkout: Checkout) -> dict[str, Any]:
    """The longest time for which one commit of twelve full windows blocks the event loop."""
    del scale, stage, checkout
    rows: dict[str, Any] = {}
    _tell(rows, "commits", commits.measure())
    return rows


def latency(scale: Scale, stage: Stage, checkout: Checkout) -> dict[str, Any]:
    """Milliseconds from an event's production to its arrival, by round trip, rate and flush time."""
    rows: dict[str, Any] = {}
    for flush_ms in (100, 0):
        for milliseconds in (0, 10):
            topic = produced(stage, range(world.CUSTOMERS))
            delivery = {"delivery": {"flush_ms": flush_ms}}
            setup = Setup(events=topic, sections=delivery, round_trip_secs=milliseconds / 1000)
            with fleet(stage, checkout, setup) as workers:
                workers.look_until(world.CUSTOMERS, _LIMIT_SECS)
                for rate in (60, 1_000):
                    figures = _percentiles(stage, workers, topic, rate, scale.latency_secs)
                    _tell(rows, f"latency_{milliseconds}ms_{rate}_per_s_flush_{flush_ms}", figures)
    return rows


def memory(scale: Scale, stage: Stage, checkout: Checkout) -> dict[str, Any]:
    """Peak memory of one worker with a backlog of 50 customers, and of one customer with a far bus."""
    rows: dict[str, Any] = {}
    for name, customers, secs in (("50_customers", world.CUSTOMERS, 0.0), ("one_customer_50ms", 1, 0.05)):
        topic = produced(stage, in_runs(customers, scale.worker_events, _FULL_CALL))
        setup = Setup(events=topic, sections={}, round_trip_secs=secs)
        _tell(rows, f"memory_{name}", _drain(stage, checkout, setup, scale.worker_events))
    return rows


def regional(scale: Scale, stage: Stage, checkout: Checkout) -> dict[str, Any]:
    """Many destinations of a region that is down, and 50 of another one."""
    rows: dict[str, Any] = {}
    _tell(rows, f"region_{scale.cold}", region.measure(stage, checkout, scale.cold, scale.down_secs))
    return rows


ROWS: Final[Mapping[str, Row]] = {
    "fill": fill,
    "destinations": destinations,
    "cold": cold,
    "signin": signing_in,
    "workers": workers,
    "commits": committing,
    "latency": latency,
    "memory": memory,
    "region": regional,
}


def measure_rows(names: Sequence[str], scale: Scale, stage: Stage, checkout: Checkout) -> dict[str, Any]:
    """The figures of these rows, by case."""
    figures: dict[str, Any] = {}
    for name in names:
        _say(f"{name}: {(ROWS[name].__doc__ or '').splitlines()[0]}")
        figures |= ROWS[name](scale, stage, checkout)
    return figures


def _drain(stage: Stage, checkout: Checkout, setup: Setup, events: int) -> dict[str, Any]:
    with fleet(stage, checkout, setup) as workers:
        first = workers.look_until(int(_WARM_SHARE * events), _LIMIT_SECS)
        return cost(first, workers.look_until(events, _LIMIT_SECS)) | _ends(workers, events)


def _ends(workers: Fleet, events: int) -> dict[str, float]:
    return {"repeats": workers.repeats(events), "peak_mib": round(workers.mib())}


def by_destination(rows: Mapping[str, Any], counts: Sequence[int]) -> dict[str, Any]:
    """CPU of an event against the least, and memory and CPU that a further destination costs."""
    few, many = rows[f"destinations_{counts[0]}"], rows[f"destinations_{counts[-1]}"]
    more = counts[-1] - counts[0]
    least = min(rows[f"destinations_{count}"]["cpu_us_per_event"] for count in counts)
    most = max(rows[f"destinations_{count}"]["cpu_us_per_event"] for count in counts)
    return {
        "cpu_us_per_event_most_by_least": round(most / least, 2),
        "kib_per_destination": round((many["signed_in_mib"] - few["signed_in_mib"]) * _KIB / more, 1),
        "start_ms_per_destination": round((many["start_cpu_secs"] - few["start_cpu_secs"]) * 1e3 / more, 2),
    }


def _percentiles(stage: Stage, workers: Fleet, topic: str, rate: int, secs: float) -> dict[str, float]:
    stage.bus.ask("clear", "POST")
    events = int(rate * secs)
    first = workers.look()
    world.produce(stage.bootstrap, topic, events, rate)
    last = workers.look_until(events, _LIMIT_SECS)
    cuts = statistics.quantiles(stage.bus.ask("latencies")["latenciesMs"], n=100)
    figures = cost(first, last)
    return {
        "p50_ms": round(cuts[49], 1),
        "p99_ms": round(cuts[98], 1),
        "entries_per_call": figures["entries_per_call"],
        "cpu_us_per_event": figures["cpu_us_per_event"],
    }


def _tell(rows: dict[str, Any], name: str, figures: dict[str, Any]) -> None:
    rows[name] = figures
    _say(f"  {name}: " + ", ".join(f"{key} {value}" for key, value in figures.items()))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
