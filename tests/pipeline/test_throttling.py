"""A destination that asks for less speed gets less, and more again step by step; its deliveries are no failures."""

from __future__ import annotations

from tests.pipeline.records import destination, failed, in_turn, records, take_all
from tests.pipeline.world import World
from tests.virtual_time import in_virtual_time


@in_virtual_time
async def test_a_slowed_destination_is_remembered_for_a_minute_after_its_last_call() -> None:
    world = World(destination())
    world.bus.answer(in_turn(failed("429", 429), take_all))
    async with world.worker() as worker:
        worker.feed(*records(range(10)))
        await worker.at(59)
        assert worker.deliver.lanes == 1
        await worker.at(61)
        assert worker.deliver.lanes == 0
