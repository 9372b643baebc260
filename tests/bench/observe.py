"""Measure the cost of observing: CPU time per event of each observer, of a scrape and of the status page. Ends in JSON.

``metrics_and_logs_percent_of_cpu`` is the share of a worker that fills its core: what each event costs, and besides a
scrape every 15 s and the statistics of its four Kafka clients every 2 s (as far as we read them: librdkafka's own work
for them is not in it, nor is the attempts log). At most 5 is the aim.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import io
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from confluent_kafka import Consumer

from pushrail_stream.core.outcome import Delivered
from pushrail_stream.core.record import Partition
from pushrail_stream.core.retry import Settled
from pushrail_stream.core.signals import Attempted
from pushrail_stream.kafka.producer import KafkaLog
from pushrail_stream.kafka.statistics import INTERVAL_MS, StatisticsKeeper
from pushrail_stream.observe.attempts import AttemptsLog
from pushrail_stream.observe.fan_out import FanOut
from pushrail_stream.observe.incidents import RecentIncidents
from pushrail_stream.observe.log_observer import LogObserver
from pushrail_stream.observe.logging import open_log
from pushrail_stream.observe.metrics import Metrics
from pushrail_stream.observe.readiness import Readiness
from pushrail_stream.observe.status_page import status_page
from pushrail_stream.observe.worker_record import WorkerIdentity
from pushrail_stream.pipeline.stats import WorkerStats
from pushrail_stream.ports.kafka import ClientStatistics
from pushrail_stream.ports.pipeline import Observer
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.settings.model import KafkaSettings
from tests.bench.world import broker, make_topics
from tests.support import virtual_time
from tests.support.builders import destination
from tests.support.pipeline_world import HANGS, RETRIES, World
from tests.support.policy import TIERS, buffer_limits
from tests.support.records import EVENTS, record
from tests.support.signals import attempted
from tests.support.stats import stats_of
from tests.support.virtual_time import VirtualClock

_ENTRIES = 10
_CALLS = 5_000
_RUNS = 7
_PARTITIONS = 12
_CLIENTS = ("events", "retries", "copies", "attempts")
_SCRAPE_MS = 15_000
"""From one scrape to the next, as deploy/ has it."""
_AHEAD = 3_000
"""Attempt records that wait for Kafka at once: more than the log holds would be lost, and cost nothing."""


def _signals(destinations: int) -> list[Attempted]:
    plain = attempted(*[(Delivered("e"), Settled())] * _ENTRIES)
    return [
        plain._replace(destination=replace(plain.destination, id=f"dst_{number:05}")) for number in range(destinations)
    ]


def _per_event_us(observe: Callable[[Any], None], signals: list[Attempted]) -> float:
    """Microseconds of CPU time, the median of several runs."""
    costs = []
    for _ in range(_RUNS):
        started = time.process_time()
        for number in range(_CALLS):
            observe(signals[number % len(signals)])
        costs.append((time.process_time() - started) * 1e6 / _CALLS / _ENTRIES)
    return round(statistics.median(costs), 2)


async def _attempts_log_us_per_event(signals: list[Attempted]) -> float:
    """With its records written: what librdkafka's threads take until Kafka has them all counts too."""
    with broker() as (bootstrap, real):
        topic = make_topics(bootstrap, real=real)["attempts"]
        async with KafkaLog(KafkaSettings(bootstrap_servers=bootstrap), topic) as log:
            observe = AttemptsLog(log.append)

            async def until_written(at_most: int = 0) -> None:
                while log.waiting > at_most:  # noqa: ASYNC110 - librdkafka tells nobody
                    await asyncio.sleep(0.005)

            costs = []
            for _ in range(_RUNS):
                started = time.process_time()
                for number in range(_CALLS):
                    observe(signals[number % len(signals)])
                    await until_written(_AHEAD)
                await until_written()
                costs.append((time.process_time() - started) * 1e6 / _CALLS / _ENTRIES)
            assert log.lost == 0
    return round(statistics.median(costs), 2)


def _ms(act: Callable[[], object]) -> float:
    costs = []
    for _ in range(_RUNS):
        started = time.process_time()
        act()
        costs.append((time.process_time() - started) * 1e3)
    return round(statistics.median(costs), 3)


async def _scrapes(destinations: int) -> dict[str, float]:
    """A worker whose destinations all have a call in flight and a delivery that waits, which a scrape looks at."""
    world = World(*(destination(f"{number:05}") for number in range(destinations)), latency=HANGS)
    partitions = [Partition(EVENTS, number) for number in range(_PARTITIONS)]
    room = buffer_limits(max_events=10 * destinations, max_bytes=2**40)
    found = {}
    async with world.worker(owns=(*partitions, *RETRIES), limits=room) as worker:
        for turn in range(2):
            numbers = range(destinations)
            worker.feed(*(
                record(turn * destinations + n, f"{n:05}", partition=partitions[n % _PARTITIONS]) for n in numbers
            ))  # fmt: skip
            if turn == 0:
                await worker.at(1)  # its batches have left

        def stats(max_destinations: int = 0) -> WorkerStats:
            return dataclasses.replace(
                worker.engine.stats(max_destinations),
                now_ms=VirtualClock().now_ms(),
                kafka=dict.fromkeys(_CLIENTS, ClientStatistics()),
                poll_ages=dict.fromkeys(_CLIENTS[:2], 0.1),
            )

        numbers_of = stats().dispatcher
        assert (numbers_of.active, numbers_of.calls, numbers_of.waiting) == (destinations,) * 3, numbers_of
        for name, most in (("", 0), ("_each_with_series", destinations)):
            metrics = Metrics(stats, {tier.topic: tier.delay_secs for tier in TIERS}, max_destinations=most)
            for signal in _signals(destinations):
                metrics(signal)
            found[f"scrape_ms{name}"] = _ms(lambda metrics=metrics: metrics.exposition(""))  # type: ignore[misc]
            found[f"scrape_bytes{name}"] = float(len(metrics.exposition("")[0]))
        found["status_page_ms"] = _ms(
            lambda: status_page(WorkerIdentity.new("worker", "", 0), stats, [], metrics.dead_letters, [])
        )
    return found


def _statistics_ms() -> float:
    """Of one client: a consumer of a topic, whose statistics are the longest."""
    texts = list[str]()
    with EmbeddedBroker.start({}) as kafka:
        kafka.create_topic("events", _PARTITIONS)
        consumer = Consumer({
            "bootstrap.servers": kafka.bootstrap_servers, "group.id": "bench", "log_level": 0,
            "statistics.interval.ms": 200, "stats_cb": texts.append,
        })  # fmt: skip
        consumer.subscribe(["events"])
        while not consumer.assignment() or len(texts) < _RUNS:
            consumer.poll(0.1)
        consumer.close()
    keeper = StatisticsKeeper()
    return _ms(lambda: keeper(texts[-1]))


def _cpu_us_per_event() -> float:
    """The figures of `make bench` on this machine. It takes a few minutes."""
    print("Measuring the worker; --cpu-us-per-event spares it ...", file=sys.stderr)
    done = subprocess.run([sys.executable, "-m", "tests.bench"], stdout=subprocess.PIPE, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1])["cpu_us_per_event"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--destinations", type=int, default=10_000)
    parser.add_argument("--cpu-us-per-event", type=float, help="of a worker on this machine; else it is measured")
    options = parser.parse_args()
    signals = _signals(200)
    log = open_log("info", stream=io.StringIO(), as_json=True)
    state = stats_of()
    quiet: list[Observer] = [LogObserver(log), Metrics(state), Readiness([], state), RecentIncidents(lambda: 0)]
    found: dict[str, float] = {
        "metrics_us_per_event": _per_event_us(Metrics(state), signals),
        "metrics_with_destinations_us_per_event": _per_event_us(Metrics(state, max_destinations=10_000), signals),
        "log_at_info_us_per_event": _per_event_us(LogObserver(log), signals),
        "log_at_debug_us_per_event": _per_event_us(
            LogObserver(open_log("debug", stream=io.StringIO(), as_json=True)), signals
        ),
        "metrics_log_and_state_us_per_event": _per_event_us(FanOut(quiet, log), signals),
        "attempts_log_us_per_event": asyncio.run(_attempts_log_us_per_event(signals)),
        "statistics_ms_per_client": _statistics_ms(),
    }
    found |= virtual_time.run(_scrapes(options.destinations))
    whole = found["cpu_us_per_event"] = options.cpu_us_per_event or _cpu_us_per_event()
    busy = found["metrics_log_and_state_us_per_event"] / whole
    idle = found["statistics_ms_per_client"] * len(_CLIENTS) / INTERVAL_MS + found["scrape_ms"] / _SCRAPE_MS
    found["metrics_and_logs_percent_of_cpu"] = round(100 * (busy + idle), 2)
    for name, value in found.items():
        print(f"  {name:40} {value:,}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
