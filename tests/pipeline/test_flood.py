"""A flood of dead letters stops the worker instead of draining the topic into the DLQ; one customer never does."""

from __future__ import annotations

from pushrail_stream.core.flood import FloodLimits
from pushrail_stream.core.signals import DeadLettered, Flooded
from tests.pipeline.records import P0, answered, destination, fault, keys, raw, record
from tests.pipeline.world import World
from tests.virtual_time import in_virtual_time

LIMITS = FloodLimits(window_secs=60, min_dead=20, share=0.5, min_customers=3)
CUSTOMERS = [f"c{number}" for number in range(10)]


@in_virtual_time
async def test_when_most_records_of_many_customers_cannot_be_decoded_consuming_stops() -> None:
    world = World(*(destination(customer) for customer in CUSTOMERS))
    async with world.worker(flood=LIMITS) as worker:
        bad = [raw(n, b"not json", customer=CUSTOMERS[n % 10]) for n in range(300)]
        directions = worker.feed(*bad)
        await worker.at(5)
        assert directions.hold
        assert worker.consume.directions().hold, "nothing but a new start takes it back"
        [flood] = worker.told(Flooded)
        assert isinstance(flood, Flooded)
        assert flood.report.dead <= 20 + 30, "seen soon enough"
        assert len(world.topics.dead()) < flood.report.dead
        assert worker.commit()[P0] == len(world.topics.dead()), "the rest is left in Kafka"
        kept = worker.ledger.in_flight
        assert kept == 300 - len(world.topics.dead())
        await worker.give_back(P0)
        assert (worker.ledger.dropped, worker.ledger.in_flight) == (kept, 0)


@in_virtual_time
async def test_what_aws_rejects_counts_as_well_and_good_deliveries_still_end() -> None:
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
        worker.feed(*(record(n, CUSTOMERS[n % 10]) for n in range(300)))
        await worker.at(5)
        assert len(worker.told(Flooded)) == 1
        assert len(world.bus.arrived["dst_c0"]) == 30
        assert len(worker.told(DeadLettered)) < 270
        worker.lose(P0)
        assert worker.ledger.in_flight == 0


@in_virtual_time
async def test_one_customer_alone_never_stops_the_others() -> None:
    world = World(*(destination(customer) for customer in CUSTOMERS))
    async with world.worker(flood=LIMITS) as worker:
        worker.feed(*(raw(n, b"not json", customer="c0") for n in range(1000)))
        worker.feed(*(record(1000 + n, CUSTOMERS[1 + n % 9]) for n in range(90)))
        await worker.at(5)
        assert not worker.told(Flooded)
        assert len(world.topics.dead()) == 1000
        assert worker.commit() == {P0: 1090}


@in_virtual_time
async def test_what_is_rejected_while_its_partition_is_given_back_is_left_to_the_next_owner() -> None:
    world = World(*(destination(customer) for customer in CUSTOMERS))
    for customer in CUSTOMERS:
        world.bus.answer(
            lambda batch: answered(batch, dict.fromkeys(keys(batch), fault("MalformedDetail"))), f"dst_{customer}"
        )
    world.bus.latency = lambda batch: 3.0 if batch.destination.id == "dst_c9" else 0.01
    async with world.worker(flood=LIMITS) as worker:
        worker.feed(*(record(n, CUSTOMERS[n % 10]) for n in range(300)))
        await worker.at(2)
        assert worker.told(Flooded)
        await worker.give_back(P0)
        assert worker.ledger.in_flight == 0
