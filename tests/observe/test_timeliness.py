"""The cause of a late delivery, as whole stories of a worker show it."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from pushrail_stream.core.destination import Destination
from pushrail_stream.core.record import Record
from pushrail_stream.eventbridge.error_codes import CallReply
from pushrail_stream.observe.signal_counts import SignalCounts
from tests.support.builders import destination, narrow
from tests.support.pipeline_world import World
from tests.support.records import START_MS, failed, records, take_all
from tests.support.virtual_time import in_virtual_time, virtual_loop

DOWN = failed("ServiceUnavailable", 503)
THROTTLED = failed("ThrottlingException", 400)
BLOCKED = failed("AccessDeniedException", 400)
OURS = failed("InvalidClientTokenId", 403, operation="AssumeRole")
FED_SECS = 60
RATE = 40
"""Events a second that open a cursor when none is taken."""


async def counts_of(
    to: Destination, reply: CallReply, *, until: float = 0, per_second: int = RATE, late_secs: float = 0
) -> SignalCounts:
    """The counts of a worker that gets events for a minute, ``late_secs`` after their producer has written them.

    The bus gives the reply until that time.
    """
    world = World(to)
    world.bus.answer(lambda batch: reply if virtual_loop().elapsed < until else take_all(batch), to.id)
    counts = SignalCounts()
    async with world.worker(observe=counts, poll_secs=1) as worker:
        for second in range(FED_SECS):
            await worker.at(second)
            begin = second * per_second
            worker.feed(*written(second - late_secs, records(range(begin, begin + per_second))))
        await worker.at(FED_SECS + 200)
    return counts


def written(secs: float, given: Iterable[Record]) -> list[Record]:
    return [one._replace(timestamp_ms=START_MS + round(secs * 1000)) for one in given]


FED = FED_SECS * RATE


@in_virtual_time
async def test_nothing_is_late_on_a_good_day() -> None:
    counts = await counts_of(destination(), DOWN)
    assert counts.late == {"ours": 0, "destination": 0}
    assert counts.latency["live"].buckets[-1] == ("+Inf", FED)


@in_virtual_time
async def test_events_that_waited_in_kafka_are_our_delay() -> None:
    assert (await counts_of(destination(), DOWN, late_secs=31)).late == {"ours": FED, "destination": 0}
    assert (await counts_of(destination(), DOWN, late_secs=29)).late == {"ours": 0, "destination": 0}


@pytest.mark.parametrize("reply", [DOWN, THROTTLED, BLOCKED], ids=["down", "throttles", "blocks"])
@pytest.mark.parametrize("per_second", [RATE, 1], ids=["with a backlog", "with copies"])
@in_virtual_time
async def test_a_destination_that_takes_nothing_is_no_delay_of_ours(reply: CallReply, per_second: int) -> None:
    counts = await counts_of(destination(), reply, until=FED_SECS - 5, per_second=per_second)
    assert counts.late["ours"] == 0
    assert counts.late["destination"] > 0 or counts.dead_letters["suspended"] > 0


@in_virtual_time
async def test_a_limit_of_the_destination_is_no_delay_of_ours() -> None:
    counts = await counts_of(narrow("acme", max_in_flight=1, per_second=2), DOWN)
    assert counts.late["ours"] == 0
    assert counts.late["destination"] > FED / 2


@pytest.mark.parametrize("per_second", [RATE, 1], ids=["with a backlog", "with copies"])
@in_virtual_time
async def test_a_fault_of_our_own_is_our_delay(per_second: int) -> None:
    counts = await counts_of(destination(), OURS, until=FED_SECS - 5, per_second=per_second)
    assert counts.late.total() <= FED_SECS * per_second, "a delivery is judged once, and not again on retry topics"
    assert counts.late["ours"] > 0.3 * FED_SECS * per_second, "the last events come within 30 s all the same"
    assert counts.late["destination"] <= per_second, "the fault held those of one second up for less than 30 s"


@in_virtual_time
async def test_a_restart_does_not_forget_our_fault() -> None:
    world = World(destination())
    world.bus.answer(lambda batch: OURS if virtual_loop().elapsed < FED_SECS else take_all(batch))
    before, after = SignalCounts(), SignalCounts()
    async with world.worker(observe=before) as worker:
        for second in range(FED_SECS):
            await worker.at(second)
            worker.feed(*written(second, records(range(second * RATE, second * RATE + RATE))))
        worker.commit()
    async with world.worker(observe=after) as worker:
        await worker.at(FED_SECS + 60)
    assert after.late["destination"] == 0
    assert after.late["ours"] > 0.3 * FED
