"""``make bench-isolation``: what the healthy customers notice when others' buses hang and throttle.

In one run on a real Apache Kafka, with the bus in a process of its own over TLS: latency of the healthy before and
during, the commit lag meanwhile, the time until the backlog is delivered once the buses are back, and a worker's memory
while one destination of many stays down. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import psutil
from confluent_kafka import Consumer, Producer, TopicPartition

from pushrail_stream.sandbox.bus.faults import CallError, Hang, Match, RateAbove, Rule, rules_to_json
from tests.bench import world
from tests.bench.__main__ import say

CUSTOMERS: Final = 200
_BUS: Final = "arn:aws:events:us-east-1:123456789012:event-bus/bus-{}"
HANGING: Final = [customer for customer in range(CUSTOMERS) if customer % 10 == 0]
THROTTLED: Final = [customer for customer in range(CUSTOMERS) if customer % 10 == 1]
HEALTHY: Final = [customer for customer in range(CUSTOMERS) if customer % 10 > 1]
_TROUBLE: Final = [
    Rule(Hang(), Match(operation="PutEvents", bus=_BUS.format("*0"))),
    Rule(
        CallError(400, "ThrottlingException", "Rate exceeded"),
        Match(operation="PutEvents", bus=_BUS.format("*1")),
        RateAbove(10),
    ),
]
_ONE_DOWN: Final = [Rule(Hang(), Match(operation="PutEvents", bus=_BUS.format(7)))]
_HEALTHY_SECS: Final = 180.0
"""Every delivery to a healthy bus has arrived by then, by way of the second retry topic if it must be."""


class Load:
    """A steady stream of events in a thread, each customer in turn; knows when each offset was produced."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap, "compression.type": "zstd", "linger.ms": 5})
        self._topic = topic
        self.produced = 0
        self.times = [array("d") for _ in range(world.PARTITIONS)]

    def run(self, secs: float, per_second: float) -> None:
        """Seconds of producing."""
        started, first = time.monotonic(), self.produced
        while (passed := time.monotonic() - started) < secs:
            while self.produced - first < passed * per_second:
                self._one()
            self._producer.poll(0.005)
        assert self._producer.flush(60) == 0

    def _one(self) -> None:
        now_ms = time.time_ns() // 1_000_000
        customer = self.produced % CUSTOMERS
        value = json.dumps({
            "eventType": "order.completed",
            "occurredAt": "2026-05-26T14:21:08.493Z",
            "source": "billing-service",
            "customerExternalId": f"acct_{customer}",
            "idempotencyKey": f"order_{self.produced}",
            "payload": {"producedAtMs": now_ms, "note": "x" * 480},
        })  # fmt: skip
        self._producer.produce(
            self._topic, value, f"acct_{customer}", timestamp=now_ms,
            on_delivery=lambda _error, m: self.times[m.partition() or 0].append(m.timestamp()[1] / 1000),
        )  # fmt: skip
        self.produced += 1


class CommitLag:
    """Watches the group: the age of the oldest record that is not committed."""

    def __init__(self, bootstrap: str, group: str, topic: str, load: Load) -> None:
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "log_level": 0})
        self._partitions = [TopicPartition(topic, number) for number in range(world.PARTITIONS)]
        self._load = load
        self.worst = 0.0

    def look(self) -> None:
        """One sample."""
        now = time.time()  # noqa: TID251 - compared with Kafka's timestamps
        for committed in self._consumer.committed(self._partitions, timeout=10):
            times, offset = self._load.times[committed.partition], max(committed.offset, 0)
            if offset < len(times):
                self.worst = max(self.worst, now - times[offset])

    def close(self) -> None:
        """Leave nothing open."""
        self._consumer.close()


@contextmanager
def watching(*samplers: Any, every: float = 0.5) -> Iterator[None]:
    """Call each of these again and again while the block runs."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(every):
            for sample in samplers:
                sample()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=400, help="events a second (default 400)")
    parser.add_argument("--secs", type=float, default=60, help="before, and again during the trouble (default 60)")
    parser.add_argument("--memory-secs", type=float, default=600, help="with one destination down (default 600)")
    parser.add_argument(
        "--memory-rate", type=float, default=3000, help="events a second meanwhile, as many as it can (default 3000)"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, world.broker() as (bootstrap, real):
        if not real:
            sys.exit("error: these figures want a real Apache Kafka: Docker, or Java 17 and Maven")
        folder = Path(name)
        _write_documents(folder)
        with world.bus(folder) as bus:
            topics = world.make_topics(bootstrap, real=True, tiers=(10, 120, 1800))
            settings = world.write_settings(folder, bootstrap, topics, bus)
            load = Load(bootstrap, topics["events"])
            lag = CommitLag(bootstrap, f"bench-{settings.stem}", topics["events"], load)
            with world.worker(settings, bus.ca) as process:
                result = _isolation(load, lag, bus, arguments.secs, arguments.rate)
                result |= _memory(load, bus, process, arguments.memory_secs, arguments.memory_rate)
            lag.close()
    for key, value in result.items():
        say(f"  {key:34} {value}")
    print(json.dumps({"customers": CUSTOMERS, "rate": arguments.rate, "secs": arguments.secs} | result))


def _isolation(load: Load, lag: CommitLag, bus: world.Bus, secs: float, rate: float) -> dict[str, Any]:
    say("Warming up: every destination signs in ...")
    load.run(5, rate)
    bus.wait_for(load.produced)
    bus.ask("clear", "POST")
    warm = load.produced
    say(f"{secs:g} s with all buses well ...")
    load.run(secs, rate)
    bus.wait_for(load.produced - warm)
    before = _latencies(bus, warm, load.produced)
    bus.ask("clear", "POST")
    first = load.produced
    say(f"{secs:g} s with {len(HANGING)} buses hanging and {len(THROTTLED)} throttling ...")
    _plan(bus, _TROUBLE)
    with watching(lag.look):
        load.run(secs, rate)
        during = _latencies(bus, first, load.produced)
        lag.look()
    _plan(bus, [])
    back = time.monotonic()
    waiting = load.produced - first - bus.arrivals()
    say(f"All buses are back; {waiting:,} deliveries are waiting ...")
    bus.wait_for(load.produced - first, 400)
    return {
        "healthy_p50_ms_before": before[0],
        "healthy_p50_ms_during": during[0],
        "healthy_p99_ms_before": before[1],
        "healthy_p99_ms_during": during[1],
        "p99_during_vs_before": round(during[1] / before[1], 2),
        "commit_lag_s_max": round(lag.worst, 1),
        "backlog": waiting,
        "recovery_s": round(time.monotonic() - back, 1),
        "arrived_more_than_once": bus.arrivals() - (load.produced - first),
    }


def _memory(load: Load, bus: world.Bus, process: psutil.Process, secs: float, rate: float) -> dict[str, Any]:
    if not secs:
        return {}
    say(f"{secs:g} s with one destination down, at {rate:g} events a second ...")
    _plan(bus, _ONE_DOWN)
    arrived = bus.arrivals()
    samples: list[tuple[float, float]] = []
    with watching(lambda: samples.append((time.monotonic(), process.memory_info().rss / 2**20)), every=5):
        load.run(secs, rate)
    arrived = bus.arrivals() - arrived
    half = samples[len(samples) // 2 :]
    slope = statistics.linear_regression(*zip(*half, strict=True)).slope * 60
    _plan(bus, [])
    return {
        "memory_rate": rate,
        "memory_arrivals_per_s": round(arrived / secs),
        "rss_mib_start": round(samples[0][1]),
        "rss_mib_median": round(statistics.median(rss for _, rss in samples)),
        "rss_mib_peak": round(max(rss for _, rss in samples)),
        "rss_mib_per_minute_second_half": round(slope, 2),
    }


def _latencies(bus: world.Bus, first: int, end: int) -> tuple[float, float]:
    """p50 and p99 of the healthy, in ms: of every event from ``first`` to below ``end``, however late it arrived."""
    samples: list[float] = []
    deadline = time.monotonic() + _HEALTHY_SECS
    for customer in HEALTHY:
        expected = produced_for(customer, first, end)
        while (
            len(arrived := bus.ask(f"latencies?bus={quote(_BUS.format(customer), safe='')}")["latenciesMs"]) < expected
        ):
            assert time.monotonic() < deadline, f"customer {customer} has {len(arrived)} events of {expected}"
            time.sleep(1)
        samples += arrived
    cuts = statistics.quantiles(samples, n=100)
    return round(cuts[49], 1), round(cuts[98], 1)


def produced_for(customer: int, first: int, end: int) -> int:
    """The number of this customer's events from ``first`` to below ``end``."""
    return len(range(first + (customer - first) % CUSTOMERS, end, CUSTOMERS))


def _plan(bus: world.Bus, rules: list[Rule]) -> None:
    bus.put("plan", json.dumps(rules_to_json(rules)).encode())


def _write_documents(folder: Path) -> None:
    (folder / "destinations").mkdir()
    for customer in range(CUSTOMERS):
        document = {
            "id": f"dst_{customer}",
            "vendor": "acme",
            "customerExternalId": f"acct_{customer}",
            "type": "EVENTBRIDGE",
            "busArn": _BUS.format(customer),
            "region": "us-east-1",
            "auth": {
                "mode": "ASSUME_ROLE",
                "roleArn": f"arn:aws:iam::123456789012:role/Writer{customer}",
                "externalId": f"ext-{customer}",
            },
        }
        (folder / "destinations" / f"{customer}.json").write_text(json.dumps(document))


if __name__ == "__main__":
    main()
