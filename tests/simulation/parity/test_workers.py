"""A whole worker leaves the same in the simulation as on a real Kafka and on the fault-injecting bus.

The same arrivals at the customers' buses, commits, retry records, dead letters and attempts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

import pytest

from pushrail_stream.kafka.client_properties import checked_kafka
from pushrail_stream.kafka.groups import move_group, plan_shift
from pushrail_stream.settings.model import Settings
from tests.simulation.parity.workers import WorkerStage, WorkerStory, tell_in_simulation, tell_on_real_ones
from tests.support.builders import event, with_access_key
from tests.support.workers import committed, letters, produce, running

QUICK: Final[Mapping[str, Any]] = {"tiers": [1], "delivery": {"hold_secs": 0.5, "backoff_cap_secs": 0.3}}
"""Sections of settings with which deliveries soon go to the retry topic, which is due a second later."""
ALWAYS: Final = 1_000
"""More calls than a story makes."""
STORIES: Final[dict[str, tuple[WorkerStory, str, Mapping[str, Any]]]] = {}
"""By name the story, its group protocol and the sections of its settings."""


def story(*, groups: bool = False, **sections: Any) -> Callable[[WorkerStory], WorkerStory]:
    """Add a story. ``groups``: once for each group protocol."""

    def add(tell: WorkerStory) -> WorkerStory:
        for protocol in ("classic", "consumer") if groups else ("classic",):
            STORIES[f"{tell.__name__}-{protocol}"] = (tell, protocol, sections)
        return tell

    return add


async def write(settings: Settings, *records: tuple[str, bytes | None]) -> None:
    """Write to the events topic as Java's clients choose partitions."""
    await produce(settings, records, partitioner="murmur2_random")


def numbered(*numbers: int, customer: int = 0) -> list[tuple[str, bytes | None]]:
    return [(f"acct_{customer}", event(customer, number)) for number in numbers]


@story()
async def events_find_their_way(stage: WorkerStage) -> None:
    """Good ones, one of a customer without destination, and three that are no events."""
    async with running(stage.settings, [with_access_key(0), with_access_key(1)]) as worker:
        await write(stage.settings, *numbered(*range(5)))
        await write(stage.settings, ("acct_0", b"{"), ("acct_0", None), ("acct_2", b"[]"))
        await write(stage.settings, ("acct_9", event(9, 9)), *numbered(5))
        await stage.until_arrived(*range(6))
        await write(stage.settings, *numbered(*range(10, 15), customer=1))
        await stage.until_arrived(*range(10, 15))
        await stage.until_committed()
        stage.note("delivered", worker.worker.ledger.delivered)
    stage.note_all()


@story(**QUICK)
async def refused_calls_are_retried_from_the_topic(stage: WorkerStage) -> None:
    stage.aws.refuse("ServiceUnavailable", 503, times=ALWAYS)
    async with running(stage.settings, [with_access_key(0)]) as worker:
        await write(stage.settings, *numbered(*range(3)))
        await stage.until_committed()
        stage.note("arrived while refused", stage.arrived())
        stage.heal()
        await stage.until_arrived(*range(3))
        await worker.until(lambda: worker.worker.ledger.delivered == 3)
    stage.note("arrivals", sorted(stage.arrived()))
    stage.note("letters", letters(stage.settings))


@story(tiers=[1], delivery={"hold_secs": 0.5, "backoff_cap_secs": 0.3, "max_age_secs": 4})
async def what_is_too_old_becomes_a_dead_letter(stage: WorkerStage) -> None:
    stage.aws.refuse("ServiceUnavailable", 503, times=ALWAYS)
    async with running(stage.settings, [with_access_key(0)]) as worker:
        await write(stage.settings, *numbered(0))
        await worker.until(lambda: worker.worker.ledger.dead_lettered == 1)
        stage.heal()
        await write(stage.settings, *numbered(1))
        await stage.until_arrived(1)
        await stage.until_committed()
    stage.note("arrivals", stage.arrived())
    stage.note("letters", [letter[1:] for letter in letters(stage.settings)])


@story()
async def an_entry_that_aws_refuses_becomes_a_dead_letter(stage: WorkerStage) -> None:
    stage.aws.refuse_entries("MalformedDetail")
    async with running(stage.settings, [with_access_key(0)]) as worker:
        await write(stage.settings, *numbered(0))
        await worker.until(lambda: worker.worker.ledger.dead_lettered == 1)
        await write(stage.settings, *numbered(1))
        await stage.until_arrived(1)
        await stage.until_committed()
    stage.note_all()


@story()
async def a_passing_error_of_an_entry_is_repeated(stage: WorkerStage) -> None:
    stage.aws.refuse_entries("InternalFailure")
    async with running(stage.settings, [with_access_key(0)]):
        await write(stage.settings, *numbered(0))
        await stage.until_arrived(0)
        await stage.until_committed()
    stage.note_all()


@story()
async def a_lost_answer_delivers_twice(stage: WorkerStage) -> None:
    stage.aws.fail("reset_after")
    async with running(stage.settings, [with_access_key(0)]):
        await write(stage.settings, *numbered(0))
        await stage.until_arrived(0)
        await stage.until_committed()
    stage.note_all()


@story(groups=True)
async def a_worker_goes_on_where_another_stopped(stage: WorkerStage) -> None:
    async with running(stage.settings, [with_access_key(0)]):
        await write(stage.settings, *numbered(*range(5)))
        await stage.until_arrived(*range(5))
    stage.note("committed at the end", committed(stage.settings))
    await write(stage.settings, *numbered(*range(5, 8)))
    async with running(stage.settings, [with_access_key(0)]):
        await stage.until_arrived(*range(5, 8))
        await stage.until_committed()
    stage.note_all()


@story(groups=True)
async def an_operator_moves_the_group_back(stage: WorkerStage) -> None:
    kafka, topic = checked_kafka(stage.settings), stage.settings.topics.events
    async with running(stage.settings, [with_access_key(0)]):
        await write(stage.settings, *numbered(*range(4)))
        await stage.until_arrived(*range(4))
        await stage.until_committed()
    shifts = await asyncio.to_thread(plan_shift, kafka, kafka.group_id, topic, "earliest")
    stage.note("shifts", [[shift.partition, shift.old, shift.new, shift.end] for shift in shifts])
    await asyncio.to_thread(move_group, kafka, kafka.group_id, topic, shifts)
    async with running(stage.settings, [with_access_key(0)]):
        await stage.until_committed()
    stage.note_all()


@story(groups=True)
async def a_recreated_topic_is_read_whole(stage: WorkerStage) -> None:
    async with running(stage.settings, [with_access_key(0)]):
        await write(stage.settings, *numbered(*range(10)))
        await stage.until_arrived(*range(10))
        await stage.until_committed()
        await asyncio.to_thread(stage.recreate, stage.settings.topics.events)
        await asyncio.sleep(5)  # the worker learns of it
        await write(stage.settings, *numbered(*range(100, 105)))
        await stage.until_arrived(*range(100, 105))
        await stage.until_committed()
    stage.note("arrivals", sorted(set(stage.arrived())))


@story()
async def retention_removes_what_nobody_read(stage: WorkerStage) -> None:
    async with running(stage.settings, [with_access_key(0)]):
        await write(stage.settings, *numbered(*range(3)))
        await stage.until_arrived(*range(3))
        await stage.until_committed()
    await write(stage.settings, *numbered(*range(3, 6)))
    await asyncio.to_thread(stage.trim, stage.settings.topics.events)
    async with running(stage.settings, [with_access_key(0)]):
        await write(stage.settings, *numbered(6))
        await stage.until_arrived(6)
        await stage.until_committed()
    stage.note_all()


@story()
async def a_denial_is_a_dead_letter_of_its_customer_alone(stage: WorkerStage) -> None:
    async with running(stage.settings, [with_access_key(0), with_access_key(1)]) as worker:
        stage.aws.refuse("AccessDeniedException", 400, times=ALWAYS)
        await write(stage.settings, *numbered(0))
        await worker.until(lambda: worker.worker.ledger.dead_lettered == 1)
        stage.heal()
        await write(stage.settings, *numbered(10, customer=1))
        await stage.until_arrived(10)
        await stage.until_committed()
    stage.note("arrivals", stage.arrived())
    stage.note("letters", letters(stage.settings))


@story(groups=True)
async def two_workers_share_the_partitions(stage: WorkerStage) -> None:
    destinations = [with_access_key(number) for number in range(3)]
    records = [record for customer in range(3) for record in numbered(*range(10 * customer, 10 * customer + 10))]
    again = [(key, event(int(key[-1]), 100 + n)) for n, (key, _) in enumerate(records)]
    async with running(stage.settings, destinations):
        async with running(stage.settings, destinations):
            await write(stage.settings, *records[::3], *records[1::3], *records[2::3])
            await stage.until_arrived(*range(30))
        await write(stage.settings, *again)
        await stage.until_arrived(*range(100, 130))
        await stage.until_committed()
    stage.note("arrivals", sorted(set(stage.arrived())))
    stage.note("letters", letters(stage.settings))
    stage.note("committed", committed(stage.settings))


@pytest.mark.kafka
@pytest.mark.parametrize("name", STORIES)
async def test_a_worker_leaves_the_same_in_both_worlds(name: str, real_kafka: str) -> None:
    tell, protocol, sections = STORIES[name]
    real = await tell_on_real_ones(tell, real_kafka, protocol, sections)
    assert await asyncio.to_thread(tell_in_simulation, tell, protocol, sections) == real
