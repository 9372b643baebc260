"""A bus whose calls all fail is called hardly more often than a healthy one, and every two seconds at most."""

from __future__ import annotations

import random

import pytest

from pushrail_stream.core.outage import DOWN_AFTER, PAUSES
from pushrail_stream.eventbridge.error_codes import CallReply
from tests.support.builders import destination
from tests.support.pipeline_world import RETRIES, World
from tests.support.records import P0, always, failed, record, take_all
from tests.support.virtual_time import in_virtual_time, virtual_loop

SECS = 120
WORSE = 2.0
"""An ailing bus may get at most this many times the calls of a healthy one."""
DOWN = SECS / PAUSES.cap_secs + DOWN_AFTER + 4
"""The calls to a bus that is down: the first failures, four shorter pauses, and one call after each of the longest."""
FAILURES = [failed("InternalException", 500), failed("ConnectionFailed")]


async def calls_made(reply: CallReply | None, per_second: float, burst: int) -> int:
    """PutEvents calls in two minutes for events that come in bursts; ``reply``: to all of them, None takes them."""
    world, start = World(destination()), virtual_loop().elapsed
    world.bus.answer(take_all if reply is None else always(reply))
    world.bus.latency = lambda _batch: 0.05
    async with world.worker(owns=[P0, *RETRIES], poll_secs=1.0, jitter=random.Random(7).random) as worker:
        number, bursts = 0, round(SECS * per_second / burst)
        for at in range(bursts):
            await worker.at(start + at * burst / per_second)
            worker.feed(*(record(number + n) for n in range(burst)))
            number += burst
        await worker.at(start + SECS)
    return len(world.bus.calls)


@pytest.mark.unmeasured
@pytest.mark.parametrize("reply", FAILURES, ids=lambda reply: reply.code)
@pytest.mark.parametrize(("per_second", "burst"), [(20, 1), (1, 1), (0.2, 1), (5, 10)])
@in_virtual_time
async def test_a_failing_bus_gets_no_flood_of_calls(reply: CallReply, per_second: float, burst: int) -> None:
    healthy = await calls_made(None, per_second, burst)
    ailing = await calls_made(reply, per_second, burst)
    assert 0 < ailing <= max(WORSE * healthy, DOWN)
