"""A region whose buses all answer 503 for a while, beside another region that is well."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pushrail_stream.sandbox.bus.faults import CallError, Match, Rule
from tests.bench import world
from tests.bench.checkout import Checkout
from tests.bench.rows import interleave
from tests.bench.trial import Look, Stage, Surroundings, Trial

_REGION: Final = "eu-west-1"
_NEIGHBOURS: Final = 50
"""Customers whose buses are in the other region."""
_EACH: Final = 5
"""Events of each destination while its region is down."""
_NEIGHBOUR_EVENTS: Final = 2_000
_LIMIT_SECS: Final = 300.0
"""Longest time until every destination has signed in, and until everything is through after the end."""
_SECTIONS: Final = {"sts": {"max_calls_per_second": 600}}
"""The most that the settings allow: 10,000 destinations sign in within seconds."""
_PAUSE_SECS: Final = 0.02
"""Seconds between two questions for a page of the worker's."""


def measure(stage: Stage, checkout: Checkout, destinations: int, down_secs: float) -> dict[str, float | None]:
    """Figures of one outage. Every destination has signed in before."""
    sections = {"registry": {"path": str(_documents(stage.folder, destinations))}, **_SECTIONS}
    customers = range(_NEIGHBOURS + destinations)
    around = Surroundings(customers=customers, events=len(customers))
    events = stage.produce(around)
    with stage.trial(checkout, events, around, sections) as trial:
        _reach(trial, lambda look: look.arrivals >= len(customers))
        trial.set_plan(
            [Rule(CallError(503, "ServiceUnavailable", "down"), Match(operation="PutEvents", bus=f"*:{_REGION}:*"))]
        )
        resting, copies = trial.look(), trial.copies()  # those of the sign-ins do not count
        own = [_NEIGHBOURS + number % destinations for number in range(_EACH * destinations)]
        mixed = list(interleave(own, [number % _NEIGHBOURS for number in range(_NEIGHBOUR_EVENTS)]))
        with _asking(trial.port) as answers:
            world.produce_for(stage.bootstrap, events, mixed)
            began = time.monotonic()
            near = [_bus(customer) for customer in range(_NEIGHBOURS)]
            due = _NEIGHBOUR_EVENTS + sum(resting.by_bus.get(bus, 0) for bus in near)

            def neighbours(look: Look) -> bool:
                return sum(look.by_bus.get(bus, 0) for bus in near) >= 0.98 * due

            through = trial.look_until(neighbours, down_secs)
            neighbours_secs = round(through.at - began, 1) if neighbours(through) else None
            time.sleep(max(0.0, began + down_secs - time.monotonic()))
            end, mib = trial.look(), trial.mib("VmRSS")
        trial.set_plan([])
        with _asking(trial.port) as later:
            last = _reach(trial, lambda look: look.arrivals >= len(customers) + len(mixed))
        return {
            "neighbours_98%_secs": neighbours_secs,
            "calls_while_down": end.calls - resting.calls,
            "cpu_share_while_down": round((end.cpu_secs - resting.cpu_secs) / (end.at - resting.at), 2),
            "longest_answer_ms": round(1e3 * max(answers)),
            "longest_answer_after_ms": round(1e3 * max(later)),
            "through_secs": round(last.at - end.at, 1),
            "mib_while_down": round(mib),
            "peak_mib": round(trial.mib("VmHWM")),
            "copies": trial.copies() - copies,
            "repeats": last.arrivals - len(customers) - len(mixed),
            "read_again_per_served": trial.read_again_per_served(),
        }


def _reach(trial: Trial, is_over: Callable[[Look], bool]) -> Look:
    seen = trial.look_until(is_over, _LIMIT_SECS)
    assert is_over(seen), f"only {seen.arrivals} entries arrived"
    return seen


@contextmanager
def _asking(port: int) -> Iterator[Sequence[float]]:
    """Ask the worker for a page all the time: its event loop answers, so an answer takes as long as the loop stands."""
    stop, times = threading.Event(), [0.0]

    def ask() -> None:
        while not stop.wait(_PAUSE_SECS):
            began = time.monotonic()
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=60) as reply:
                reply.read()
            times.append(time.monotonic() - began)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield times
    finally:
        stop.set()
        thread.join()


def _documents(folder: Path, destinations: int) -> Path:
    documents = folder / f"region-{destinations}"
    if not documents.exists():
        documents.mkdir()
        for customer in range(_NEIGHBOURS + destinations):
            world.write_document(documents, customer, _account(customer), _region(customer))
    return documents


def _region(customer: int) -> str:
    return "us-east-1" if customer < _NEIGHBOURS else _REGION


def _bus(customer: int) -> str:
    return f"arn:aws:events:{_region(customer)}:{_account(customer)}:event-bus/bus-{customer}"


def _account(customer: int) -> int:
    """An account of its own: the check whether a bus exists has a quota for each account."""
    return 100_000_000_000 + customer
