"""The time for which one commit blocks the event loop: twelve partitions whose windows are full.

``python -m tests.bench.commits`` prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final, cast

import orjson
import uvloop

from pushrail_stream.core.flood_guard import FloodGuard
from pushrail_stream.core.record import Partition, TopicIdentity
from pushrail_stream.pipeline.assignment import Assignment
from tests.support.policy import POLICY

_PARTITIONS: Final = 12
_RUNS: Final = 50
_OPEN_EVERY: Final = 5
"""Each fifth offset is open, so the map of settled ones does not shrink to a few ranges."""


def measure() -> dict[str, float]:
    """Milliseconds of the longest commit and of the median one. Not from inside a loop.

    CPU time is the time on an idle core: other processes only add to the time by the clock.
    """
    stalls, costs = (sorted(times) for times in zip(*uvloop.run(_measure()), strict=True))
    return {
        "partitions": _PARTITIONS,
        "offsets_each": POLICY.event_buffer.partition_max_offsets,
        "longest_stall_ms": round(stalls[-1] * 1e3, 1),
        "median_stall_ms": round(stalls[len(stalls) // 2] * 1e3, 1),
        "longest_cpu_ms": round(costs[-1] * 1e3, 1),
    }


async def _measure() -> list[tuple[float, float]]:
    """Seconds by the clock and of CPU time of each commit."""
    guard = FloodGuard(POLICY.flood)
    assignment = Assignment(lambda _records: None, cast("Any", None), guard, POLICY.event_buffer, lambda _signal: None)
    partitions = [Partition("events", number) for number in range(_PARTITIONS)]
    assignment.assigned(dict.fromkeys(partitions), {"events": TopicIdentity("cluster", "id-of-the-topic")})
    for tracker in assignment.trackers.values():
        pendings = [tracker.track(offset, 800, 1) for offset in range(POLICY.event_buffer.partition_max_offsets)]
        for offset, pending in enumerate(pendings):
            if offset % _OPEN_EVERY and pending is not None:
                pending.settle()
    times = []
    for _ in range(_RUNS):
        began, spent = time.perf_counter(), time.thread_time()
        commits = assignment.committable()
        times.append((time.perf_counter() - began, time.thread_time() - spent))
        assert len(commits) == _PARTITIONS
        await asyncio.sleep(0)
    return times


if __name__ == "__main__":
    print(orjson.dumps(measure()).decode())
