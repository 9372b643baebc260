"""A flood of dead letters stops consuming. One customer alone never does."""

from __future__ import annotations

from collections.abc import Callable

from pushrail_stream.core.batch import Batch
from pushrail_stream.core.signals import DeadLettered, Flooded
from pushrail_stream.eventbridge.error_codes import CallReply
from tests.support.builders import destination
from tests.support.pipeline_world import World
from tests.support.policy import flood_limits
from tests.support.records import P0, RETRY, answered, fault, keys, raw, record, retry_record
from tests.support.virtual_time import in_virtual_time

LIMITS = flood_limits(window_secs=60, min_dead=20, share=0.5, min_customers=3)
CUSTOMERS = [f"c{number}" for number in range(10)]


@in_virtual_time
async def test_a_flood_of_bad_records_stops_consuming() -> None:
    world = World(*(destination(customer) for customer in CUSTOMERS))
    async with world.worker(flood=LIMITS) as worker:
        bad = [raw(n, b"not json", customer=CUSTOMERS[n % 10]) for n in range(300)]
        flow_control = worker.feed(*bad)
        await worker.at(5)
        assert flow_control.hold
        assert worker.event_consumer.flow_control().hold, "nothing but a new start takes it back"
        [flood] = worker.reported(Flooded)
        assert isinstance(flood, Flooded)
        assert flood.report.dead <= 20 + 30, "seen soon enough"
        assert len(world.topics.dead()) < flood.report.dead
        assert worker.commit()[P0] == len(world.topics.dead()), "the rest is left in Kafka"
        kept = worker.ledger.in_flight
        assert kept == 300 - len(world.topics.dead())
        await worker.give_back(P0)
        assert (worker.ledger.dropped, worker.ledger.in_flight) == (kept, 0)


@in_virtual_time
async def test_rejected_events_count_too() -> None:
    world = World(*(destination(customer) for customer in CUSTOMERS))
    for customer in CUSTOMERS:
        world.bus.answer(
            lambda batch: answered(
                batch, {d.event.idempotency_key: fault("MalformedDetail") for d in batch.deliveries}
            ),
            f"dst_{customer}",
        )
    world.bus.answer(answered, "dst_c0")
    async with world.worker(flood=LIMITS) as worker:
        await worker.feed_until(5, *(record(n, CUSTOMERS[n % 10]) for n in range(300)))
        assert len(worker.reported(Flooded)) == 1
        assert len(world.bus.arrived["dst_c0"]) == 30
        assert len(worker.reported(DeadLettered)) < 270
        worker.lose(P0)
        assert worker.ledger.in_flight == 0


@in_virtual_time
async def test_one_customer_alone_never_stops_the_others() -> None:
    world = World(*(destination(customer) for customer in CUSTOMERS))
    async with world.worker(flood=LIMITS) as worker:
        worker.feed(*(raw(n, b"not json", customer="c0") for n in range(1000)))
        await worker.feed_until(5, *(record(1000 + n, CUSTOMERS[1 + n % 9]) for n in range(90)))
        assert not worker.reported(Flooded)
        assert len(world.topics.dead()) == 1000
        assert worker.commit() == {P0: 1090}


@in_virtual_time
async def test_revoked_rejections_are_abandoned() -> None:
    world = World(*(destination(customer) for customer in CUSTOMERS))
    for customer in CUSTOMERS:
        world.bus.answer(
            lambda batch: answered(batch, dict.fromkeys(keys(batch), fault("MalformedDetail"))), f"dst_{customer}"
        )
    world.bus.latency = lambda batch: 3.0 if batch.destination.id == "dst_c9" else 0.01
    async with world.worker(flood=LIMITS) as worker:
        await worker.feed_until(2, *(record(n, CUSTOMERS[n % 10]) for n in range(300)))
        assert worker.reported(Flooded)
        await worker.give_back(P0)
        assert worker.ledger.in_flight == 0


def reject_from(offset: int) -> Callable[[Batch], CallReply]:
    """EventBridge refuses the events from this offset on."""
    return lambda batch: answered(batch, {key: fault("MalformedDetail") for key in keys(batch) if int(key) >= offset})


@in_virtual_time
async def test_rejected_replays_do_not_count() -> None:
    world = World(*(destination(customer) for customer in CUSTOMERS))
    world.bus.answers = dict.fromkeys((f"dst_{customer}" for customer in CUSTOMERS), reject_from(1000))
    async with world.worker(owns=[P0, RETRY], flood=LIMITS) as worker:
        worker.feed(*(record(n, CUSTOMERS[n % 10]) for n in range(20)))
        again = [retry_record(n, CUSTOMERS[n % 10], event=1000 + n, replay="rp-1", replay_count=1) for n in range(300)]
        worker.feed_retries(*again)
        await worker.at(5)
        assert not worker.reported(Flooded)
        assert len(world.topics.dead()) == 300


@in_virtual_time
async def test_rejected_retries_count_as_records_too() -> None:
    world = World(*(destination(customer) for customer in CUSTOMERS))
    world.bus.answers = dict.fromkeys((f"dst_{customer}" for customer in CUSTOMERS), reject_from(1000))
    async with world.worker(owns=[P0, RETRY], flood=LIMITS) as worker:
        # A third of each customer's records are dead; without those of the retry topics it would be half of them.
        worker.feed(*(record(n, CUSTOMERS[n % 10]) for n in range(200)))
        worker.feed_retries(*(retry_record(n, CUSTOMERS[n % 10], event=1000 + n) for n in range(150)))
        worker.feed_retries(*(retry_record(n, CUSTOMERS[n % 10], event=n) for n in range(150, 250)))
        await worker.at(5)
        assert not worker.reported(Flooded)


@in_virtual_time
async def test_a_multi_destination_record_counts_once() -> None:
    world = World(*(destination(customer, name=name) for customer in CUSTOMERS for name in "abc"))
    world.bus.answers = dict.fromkeys((d.id for d in world.directory.documents), reject_from(200))
    async with world.worker(flood=LIMITS) as worker:
        await worker.feed_until(5, *(record(n, CUSTOMERS[n % 10]) for n in range(300)))
        assert len(world.topics.dead()) == 300
        assert not worker.reported(Flooded)


@in_virtual_time
async def test_odd_keys_do_not_split_a_customer() -> None:
    world = World(destination("c0"))
    world.bus.answer(reject_from(0), "dst_c0")
    async with world.worker(flood=LIMITS) as worker:
        await worker.feed_until(5, *(record(n, "c0")._replace(key=b"%d" % n) for n in range(300)))
        assert not worker.reported(Flooded)
        assert len(world.topics.dead()) == 300
