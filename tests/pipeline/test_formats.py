"""Records in another format than the canonical event: live, from retry topics, and read again for a cursor."""

from __future__ import annotations

from typing import Any

from pushrail_stream.core.record import Headers, Record
from pushrail_stream.formats.cloudevents import decode_cloudevent
from tests.pipeline.test_catch_up import behind
from tests.support.builders import EVENT_TYPE, customer_id, destination
from tests.support.pipeline_world import World
from tests.support.records import P0, always, failed, raw, take_all
from tests.support.virtual_time import in_virtual_time


def cloudevent(offset: int, customer: str = "acme") -> Record:
    """A CloudEvent in binary mode, whose value does not name the customer."""
    headers: Headers = (
        ("ce_specversion", b"1.0"),
        ("ce_id", str(offset).encode()),
        ("ce_source", b"shop"),
        ("ce_type", EVENT_TYPE.encode()),
        ("ce_time", b"2026-05-26T14:21:08Z"),
        ("ce_customerexternalid", customer_id(customer).encode()),
        ("ce_idempotencykey", str(offset).encode()),
    )
    return raw(offset, b'{"n":1}', customer=customer, headers=headers)


def world_of(*args: Any, **kwargs: Any) -> World:
    world = World(*args, **kwargs)
    world.decode = decode_cloudevent
    return world


@in_virtual_time
async def test_a_retry_copy_is_decoded_as_its_record_was() -> None:
    world = world_of(destination(), answer=always(failed("503", 503)))
    async with world.worker(poll_secs=0.1) as worker:
        await worker.feed_until(10, cloudevent(0), cloudevent(1))
        assert len(world.topics.moved()) == 2
        world.bus.answer(take_all)
        await worker.at(17)
        assert sorted(world.bus.arrived["dst_acme"]) == ["0", "1"]
        assert {written.value for written in world.topics.written} == {b'{"n":1}'}
        assert worker.commit()[P0] == 2


@in_virtual_time
async def test_a_cursor_finds_events_whose_values_do_not_name_the_customer() -> None:
    world = world_of(destination())
    behind(world, head=100)
    world.log[P0] = {offset: cloudevent(offset) for offset in range(100)}
    async with world.worker() as worker:
        await worker.at(10)
        assert sorted(map(int, world.bus.arrived["dst_acme"])) == list(range(100))
        assert worker.engine.catch_up.stats.deliveries == 100
