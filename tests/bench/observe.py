"""What watching costs: CPU time per event of each observer, and of a scrape with many destinations. Ends in JSON.

The share of a worker is these figures over ``cpu_us_per_event`` of ``make bench`` on the same machine.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pushrail_stream.core.lane import Lane, LaneLimits
from pushrail_stream.core.outcome import Delivered
from pushrail_stream.core.retry import Settle
from pushrail_stream.core.signals import Attempted
from pushrail_stream.http.status import WorkerStatus, status_page
from pushrail_stream.kafka.options import KafkaOptions
from pushrail_stream.kafka.producer import KafkaLog
from pushrail_stream.observe.attempts import AttemptsLog
from pushrail_stream.observe.fan_out import FanOut
from pushrail_stream.observe.logging import LogObserver, open_log
from pushrail_stream.observe.metrics import Metrics
from pushrail_stream.observe.readiness import Readiness
from pushrail_stream.observe.recent import Recent
from pushrail_stream.pipeline.deliver import Census
from pushrail_stream.pipeline.state import WorkerState
from pushrail_stream.ports import Observer
from tests.bench.world import broker, make_topics
from tests.observe.signals import attempted
from tests.pipeline.records import destination

_ENTRIES = 10
_CALLS = 5_000
_RUNS = 7
_AHEAD = 3_000
"""Attempt records that wait for Kafka at once: more than the log holds would be lost, and cost nothing."""


def _signals(destinations: int) -> list[Attempted]:
    plain = attempted(*[(Delivered("e"), Settle())] * _ENTRIES)
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
        async with KafkaLog.open(KafkaOptions(bootstrap), topic) as log:
            observe = AttemptsLog(log)

            async def until_written(at_most: int = 0) -> None:
                while log.backlog > at_most:  # noqa: ASYNC110 - librdkafka tells nobody
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
    return round(statistics.median(costs), 1)


async def _scrapes(destinations: int) -> dict[str, float]:
    """A worker with so many lanes, all of which a scrape has to look at; with and without series of their own."""
    limits = LaneLimits()
    lanes = [Lane(replace(destination(), id=f"dst_{number:05}"), limits) for number in range(destinations)]

    def census() -> Census:
        suspended = sum(lane.is_suspended for lane in lanes)
        slowed = sum(not lane.window.is_open for lane in lanes)
        calls, waiting = sum(lane.in_flight for lane in lanes), sum(len(lane) for lane in lanes)
        return Census(len(lanes), suspended, slowed, 0, calls, waiting)

    found = {}
    for name, most in (("", 0), ("_each_with_series", destinations)):
        metrics = Metrics(WorkerState(census=census), max_destinations=most)
        for signal in _signals(destinations):
            metrics(signal)
        found[f"scrape_ms{name}"] = _ms(lambda metrics=metrics: metrics.exposition(""))  # type: ignore[misc]
        found[f"scrape_bytes{name}"] = float(len(metrics.exposition("")[0]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--destinations", type=int, default=10_000)
    options = parser.parse_args()
    signals = _signals(200)
    log = open_log("info", stream=io.StringIO(), as_json=True)
    state = WorkerState()
    metrics = Metrics(state)
    quiet: list[Observer] = [LogObserver(log), metrics, Readiness([]), Recent(lambda: 0)]
    found: dict[str, float] = {
        "metrics_us_per_event": _per_event_us(Metrics(state), signals),
        "metrics_with_destinations_us_per_event": _per_event_us(Metrics(state, max_destinations=10_000), signals),
        "log_at_info_us_per_event": _per_event_us(LogObserver(log), signals),
        "log_at_debug_us_per_event": _per_event_us(
            LogObserver(open_log("debug", stream=io.StringIO(), as_json=True)), signals
        ),
        "metrics_log_and_state_us_per_event": _per_event_us(FanOut(quiet, log), signals),
        "attempts_log_us_per_event": asyncio.run(_attempts_log_us_per_event(signals)),
    }
    found |= asyncio.run(_scrapes(options.destinations))
    status = WorkerStatus("worker", state, list, lambda: metrics.dead_letters, list)
    found["status_page_ms"] = _ms(lambda: status_page(status))
    for name, value in found.items():
        print(f"  {name:40} {value:,}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
