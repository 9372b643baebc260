"""``make soak``: a worker runs while destinations, roles' sessions, partitions and faults come and go.

Each round replaces destinations by others with roles of their own, sends events to all, lets some calls fail, and now
and then lets a second worker join and leave, which moves partitions. The first worker's memory is looked at when it is
idle. The run fails when it grows by more than ``--limit`` bytes for each replaced destination in the second half of the
rounds. Traffic goes to loopback only. The last line is JSON.

Twenty minutes replace some 10,000 destinations. Eight minutes (``--minutes 8``) are enough to see a leak of a few
kilobytes for each of them.

A second part, of a quarter of these minutes, is about the connections to AWS: see tests/soak/transport.py. ``--only``
runs one part for all minutes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

from pushrail_stream.sandbox.bus.faults import (
    CallError,
    Effect,
    ExpireTokens,
    Hang,
    Match,
    Operation,
    ResetAfter,
    ResetBefore,
    Rule,
    Times,
    rules_to_json,
)
from tests.bench import world
from tests.soak.growth import Sample, growth_per_replaced
from tests.soak.transport import REST_SECS, soak_transport

_EVENTS: Final = 2
"""For each destination and round."""
_MAX_EVENTS: Final = 2_000_000
"""Bounds the traffic of a run, whatever its length."""
_GUEST_EVERY: Final = 5
"""Rounds between two visits of a second worker."""
_SETTLE_SECS: Final = 6.0
"""Until changed documents are in force (5 s), and after a round until memory is looked at."""
_LIMIT: Final = 1_024
"""Bytes for each replaced destination. The smallest possible leak is larger: the state of a bus takes 1 KB, and a
role's session 5 KB. Noise is smaller: 1 MiB over 5,000 replaced destinations is 210 bytes.
"""
_TRANSPORT_PART: Final = 0.25
"""Part of the minutes for the connections, when both parts run."""
_FAILING: Final = 20
"""Calls that fail in a round with a fault."""


class _Fault(NamedTuple):
    """Calls of one operation that fail."""

    operation: Operation
    effect: Effect


_FAULTS: Final[Sequence[_Fault | None]] = (
    None,
    _Fault("PutEvents", ExpireTokens()),
    _Fault("AssumeRole", CallError(403, "AccessDenied")),
    _Fault("PutEvents", CallError(500, "InternalFailure")),
    _Fault("DescribeEventBus", CallError(400, "ResourceNotFoundException")),
    _Fault("PutEvents", ResetBefore()),
    _Fault("PutEvents", ResetAfter()),
    _Fault("PutEvents", Hang()),
)
"""By turns: no fault, sessions that end early, roles that deny us, a bus that fails, buses that are missing, resets
before and after a call, calls that stall."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="make soak ARGS=...", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="length of the run (default 20)")
    parser.add_argument("--destinations", type=int, default=500, help="destinations at any time (default 500)")
    parser.add_argument("--replaced", type=int, default=250, help="destinations replaced in a round (default 250)")
    parser.add_argument("--limit", type=int, default=_LIMIT, help=f"bytes for each replaced one (default {_LIMIT})")
    parser.add_argument("--only", choices=("worker", "transport"), help="run this part alone")
    parser.add_argument(
        "--rest", type=float, default=REST_SECS, help=f"seconds between two rounds of requests (default {REST_SECS})"
    )
    options = parser.parse_args()
    result: dict[str, Any] = {}
    if options.only != "transport":
        result |= _soak_worker(options)
    if options.only != "worker":
        part = 1.0 if options.only else _TRANSPORT_PART
        result["transport"] = soak_transport(options.minutes * part, options.rest)
        result["ok"] = result.get("ok", True) and result["transport"]["ok"]
    print(json.dumps(result))
    if not result["ok"]:
        sys.exit("error: something grows with what comes and goes, or the run was too short to tell")


def _soak_worker(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name, world.broker() as (bootstrap, real):
        folder = Path(name)
        (folder / "destinations").mkdir()
        with world.bus(folder) as bus:
            samples = soak(folder, bootstrap, bus, options, real=real)
    growth = growth_per_replaced(samples)
    return {
        "rounds": len(samples),
        "replaced": samples[-1].replaced,
        "rss_mib_first": round(samples[0].rss / 2**20, 1),
        "rss_mib_last": round(samples[-1].rss / 2**20, 1),
        "bytes_per_replaced": None if growth is None else round(growth),
        "limit": options.limit,
        "ok": growth is not None and growth <= options.limit,
        "broker": "Apache Kafka" if real else "embedded",
    }


def soak(folder: Path, bootstrap: str, bus: world.Bus, options: argparse.Namespace, *, real: bool) -> list[Sample]:
    """Run the rounds; the worker's memory after each."""
    ends_at = time.monotonic() + options.minutes * 60
    topics = world.make_topics(bootstrap, real=real)
    settings = world.write_settings(folder, bootstrap, topics, bus)
    there = list(range(options.destinations))
    for number in there:
        world.write_document(folder / "destinations", number)
    samples: list[Sample] = []
    replaced = 0
    with world.worker(settings, bus.ca) as process:
        while not samples or (time.monotonic() < ends_at and len(samples) * _EVENTS * len(there) < _MAX_EVENTS):
            with ExitStack() as guests:
                if len(samples) % _GUEST_EVERY == _GUEST_EVERY - 1:
                    guests.enter_context(world.worker(settings, bus.ca))
                _round(bootstrap, topics["events"], bus, there, len(samples))
            samples.append(Sample(replaced, process.memory_info().rss))
            say(f"round {len(samples)}: {replaced:,} replaced, {samples[-1].rss / 2**20:.1f} MiB")
            gone, there = there[: options.replaced], there[options.replaced :]
            new = range(there[-1] + 1, there[-1] + 1 + len(gone))
            for number in new:
                world.write_document(folder / "destinations", number)
            for number in gone:
                (folder / "destinations" / f"{number}.json").unlink()
            there += new
            replaced += len(gone)
    return samples


def _round(bootstrap: str, topic: str, bus: world.Bus, there: list[int], number: int) -> None:
    """Send events to every destination; in all rounds but those without a fault some calls fail."""
    fault = _FAULTS[number % len(_FAULTS)]
    rules = [] if fault is None else [Rule(fault.effect, Match(operation=fault.operation), Times(_FAILING))]
    bus.put("plan", json.dumps(rules_to_json(rules)).encode())
    time.sleep(_SETTLE_SECS)
    before = bus.arrivals()
    world.produce_for(bootstrap, topic, [customer for customer in there for _ in range(_EVENTS)])
    # Events for a missing bus become dead letters.
    bus.wait_for(before + _EVENTS * (len(there) - _FAILING))
    time.sleep(_SETTLE_SECS)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
