"""The engine puts the pipeline together and shows its state."""

from __future__ import annotations

import pytest

from tests.support.builders import destination
from tests.support.pipeline_world import HANGS, Worker, World
from tests.support.policy import lane_limits
from tests.support.records import always, failed, in_turn, record, take_all
from tests.support.virtual_time import in_virtual_time


@in_virtual_time
async def test_destinations_in_need_come_first() -> None:
    names = ("fine", "gone", "slowed", "suspended")
    world = World(*(destination(name) for name in names))
    world.bus.bus_status["dst_gone"] = "gone"
    refused, slow_down = failed("AccessDeniedException", 403), failed("ThrottlingException", 400)
    async with world.worker() as worker:
        world.bus.answer(take_all, "dst_fine")
        world.bus.answer(always(refused), "dst_suspended")
        world.bus.answer(always(slow_down), "dst_slowed")
        for number in range(5 * len(names)):
            await worker.feed_until(number * 0.2, record(number, names[number % len(names)]))
        views = worker.engine.stats(10).destinations
        assert [(view.destination_id, view.state) for view in views][:3] == [
            ("dst_gone", "gone"), ("dst_suspended", "suspended"), ("dst_slowed", "slowed"),
        ]  # fmt: skip
        assert len(worker.engine.stats(2).destinations) == 2
        dispatcher_stats = worker.engine.stats().dispatcher
        assert (dispatcher_stats.gone, dispatcher_stats.suspended, dispatcher_stats.slowed) == (1, 1, 1)
        assert dispatcher_stats.waiting == sum(view.waiting for view in views)


@in_virtual_time
async def test_one_failed_call_shows_in_the_state() -> None:
    names = ("fine", "retrying", "blocked")
    world = World(*(destination(name) for name in names))
    world.bus.answer(in_turn(failed("InternalFailure", 500), take_all), "dst_retrying")
    world.bus.answer(in_turn(failed("AccessDeniedException", 403), take_all), "dst_blocked")
    async with world.worker() as worker:
        await worker.feed_until(0.15, *(record(number, name) for number, name in enumerate(names)))
        assert states(worker) == {"dst_blocked": "blocked", "dst_retrying": "retrying"}
        await worker.feed_until(60, record(len(names), "blocked"))
        assert states(worker) == {}, "each was delivered to, and has nothing left to do"


def states(worker: Worker) -> dict[str, str]:
    return {view.destination_id: view.state for view in worker.engine.stats(10).destinations}


@in_virtual_time
async def test_errors_and_the_oldest_delivery_show() -> None:
    world = World(destination("busy"), destination("fine"))
    world.bus.answer(always(failed("InternalFailure", 500)), "dst_busy")
    world.bus.latency = lambda batch: HANGS if batch.destination.id == "dst_fine" else 0.0
    async with world.worker(batches=lane_limits(max_entries=1)) as worker:
        worker.feed(*(record(number, "busy") for number in range(3)))
        await worker.feed_until(3, *(record(number, "fine") for number in range(3, 3 + 9)))
        busy, fine = worker.engine.stats(10).destinations
        assert (busy.destination_id, busy.last_error, busy.errors_per_second > 0) == (
            "dst_busy",
            "InternalFailure",
            True,
        )
        assert (fine.destination_id, fine.last_error, fine.errors_per_second) == ("dst_fine", "", 0.0)
        assert busy.oldest_secs == pytest.approx(3, abs=0.1)
        assert fine.waiting == 1
        assert fine.oldest_secs == pytest.approx(3, abs=0.1)
