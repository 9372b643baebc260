"""A destination's document ends, and with it everything that the worker keeps for it."""

from __future__ import annotations

import dataclasses

from tests.support.pipeline_world import World
from tests.support.records import destination, record
from tests.support.virtual_time import in_virtual_time


@in_virtual_time
async def test_the_bus_port_forgets_a_destination_whose_document_is_deleted() -> None:
    world = World(destination(), destination("other"))
    async with world.worker() as worker:
        worker.feed(record(0), record(1, "other"))
        await worker.at(1)
        world.directory.put(dataclasses.replace(destination("other"), name="renamed"))
        assert world.bus.forgotten == []
        world.directory.remove("dst_acme")
        assert world.bus.forgotten == ["dst_acme"]
        await worker.at(60)
        assert worker.engine.stats(10).destinations == []
