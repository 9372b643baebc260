"""A destination that falls behind never slows another one: it reads from its own position in the log."""

from __future__ import annotations

from collections import Counter

import pytest

from pushrail_stream.core.signals import CursorClosed, CursorOpened, Suspended
from pushrail_stream.eventbridge.error_codes import CallReply
from pushrail_stream.pipeline.retry_now import RetryRun
from tests.support.builders import destination, narrow
from tests.support.pipeline_world import HANGS, Worker, World
from tests.support.policy import buffer_limits, lane_limits, retry_policy
from tests.support.records import (
    P0,
    RETRY,
    always,
    answered,
    failed,
    fault,
    keys,
    record,
    records,
    retry_record,
    take_all,
)
from tests.support.virtual_time import in_virtual_time, virtual_loop

DOWN = failed("ServiceUnavailable", 503)
BLOCKED = failed("AccessDeniedException", 400)
OURS = failed("InvalidClientTokenId", 403, operation="AssumeRole")


def falls_behind(reply: CallReply, until: float = 1e9) -> World:
    """A bus that gives this reply until then, and one that is well."""
    world = World(destination("ill"), destination("fine"))
    world.bus.answer(lambda batch: reply if virtual_loop().elapsed < until else take_all(batch), "dst_ill")
    return world


async def feed_steadily(worker: Worker, secs: int, per_second: int) -> int:
    """This many events a second for the ill bus, and one for the other. Returns the number of all."""
    offset = 0
    for tenth in range(10 * secs):
        await worker.at(tenth / 10)
        worker.feed(*records(range(offset, offset + per_second // 10), "ill"))
        offset += per_second // 10
        if tenth % 10 == 0:
            worker.feed(record(offset, "fine"))
            offset += 1
    return offset


@pytest.mark.parametrize("reply", [DOWN, failed("ConnectionFailed"), failed("ReadTimeout")])
@in_virtual_time
async def test_an_outage_costs_no_copy(reply: CallReply) -> None:
    world = falls_behind(reply, until=15)
    async with world.worker() as worker:
        fed = await feed_steadily(worker, 12, 300)
        assert worker.commit() == {P0: fed}, "the commit does not wait for the outage"
        assert [at for at, _ in world.bus.made("dst_fine")] == [round(n + 0.1, 6) for n in range(12)]
        await worker.at(15)
        assert len(world.bus.made("dst_ill")) < 30
        await worker.at(24)
        assert world.topics.written == []
        assert len(world.bus.arrived["dst_ill"]) == len(set(world.bus.arrived["dst_ill"])) == 3_600
        assert {closed.why for closed in worker.reported(CursorClosed)} == {"caught_up"}


@in_virtual_time
async def test_few_events_leave_as_copies() -> None:
    world = falls_behind(DOWN)
    async with world.worker() as worker:
        await worker.feed_until(12, *records(range(200), "ill"))
        assert worker.reported(CursorOpened) == []
        assert Counter(tier for _, _, tier, _ in world.topics.moved()) == {"10s": 200}
        assert worker.commit() == {P0: 200}


@in_virtual_time
async def test_an_entry_that_fails_alone_leaves_after_its_hold() -> None:
    world = World(narrow("ill", 1, per_second=10), destination("fine"))
    bad = {str(number) for number in range(700, 705)}
    world.bus.answer(
        lambda batch: answered(batch, {key: fault("InternalFailure") for key in keys(batch) if key in bad}), "dst_ill"
    )
    async with world.worker() as worker:
        await feed_steadily(worker, 12, 200)
        await worker.at(40)
        assert len(worker.reported(CursorOpened)) == 1
        assert sorted(origin for _, origin, _, _ in world.topics.moved()) == sorted(bad)
        assert {(tier, reason) for _, _, tier, reason in world.topics.moved()} == {("10s", "retryable")}
        first = {key: at for at, sent in reversed(world.bus.made("dst_ill")) for key in sent}
        assert all(3 <= at - first[origin] <= 10 for at, origin, _, _ in world.topics.moved())
        assert len(world.bus.arrived["dst_ill"]) == 2_400 - len(bad)


@in_virtual_time
async def test_a_suspended_destination_drains_to_the_dead_letters() -> None:
    world = falls_behind(DOWN)
    async with world.worker() as worker:
        await feed_steadily(worker, 12, 300)
        world.bus.answer(always(BLOCKED), "dst_ill")
        world.topics.latency = 1.0
        writing, began = list[int](), worker.ledger.dead_lettered
        for tenth in range(120, 250):
            await worker.at(tenth / 10)
            writing.append(worker.ledger.in_flight)
        assert len(worker.reported(Suspended)) >= 1
        assert (began, worker.ledger.dead_lettered, worker.ledger.moved_to_retry) == (0, 3_600, 0)
        assert 500 < max(writing) <= 1_300, "a bounded number of writes at a time"


@in_virtual_time
async def test_our_own_fault_costs_no_call_and_no_event() -> None:
    world = falls_behind(OURS, until=300)
    async with world.worker(policy=retry_policy(max_age_secs=100)) as worker:
        fed = await feed_steadily(worker, 12, 300)
        assert worker.commit() == {P0: fed}
        await worker.at(300)
        assert len(world.bus.made("dst_ill")) < 200
        await worker.at(330)
        assert world.topics.written == []
        assert len(world.bus.arrived["dst_ill"]) == len(set(world.bus.arrived["dst_ill"])) == 3_600


@in_virtual_time
async def test_a_retry_now_ends_the_pause_of_a_destination_with_cursors() -> None:
    world = falls_behind(DOWN, until=13.1)
    async with world.worker() as worker:
        await feed_steadily(worker, 12, 300)
        await worker.at(13.15)
        last = world.bus.made("dst_ill")[-1][0]
        assert last < 13.1
        worker.dispatcher.retry_now("dst_ill")
        await worker.at(13.2)
        assert world.bus.made("dst_ill")[-1][0] > 13.1
        await worker.at(21)
        assert len(world.bus.arrived["dst_ill"]) == 3_600
        assert world.topics.written == []


@in_virtual_time
async def test_a_retry_now_finds_room_beside_a_cursor() -> None:
    world = World(destination("acme"), latency=0.05)
    world.bus.answer(lambda batch: DOWN if virtual_loop().elapsed < 13 else take_all(batch))
    async with world.worker(owns=[P0, RETRY]) as worker:
        for tenth in range(130):
            await worker.feed_until(tenth / 10 + 0.1, *records(range(150 * tenth, 150 * tenth + 150)))
        given = [retry_record(n, event=100_000 + n, due=3_600.0) for n in range(30)]
        worker.feed_retries(*given)

        async def read(_topic: str, _starts: object) -> object:
            yield given

        await worker.at(16)
        run = RetryRun("dst_acme")
        await worker.engine.begin_retries(run, read)  # type: ignore[arg-type]
        assert (run.begun, run.problem) == (30, "")
        assert len(world.bus.arrived["dst_acme"]) < 19_500, "the cursor has not caught up"


@pytest.mark.parametrize("is_hanging", [True, False])
@in_virtual_time
async def test_a_retry_has_no_cursor_and_climbs(*, is_hanging: bool) -> None:
    world = falls_behind(DOWN)
    world.bus.latency = lambda batch: HANGS if is_hanging and batch.destination.id == "dst_ill" else 0.01
    async with world.worker(owns=[P0, RETRY], batches=lane_limits(hold_secs=5)) as worker:
        worker.feed_retries(*(retry_record(n, "ill", event=n) for n in range(500)))
        await worker.at(7.5)
        assert worker.reported(CursorOpened) == []
        assert Counter(tier for _, _, tier, _ in world.topics.moved()) == {"2m": 500}
        assert worker.commit() == {RETRY: 500}


def region_that_is_down(customers: int) -> tuple[list[str], World]:
    """Customers whose buses are all down for a minute, and their world."""
    names = [f"d{number}" for number in range(customers)]
    world = World(*(destination(name) for name in names))
    for name in names:
        world.bus.answer(lambda batch: DOWN if virtual_loop().elapsed < 60 else take_all(batch), f"dst_{name}")
    return names, world


@in_virtual_time
async def test_a_region_that_is_down_costs_no_copy() -> None:
    names, world = region_that_is_down(30)
    async with world.worker() as worker:
        for second in range(60):
            await worker.at(second)
            worker.feed(*(record(30 * second + n, name) for n, name in enumerate(names)))
        assert worker.commit()[P0] >= 30 * 49
        await worker.at(75)
        assert world.topics.written == []
        assert sum(map(len, world.bus.arrived.values())) == 30 * 60
        assert worker.reported(CursorOpened) == [], "each cursor has its own deliveries only"


@in_virtual_time
async def test_a_region_that_is_down_fills_no_buffer() -> None:
    """Each of many destinations has few events, and all together have more than the worker may hold."""
    names, world = region_that_is_down(100)
    async with world.worker(limits=buffer_limits(max_events=400)) as worker:
        held = 0
        for tenth in range(40):
            await worker.at(tenth / 10)
            held += worker.feed(*(record(25 * tenth + n, names[(25 * tenth + n) % 100]) for n in range(25))).hold
        assert held < 20
        assert worker.commit()[P0] > 500, "before any hold is over"
        await worker.at(75)
        assert world.topics.written == []
        assert sum(map(len, world.bus.arrived.values())) == 1_000


@in_virtual_time
async def test_a_hanging_bus_costs_no_copy() -> None:
    world = falls_behind(DOWN)
    world.bus.latency = lambda batch: HANGS if batch.destination.id == "dst_ill" else 0.01
    world.bus.answer(always(DOWN), "dst_ill")
    async with world.worker() as worker:
        fed = await feed_steadily(worker, 22, 200)
        assert worker.commit()[P0] >= fed - 300
        world.bus.latency = lambda _batch: 0.01
        world.bus.answer(take_all, "dst_ill")
        await worker.at(40)
        assert world.topics.written == []
        assert len(world.bus.arrived["dst_ill"]) == len(set(world.bus.arrived["dst_ill"])) == 4_400
