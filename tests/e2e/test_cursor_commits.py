"""The commits that name cursors: without room for them, moved by tools, past their records, and of a deleted topic."""

from __future__ import annotations

import asyncio

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from pushrail_stream.core import commit as commit_module
from pushrail_stream.core.commit import Committable, cursor_field, has_cursors
from pushrail_stream.core.signals import CursorOpened, CursorTrimmed, KafkaTrouble
from pushrail_stream.kafka.client_properties import checked_kafka
from pushrail_stream.kafka.groups import committed_by
from pushrail_stream.settings.model import Settings
from tests.e2e.test_cursors import (
    BEHIND,
    COUNT,
    DESTINATIONS,
    copies,
    one_behind,
    records,
    until_arrived,
    until_behind,
    until_caught_up,
    values,
)
from tests.support.kafka.fixtures import LocalKafkaFactory
from tests.support.kafka.positions import commit
from tests.support.kafka.topics import delete_topics
from tests.support.workers import committed, ends, make_topics, produce, running, until

pytestmark = pytest.mark.kafka
MOST = 3_000


def named(settings: Settings) -> dict[int, Committable]:
    """The commits that name cursors, by partition."""
    found = committed_by(checked_kafka(settings), settings.kafka.group_id, settings.topics.events)
    return {number: one for number, one in found.items() if has_cursors(one)}


async def test_cursors_without_room_have_a_snapshot(real_kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit has room for the place of a snapshot, and for no cursor."""
    monkeypatch.setattr(commit_module, "MAX_METADATA_CHARS", 60)
    async with one_behind(real_kafka) as (bus, settings):
        async with running(settings, DESTINATIONS):
            await produce(settings, records(0, MOST))
            await until_behind(bus, settings, 0, MOST)
            assert all(cursor_field(one).startswith("@") for one in named(settings).values())
            assert copies(settings) == 0
        [left] = named(settings).values()
        assert cursor_field(left).startswith("@")
        bus.set_plan([])
        async with running(settings, DESTINATIONS):
            await until_caught_up(bus, settings, values(0, MOST))
        assert sum(ends(settings, settings.topics.cursors).values()) > 0


async def test_without_room_for_a_place_there_are_copies(local_kafka_factory: LocalKafkaFactory) -> None:
    kafka = local_kafka_factory({"offset.metadata.max.bytes": "100"})
    async with one_behind(kafka.bootstrap_servers) as (bus, settings):
        async with running(settings, DESTINATIONS) as worker:
            await produce(settings, records(0, 1_000))
            await until(lambda: copies(settings) > 0)
            bus.set_plan([])
            await until_arrived(bus, values(0, 1_000))
            assert not any(isinstance(s, CursorOpened) for s in worker.signals)
        assert named(settings) == {}


async def test_a_moved_commit_repeats_and_loses_nothing(real_kafka: str) -> None:
    """As MirrorMaker 2 translates it, or a tool moves it without clearing its metadata."""
    async with one_behind(real_kafka) as (bus, settings):
        async with running(settings, DESTINATIONS):
            await produce(settings, records(0, COUNT))
            await until_behind(bus, settings, 0, COUNT)
        [(number, left)] = named(settings).items()
        moved = Committable(left.offset - 10, left.metadata)
        commit(settings, settings.kafka.group_id, settings.topics.events, number, moved)
        bus.set_plan([])
        async with running(settings, DESTINATIONS):
            await until_caught_up(bus, settings, values(0, COUNT))


async def test_a_commit_that_a_tool_has_cleared_begins_there(real_kafka: str) -> None:
    async with one_behind(real_kafka) as (bus, settings):
        async with running(settings, DESTINATIONS):
            await produce(settings, records(0, COUNT))
            await until_behind(bus, settings, 0, COUNT)
        [(number, left)] = named(settings).items()
        commit(settings, settings.kafka.group_id, settings.topics.events, number, Committable(left.offset, ""))
        before = len(bus.arrivals)
        bus.set_plan([])
        async with running(settings, DESTINATIONS):
            await produce(settings, records(COUNT, COUNT + 100))
            await until_arrived(bus, values(COUNT, COUNT + 100))
        assert {a.detail for a in bus.arrivals[before:]} <= values(COUNT, COUNT + 100)


async def test_a_partition_whose_cursors_cannot_be_read_stands_still_alone(real_kafka: str) -> None:
    async with one_behind(real_kafka) as (bus, settings):
        async with running(settings, DESTINATIONS):
            await produce(settings, records(0, COUNT))
            await until_behind(bus, settings, 0, COUNT)
        [(number, left)] = named(settings).items()
        damaged = Committable(left.offset, left.metadata.replace(f"dst_{BEHIND}", "dst_0,x", 1))
        assert damaged != left
        commit(settings, settings.kafka.group_id, settings.topics.events, number, damaged)
        bus.set_plan([])
        before = ends(settings, settings.topics.events)
        async with running(settings, DESTINATIONS) as worker:
            await produce(settings, records(COUNT, COUNT + 300))
            await until(
                lambda: all(
                    committed(settings)[other] == end
                    for other, end in ends(settings, settings.topics.events).items()
                    if other != number
                )
            )
            [told] = {s.problem for s in worker.signals if isinstance(s, KafkaTrouble)}
        assert told.startswith(f"{settings.topics.events}/{number} stands still: ")
        assert ends(settings, settings.topics.events) != before
        assert named(settings) == {number: damaged}, "nothing was committed over it"


async def test_records_that_retention_has_removed_are_told(real_kafka: str) -> None:
    async with one_behind(real_kafka) as (bus, settings):
        async with running(settings, DESTINATIONS):
            await produce(settings, records(0, COUNT))
            await until_behind(bus, settings, 0, COUNT)
        [number] = named(settings)
        end = ends(settings, settings.topics.events)[number]
        admin = AdminClient({"bootstrap.servers": real_kafka, "log_level": 0})
        for gone in admin.delete_records([TopicPartition(settings.topics.events, number, end - 100)]).values():
            gone.result()
        bus.set_plan([])
        async with running(settings, DESTINATIONS) as worker:
            await until(lambda: any(isinstance(s, CursorTrimmed) for s in worker.signals))
            await until_arrived(bus, values(COUNT - 50, COUNT))
            await until(lambda: named(settings) == {})


async def test_a_recreated_topic_begins_anew(real_kafka: str) -> None:
    async with one_behind(real_kafka) as (bus, settings):
        async with running(settings, DESTINATIONS):
            await produce(settings, records(0, COUNT))
            await until_behind(bus, settings, 0, COUNT)
        await asyncio.to_thread(delete_topics, real_kafka, [settings.topics.events])
        make_topics(settings)
        await produce(settings, records(COUNT, 2 * COUNT))
        bus.set_plan([])
        async with running(settings, DESTINATIONS):
            await until_caught_up(bus, settings, values(COUNT, 2 * COUNT))
