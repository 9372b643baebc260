"""Admission queues a delivery, or settles it unsent."""

from __future__ import annotations

import pytest

from pushrail_stream.core.event import Event
from pushrail_stream.core.signals import Skipped
from tests.support.builders import destination
from tests.support.pipeline_world import World
from tests.support.records import P0, raw, record, records
from tests.support.virtual_time import in_virtual_time


@in_virtual_time
async def test_unrouted_events_are_skipped_and_committed() -> None:
    off, picky = destination("off", enabled=False), destination("picky", event_types=("invoice.*", "order.shipped"))
    world = World(off, picky)
    async with world.worker() as worker:
        worker.feed(record(0, "off"), record(1, "picky"), record(2, "stranger"))
        await worker.feed_until(1, record(3, "picky", event_type="invoice.paid"))
        told = [(s.origin.offset, s.destination_id, s.reason) for s in worker.signals if isinstance(s, Skipped)]
        assert sorted(told) == [(0, off.id, "disabled"), (1, picky.id, "filtered"), (2, None, "no_destination")]
        assert world.bus.arrived == {"dst_picky": ["3"]}
        assert worker.commit() == {P0: 4}
        assert (worker.ledger.begun, worker.ledger.skipped, worker.ledger.delivered) == (4, 3, 1)


@in_virtual_time
async def test_a_paused_destinations_events_are_skipped() -> None:
    world = World(destination(paused=True), destination(name="off", paused=True, enabled=False), destination(name="on"))
    async with world.worker() as worker:
        await worker.feed_until(1, record(0))
        told = [(s.destination_id, s.reason) for s in worker.signals if isinstance(s, Skipped)]
        assert sorted(told) == [("dst_acme", "paused"), ("dst_acme_off", "disabled")]
        assert world.bus.arrived == {"dst_acme_on": ["0"]}
        assert worker.commit() == {P0: 1}


@in_virtual_time
async def test_a_filter_skips_one_destination() -> None:
    world = World(destination(name="off", enabled=False), destination(name="on"))
    async with world.worker() as worker:
        worker.feed(record(0))
        assert worker.commit() == {P0: 0}
        await worker.at(1)
        assert worker.commit() == {P0: 1}
        assert (worker.ledger.skipped, worker.ledger.delivered) == (1, 1)


class Even:
    """A filter that takes every second event."""

    def admits(self, event: Event) -> bool:
        return int(event.idempotency_key.rpartition("-")[2]) % 2 == 0


@in_virtual_time
async def test_a_destinations_filter_chooses_by_content() -> None:
    world = World(destination(filter=Even()), destination(name="all"))
    async with world.worker() as worker:
        await worker.feed_until(1, *records(range(4)))
        told = [(s.origin.offset, s.destination_id, s.reason) for s in worker.signals if isinstance(s, Skipped)]
        assert told == [(1, "dst_acme", "filtered"), (3, "dst_acme", "filtered")]
        assert world.bus.arrived["dst_acme"] == ["0", "2"]
        assert worker.commit() == {P0: 4}


@pytest.mark.parametrize(
    ("value", "field"),
    [(None, "value"), (b"", "value"), (b"\xff\xfe", "value"), (b"[1]", "value"), (b'{"eventType": 7}', "eventType")],
)
@in_virtual_time
async def test_an_undecodable_record_is_dead_lettered(value: bytes | None, field: str) -> None:
    world = World(destination())
    async with world.worker() as worker:
        await worker.feed_until(1, raw(0, value, headers=(("tenant", b"\xff"),)), record(1))
        (letter,) = world.topics.written
        assert (letter.key, letter.value) == (b"acct_acme", value)
        assert letter.headers[0] == ("tenant", b"\xff")
        headers = dict(letter.headers)
        assert headers["pushrail-reason"] == b"undecodable"
        assert headers["pushrail-error-code"] == field.encode()
        assert headers["pushrail-attempts"] == b"0"
        assert "pushrail-destination" not in headers
        assert world.bus.arrived == {"dst_acme": ["1"]}
        assert worker.commit() == {P0: 2}
