"""A worker under measurement: the surroundings that one case needs, and the worker's progress and cost so far."""

from __future__ import annotations

import json
import signal
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import psutil
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from pushrail_stream.sandbox.bus.faults import Rule, rules_to_json
from tests.bench import world
from tests.bench.checkout import Checkout
from tests.support.ports import free_port

TIERS: Final = (10, 120)
"""Delays of the retry topics, in seconds."""
_START_SECS: Final = 60.0
_LOOK_SECS: Final = 0.2
"""Time between two looks at the bus: a look is a TLS connection, for which the bus pays."""
_READ_AGAIN: Final = "pushrail_catch_up_records_total"
_SERVED: Final = "pushrail_catch_up_deliveries_total"


NO_SECTIONS: Final[Mapping[str, Any]] = MappingProxyType({})


class Look(NamedTuple):
    """The worker's progress at one moment."""

    at: float
    """Monotonic seconds."""
    arrivals: int
    """Entries that the buses took."""
    by_bus: Mapping[str, int]
    """The same by the buses' ARNs."""
    calls: int
    """PutEvents calls, failed ones included."""
    cpu_secs: float


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """The events of one case, and the behaviour of the buses."""

    customers: Iterable[int]
    """The customer of each event."""
    events: int
    """Their number."""
    spread: bool = False
    """Whether each customer has events on every partition."""
    plan: Sequence[Rule] = ()
    paces: Mapping[str, float] = field(default_factory=dict)
    """Events that a bus takes a second, by ARN. The others take any number."""


class Trial:
    """A running worker."""

    def __init__(self, process: psutil.Process, bus: world.Bus, port: int, copies: Callable[[], int]) -> None:
        self._process = process
        self._bus = bus
        self.port = port
        """Of the worker's own pages."""
        self.copies = copies
        """The retry copies that were written so far."""

    def look(self) -> Look:
        """The progress now."""
        counts, times = self._bus.ask("counts"), self._process.cpu_times()
        return Look(
            time.monotonic(), counts["arrivals"], counts["byBus"], counts["calls"], float(times.user + times.system)
        )

    def look_until(self, is_over: Callable[[Look], bool], limit_secs: float) -> Look:
        """The first look at which something holds, or the last one before the limit."""
        deadline = time.monotonic() + limit_secs
        while not is_over(seen := self.look()) and seen.at < deadline:
            assert self._process.is_running(), "the worker has ended"
            time.sleep(_LOOK_SECS)
        return seen

    def wait_for_calls(self) -> Look:
        """Wait until the worker has started and makes calls."""
        seen = self.look_until(lambda look: look.calls > 0, _START_SECS)
        assert seen.calls, f"no call within {_START_SECS:g} s"
        return seen

    def set_plan(self, plan: Sequence[Rule]) -> None:
        """Replace the faults of the buses."""
        set_plan(self._bus, plan)

    def mib(self, line: str) -> float:
        """The memory that this line of the process's status tells, in MiB."""
        return status_mib(self._process.pid, line)

    def read_again_per_served(self) -> float | None:
        """Records that cursors made the worker read again, for each delivery that this began; None without any."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as reply:
            lines = reply.read().decode().splitlines()
        values = dict(line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        served = float(values.get(_SERVED, 0))
        return round(float(values[_READ_AGAIN]) / served, 2) if served else None


@dataclass(frozen=True)
class Stage:
    """Broker and bus, for one worker after the other."""

    folder: Path
    """Of the settings; the documents are in its folder ``destinations``."""
    bootstrap: str
    bus: world.Bus

    def produce(self, surroundings: Surroundings) -> str:
        """Write the events on a topic of their own. Returns its name."""
        topic: str = world.make_topics(self.bootstrap, real=True)["events"]
        world.produce_for(self.bootstrap, topic, surroundings.customers, spread=surroundings.spread)
        return topic

    @contextmanager
    def trial(
        self, checkout: Checkout, events: str, surroundings: Surroundings, sections: Mapping[str, Any] = NO_SECTIONS
    ) -> Iterator[Trial]:
        """A worker on the events topic with this name. All other topics are new. It is killed at the end.

        ``sections``: of the settings that differ from the benchmark's.
        """
        self.bus.ask("clear", "POST")
        set_plan(self.bus, surroundings.plan)
        self.bus.put("paces", json.dumps(dict(surroundings.paces)).encode())
        topics = world.make_topics(self.bootstrap, real=True, tiers=TIERS, events=events)
        known = {name: value for name, value in topics.items() if name in checkout.topics}
        port = free_port()
        settings = world.write_settings(self.folder, self.bootstrap, known, self.bus, port, sections=sections)
        with world.worker(settings, self.bus.ca, checkout.path, checkout.python, signal.SIGKILL) as process:
            yield Trial(process, self.bus, port, lambda: self._count(topics["retry"]))

    def _count(self, topics: Mapping[str, Any]) -> int:
        """The records of these topics."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        latest = {
            TopicPartition(topic, number): OffsetSpec.latest()  # type: ignore[no-untyped-call]
            for topic in topics
            for number in range(world.PARTITIONS)
        }  # fmt: skip
        return sum(answer.result(30).offset for answer in admin.list_offsets(latest).values())


def set_plan(bus: world.Bus, plan: Sequence[Rule]) -> None:
    """Replace the faults of the buses."""
    bus.put("plan", json.dumps(rules_to_json(list(plan))).encode())


def status_mib(pid: int, line: str) -> float:
    """The memory that a line of a process's status tells, in MiB."""
    for text in Path(f"/proc/{pid}/status").read_text().splitlines():
        if text.startswith(f"{line}:"):
            return int(text.split()[1]) / 1024
    return 0.0
