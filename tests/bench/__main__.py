"""Measure the worker: CPU time per event, latency, memory. The last line is JSON, the lines before are for people."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from tests.bench import scale, world
from tests.bench.against import compare
from tests.bench.checkout import Checkout, open_checkout
from tests.bench.drain import Backlog, produce_backlog
from tests.bench.put_events import measure
from tests.bench.rows import FULL, QUICK, ROWS, measure_rows
from tests.bench.trial import Stage

RUNS: Final = 3
EMBEDDED_EVENTS: Final = 50_000
"""The embedded broker keeps 5 MiB a partition."""
_ROWS: Final = ("drain", *ROWS, *scale.ROWS)
LATENCY_EVENTS: Final = 600
LATENCY_PER_SECOND: Final = 60.0


def main() -> None:
    options = _options()
    ours = open_checkout()
    theirs = None if options.against is None else open_checkout(options.against)
    with tempfile.TemporaryDirectory() as name, world.broker() as (bootstrap, real):
        folder = Path(name)
        (folder / "destinations").mkdir()
        world.write_documents(folder / "destinations")
        result: dict[str, Any] = {"broker": "Apache Kafka" if real else "embedded"}
        with world.bus(folder) as bus:
            if "drain" in options.rows:
                result["events"] = options.events if real else min(options.events, EMBEDDED_EVENTS)
                backlog = produce_backlog(folder, bootstrap, bus, result["events"], real=real)
                if theirs is not None:
                    result |= compare(backlog.drain, ours, theirs, options.runs)
                else:
                    result |= _drain(backlog, ours, options.runs) | _latency(folder, bootstrap, bus, real=real)
            if (rows := [row for row in options.rows if row != "drain"]) and real:
                checkouts = [ours] if theirs is None else [ours, theirs]
                result["rows"] = _rows(rows, Stage(folder, bootstrap, bus), checkouts, is_full=options.full)
            elif rows:
                say(f"Rows that want a real Kafka are left out: {', '.join(rows)}")
    if theirs is None and "drain" in options.rows:
        result |= _put_events_alone(result["cpu_us_per_event"])
    for key, value in result.items():
        if key != "rows":
            say(f"  {key:38} {value}")
    print(json.dumps(result))


def _rows(names: list[str], stage: Stage, checkouts: list[Checkout], *, is_full: bool) -> dict[str, Any]:
    """The figures of these rows. Only those about destinations that fall behind compare two checkouts."""
    say(f"Python: {checkouts[0].build}")
    behind, of_scale = [name for name in names if name in ROWS], [name for name in names if name in scale.ROWS]
    found = measure_rows(behind, FULL if is_full else QUICK, stage, checkouts)
    return found | scale.measure_rows(of_scale, scale.FULL if is_full else scale.QUICK, stage, checkouts[0])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument("--events", type=int, default=200_000, help="backlog to drain (default 200,000)")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"drains of each checkout (default {RUNS})")
    parser.add_argument(
        "--only",
        dest="rows",
        type=_names,
        default=list(_ROWS),
        metavar="ROW,ROW",
        help=f"the parts to measure (default all): {', '.join(_ROWS)}",
    )
    parser.add_argument("--full", action="store_true", help="measure all rows but drain at full size")
    parser.add_argument(
        "--against",
        type=Path,
        metavar="PATH",
        help="compare with the worker of the checkout at PATH, in turn on the same broker and bus; "
        "the interpreter is PATH/.venv/bin/python if it exists, else this one",
    )
    return parser.parse_args()


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(_ROWS):
        raise argparse.ArgumentTypeError(f"there is no row {', '.join(sorted(unknown))}")
    return names


def _drain(backlog: Backlog, checkout: Checkout, runs: int) -> dict[str, Any]:
    drains = []
    for run in range(1, runs + 1):
        say(f"Draining it, run {run} of {runs} ...")
        drains.append(backlog.drain(checkout))
    cost = statistics.median(drain.cpu_us_per_event for drain in drains)
    return {
        "cpu_us_per_event": round(cost, 1),
        "cpu_us_per_event_runs": [round(drain.cpu_us_per_event, 1) for drain in drains],
        "events_per_s_per_core": round(1e6 / cost),
        "events_per_s_wall": round(statistics.median(drain.events_per_s for drain in drains)),
        "rss_mib": round(max(drain.peak_mib for drain in drains)),
        "runs": runs,
        "python": checkout.build,
    }


def _put_events_alone(worker_us: float) -> dict[str, Any]:
    say("PutEvents alone: ours and the stock client, in turn ...")
    alone: dict[str, Any] = measure()
    return alone | {"worker_vs_stock": round(alone["stock_put_events_cpu_us_per_event"] / worker_us, 2)}


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


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
