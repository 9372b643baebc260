"""Drain a backlog with one worker and measure its CPU time, speed and memory."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from tests.bench import world
from tests.bench.checkout import Checkout


class Drain(NamedTuple):
    """One run of one worker."""

    cpu_us_per_event: float
    events_per_s: float
    peak_mib: float


class Backlog(NamedTuple):
    """Events on a topic; each run reads all of them with a consumer group of its own."""

    folder: Path
    bootstrap: str
    bus: world.Bus
    topics: dict[str, Any]
    events: int

    def drain(self, checkout: Checkout) -> Drain:
        """Run the checkout's worker until every event has arrived at the bus."""
        self.bus.ask("clear", "POST")
        topics = {name: value for name, value in self.topics.items() if name in checkout.topics}
        settings = world.write_settings(self.folder, self.bootstrap, topics, self.bus)
        with world.worker(settings, self.bus.ca, checkout.path, checkout.python) as process:
            # Imports and joining the group are not counted: the measurement begins after a tenth of the events.
            first = self.bus.wait_for(self.events // 10)
            cpu, started = _cpu_secs(process), time.monotonic()
            last = self.bus.wait_for(self.events)
            cost = (_cpu_secs(process) - cpu) / (last - first) * 1e6
            rate = (last - first) / (time.monotonic() - started)
            peak = _peak_mib(process)
        arrivals = self.bus.arrivals()
        assert arrivals == self.events, f"{arrivals} entries arrived for {self.events} events"
        return Drain(cost, rate, peak)


def produce_backlog(folder: Path, bootstrap: str, bus: world.Bus, events: int, *, real: bool) -> Backlog:
    """Create topics and write the events."""
    topics = world.make_topics(bootstrap, real=real)
    print(f"Producing a backlog of {events:,} events ...", file=sys.stderr, flush=True)
    world.produce(bootstrap, topics["events"], events)
    return Backlog(folder, bootstrap, bus, topics, events)


def _cpu_secs(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _peak_mib(process: psutil.Process) -> float:
    status = Path(f"/proc/{process.pid}/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return float(process.memory_info().rss) / 2**20
