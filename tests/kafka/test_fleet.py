"""A worker's way to the topics of the fleet: it finds them, and reads from the end."""

from __future__ import annotations

import asyncio

import pytest
from confluent_kafka import KafkaError, KafkaException, Message

from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka import fleet
from pushrail_stream.kafka.client_properties import checked_kafka
from pushrail_stream.kafka.fleet import FleetTopics
from pushrail_stream.sandbox.broker import EmbeddedBroker
from tests.support.workers import outside, settings_for, until


@pytest.fixture(autouse=True)
def _answers_come_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded broker answers a waiting request at its limit, also when a record comes earlier."""
    monkeypatch.setattr(fleet, "_FETCH_WAIT_MS", 100)


async def test_it_reads_from_the_end(embedded_broker: EmbeddedBroker) -> None:
    async with (
        outside(embedded_broker) as (_, settings),
        FleetTopics(checked_kafka(settings), settings.topics, "one") as one,
        FleetTopics(checked_kafka(settings), settings.topics, "two") as two,
    ):
        await two.write_answer(b"earlier")
        await one.begin()
        await two.write_answer(b"later")
        assert await one.requests() == [b"later"]


async def test_it_sees_the_other_workers(embedded_broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    async with (
        outside(embedded_broker) as (_, settings),
        FleetTopics(checked_kafka(settings), settings.topics, "one") as one,
        FleetTopics(checked_kafka(settings), settings.topics, "two") as two,
        FleetTopics(checked_kafka(settings), settings.topics, "three") as three,
        asyncio.TaskGroup() as tasks,
    ):
        await two.write_state(b"earlier")
        await one.begin()
        reading = tasks.create_task(one.requests())  # no request comes, and states do not count as such
        await one.write_state(b"its own")
        await two.write_state(b"second")
        await three.write_state(b"third")
        await until(lambda: set(one.others()) == {b"second", b"third"})
        await three.write_state(None)
        await until(lambda: list(one.others()) == [b"second"])
        monkeypatch.setattr(fleet, "_KEPT_SECS", -1.0)
        await three.write_state(b"again")
        await until(lambda: not one.others())
        await two.write_answer(b"a request")
        assert await reading == [b"a request"]


async def test_kept_states_are_bounded(embedded_broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "_MAX_STATES", 3)

    async with (
        outside(embedded_broker) as (_, settings),
        FleetTopics(checked_kafka(settings), settings.topics, "one") as one,
        asyncio.TaskGroup() as tasks,
    ):

        async def write(worker: str, state: bytes) -> None:
            async with FleetTopics(checked_kafka(settings), settings.topics, worker) as link:
                await link.write_state(state)

        await one.begin()
        reading = tasks.create_task(one.requests())
        for number in range(5):
            await write(f"invented-{number}", b"%d" % number)
        await until(lambda: one.others() == [b"2", b"3", b"4"])
        await write("invented-2", b"again")
        await write("invented-5", b"5")
        await until(lambda: one.others() == [b"4", b"again", b"5"])
        await write("invented-4", b" " * fleet._MAX_STATE_BYTES)
        await until(lambda: one.others() == [b"again", b"5"])
        await one.write_answer(b"a request")
        await reading


@pytest.mark.kafka
async def test_a_missing_topic_is_not_created(real_kafka: str) -> None:
    settings = settings_for(real_kafka, "http://127.0.0.1:1")
    async with FleetTopics(checked_kafka(settings), settings.topics, "one") as link:
        for step in (
            link.begin(),
            link.write_state(b"{}"),
            link.write_answer(b"{}"),
            link.requests(),
            link.write_state(None),
        ):
            with pytest.raises(OperatorError, match="does not exist"):
                await step


async def test_a_broken_consumer_is_no_bug(embedded_broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> list[Message]:
        raise KafkaException(KafkaError(KafkaError._FATAL, "broken"))

    async with (
        outside(embedded_broker) as (_, settings),
        FleetTopics(checked_kafka(settings), settings.topics, "one") as link,
    ):
        monkeypatch.setattr("pushrail_stream.kafka.fleet.take_messages", fail)
        with pytest.raises(OperatorError, match="broken"):
            await link.requests()
