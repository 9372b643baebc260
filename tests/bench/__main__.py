"""``make bench``: what the worker costs. The last line is JSON; everything before is for people."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import psutil

from tests.bench import world
from tests.eventbridge.bench_put_events import measure

RUNS: Final = 3
EMBEDDED_EVENTS: Final = 50_000
"""The embedded broker keeps 5 MiB a partition."""
LATENCY_EVENTS: Final = 600
LATENCY_PER_SECOND: Final = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000, help="backlog to drain (default 200,000)")
    events: int = parser.parse_args().events
    with tempfile.TemporaryDirectory() as name, world.broker() as (bootstrap, real):
        folder = Path(name)
        (folder / "destinations").mkdir()
        world.write_documents(folder / "destinations")
        with world.bus(folder) as bus:
            backlog = events if real else min(events, EMBEDDED_EVENTS)
            result = _drain(folder, bootstrap, bus, backlog, real=real) | _latency(folder, bootstrap, bus, real=real)
    say("PutEvents alone: ours and the stock client, in turn ...")
    alone = measure()
    result |= alone | {
        "worker_vs_stock": round(alone["stock_put_events_cpu_us_per_event"] / result["cpu_us_per_event"], 2),
        "events": backlog,
        "runs": RUNS,
        "broker": "Apache Kafka" if real else "embedded",
    }
    for key, value in result.items():
        say(f"  {key:38} {value}")
    print(json.dumps(result))


def _drain(folder: Path, bootstrap: str, bus: world.Bus, events: int, *, real: bool) -> dict[str, Any]:
    topics = world.make_topics(bootstrap, real=real)
    say(f"Producing a backlog of {events:,} events ...")
    world.produce(bootstrap, topics["events"], events)
    costs, rates, memory = [], [], []
    for run in range(1, RUNS + 1):
        say(f"Draining it, run {run} of {RUNS} ...")
        bus.ask("clear", "POST")
        with world.worker(world.write_settings(folder, bootstrap, topics, bus), bus.ca) as process:
            # Start-up (imports, joining the group) is not counted: from the first tenth on.
            first = bus.wait_for(events // 10)
            cpu, started = _cpu(process), time.monotonic()
            last = bus.wait_for(events)
            costs.append((_cpu(process) - cpu) / (last - first) * 1e6)
            rates.append((last - first) / (time.monotonic() - started))
            memory.append(_peak_mib(process))
        assert bus.arrivals() == events, "an event was delivered twice, or not at all"
    cost = statistics.median(costs)
    return {
        "cpu_us_per_event": round(cost, 1),
        "cpu_us_per_event_runs": [round(value, 1) for value in costs],
        "events_per_s_per_core": round(1e6 / cost),
        "events_per_s_wall": round(statistics.median(rates)),
        "rss_mib": round(max(memory)),
    }


def _latency(folder: Path, bootstrap: str, bus: world.Bus, *, real: bool) -> dict[str, Any]:
    topics = world.make_topics(bootstrap, real=real)
    world.produce(bootstrap, topics["events"], world.CUSTOMERS)
    say(f"Latency of {LATENCY_EVENTS} events at {LATENCY_PER_SECOND:g} a second ...")
    bus.ask("clear", "POST")
    with world.worker(world.write_settings(folder, bootstrap, topics, bus), bus.ca):
        bus.wait_for(world.CUSTOMERS)  # signed in everywhere
        bus.ask("clear", "POST")
        world.produce(bootstrap, topics["events"], LATENCY_EVENTS, LATENCY_PER_SECOND)
        bus.wait_for(LATENCY_EVENTS)
        reply = bus.ask("latencies")
    samples = sorted(reply["latenciesMs"])
    cuts = statistics.quantiles(samples, n=100)
    return {"p50_ms": round(cuts[49], 1), "p99_ms": round(cuts[98], 1)}


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _peak_mib(process: psutil.Process) -> float:
    status = Path(f"/proc/{process.pid}/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return float(process.memory_info().rss) / 2**20


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
