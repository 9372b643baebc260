"""A worker of one benchmark case, or several workers of one command: their CPU time, memory and progress together."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil

from pushrail_stream.sandbox.bus.faults import Latency, Match, Rule
from tests.bench import world
from tests.bench.checkout import Checkout
from tests.bench.trial import Stage, set_plan, status_mib

_LOOK_SECS: Final = 0.2
"""Time between two looks at the bus: a look is a TLS connection, for which the bus pays."""
_LATE_SECS: Final = 1.0
"""Time for which a second copy of an event may still arrive after the last event."""
_FIRST_ACCOUNT: Final = 200_000_000_000


class Progress(NamedTuple):
    """The arrivals and the cost so far."""

    at: float
    """Monotonic seconds."""
    arrivals: int
    calls: int
    cpu_secs: float


class Fleet:
    """The processes of one ``run`` command."""

    def __init__(self, process: psutil.Process, bus: world.Bus) -> None:
        self._process = process
        self.bus = bus

    def look(self) -> Progress:
        """The progress now."""
        counts = self.bus.ask("counts")
        times = [one.cpu_times() for one in self._processes()]
        cpu_secs = sum(float(one.user + one.system) for one in times)
        return Progress(time.monotonic(), counts["arrivals"], counts["calls"], cpu_secs)

    def look_until(self, arrivals: int, limit_secs: float) -> Progress:
        """The first look at which this number of entries has arrived. Fails after the limit."""
        deadline = time.monotonic() + limit_secs
        while (seen := self.look()).arrivals < arrivals:
            assert self._process.is_running(), "the worker has ended"
            assert seen.at < deadline, f"only {seen.arrivals} of {arrivals} entries arrived"
            time.sleep(_LOOK_SECS)
        return seen

    def repeats(self, events: int) -> int:
        """Entries that arrived more than once, of this number of events that have all arrived."""
        time.sleep(_LATE_SECS)
        return self.bus.arrivals() - events

    def mib(self, line: str = "VmHWM") -> float:
        """Peak memory of all processes, in MiB; with ``VmRSS`` the memory now."""
        return sum(status_mib(one.pid, line) for one in self._processes())

    def _processes(self) -> list[psutil.Process]:
        return [self._process, *self._process.children(recursive=True)]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """The surroundings of one case."""

    events: str
    """The events topic's name."""
    sections: dict[str, Any]
    """Sections of the settings that differ from the benchmark's."""
    workers: int = 1
    round_trip_secs: float = 0.0


@contextmanager
def fleet(stage: Stage, checkout: Checkout, setup: Setup) -> Iterator[Fleet]:
    """Workers on an events topic. All other topics are new. They end with the block, as by SIGTERM."""
    stage.bus.ask("clear", "POST")
    near = (Rule(Latency(setup.round_trip_secs), Match(operation="PutEvents")),) if setup.round_trip_secs else ()
    set_plan(stage.bus, near)
    topics = world.make_topics(stage.bootstrap, real=True, events=setup.events)
    known = {name: value for name, value in topics.items() if name in checkout.topics}
    settings = world.write_settings(stage.folder, stage.bootstrap, known, stage.bus, sections=setup.sections)
    options = ["--workers", str(setup.workers)] if setup.workers > 1 else []
    with world.worker(
        settings, stage.bus.ca, checkout.path, checkout.python, signal.SIGTERM, options=options
    ) as process:  # fmt: skip
        yield Fleet(process, stage.bus)


def cost(first: Progress, last: Progress) -> dict[str, float]:
    """CPU time of an event, the speed, and the entries of a call, between two looks."""
    events = last.arrivals - first.arrivals
    return {
        "cpu_us_per_event": round((last.cpu_secs - first.cpu_secs) / events * 1e6, 1),
        "events_per_s": round(events / (last.at - first.at)),
        "entries_per_call": round(events / max(1, last.calls - first.calls), 2),
    }


def write_documents(folder: Path, customers: int) -> Path:
    """A folder with the documents of this number of customers, each with an account of its own.

    An account has a quota of checks whether buses exist: in one account, 1,000 destinations would wait 40 s for them.
    """
    documents = folder / f"destinations-{customers}"
    if not documents.exists():
        documents.mkdir()
        for customer in range(customers):
            world.write_document(documents, customer, _FIRST_ACCOUNT + customer)
    return documents


def in_runs(customers: int, events: int, length: int) -> Iterator[int]:
    """The customers of a number of events: each has its turn, with ``length`` events in a row."""
    return (number // length % customers for number in range(events))


def produced(stage: Stage, customers: Sequence[int] | Iterator[int], topic: str = "") -> str:
    """Write these customers' events to a topic, or to a new one. Returns its name."""
    name: str = topic or world.make_topics(stage.bootstrap, real=True)["events"]
    world.produce_for(stage.bootstrap, name, customers)
    return name
