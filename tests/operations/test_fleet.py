"""The fleet as commands see it: workers alive and lost, and requests that reach every worker."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from pushrail_stream.core.signals import FleetTrouble
from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka.client_properties import checked_kafka
from pushrail_stream.kafka.fleet import FleetTopics
from pushrail_stream.observe.control import Request
from pushrail_stream.observe.worker_record import DestinationSummary
from pushrail_stream.operations.fleet import Fleet, read_fleet, request, watch_fleet
from pushrail_stream.operations.times import now_ms
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.sandbox.bus.server import FaultBus
from pushrail_stream.settings.model import Settings
from tests.support.kafka.topics import delete_topics
from tests.support.worker_records import worker_record
from tests.support.workers import make_topics, outside, running, settings_for


async def write(settings: Settings, key: str, value: bytes | None) -> None:
    async with FleetTopics(checked_kafka(settings), settings.topics, key) as link:
        await link.write_state(value)


async def fleet_of(settings: Settings) -> Fleet:
    return await asyncio.to_thread(read_fleet, settings)


async def test_workers_are_alive_then_lost_or_gone(embedded_broker: EmbeddedBroker) -> None:
    async with outside(embedded_broker) as (_, settings):
        now, group = now_ms(), settings.kafka.group_id
        seen = DestinationSummary("dst_1", "ok", 1, 1, 8, 2.0)
        worse = msgspec.structs.replace(seen, state="suspended")
        await write(settings, "a", worker_record("a", now, seen, group=group).encode())
        await write(settings, "b", worker_record("b", now, worse, group=group).encode())
        await write(settings, "killed", worker_record("killed", now - 60_000, worse, group=group).encode())
        ahead = worker_record("ahead", now + 3_600_000, worse, group=group)
        await write(settings, "ahead", ahead.encode())
        other = DestinationSummary("dst_other", "gone", 1, 1, 8, 2.0)
        await write(settings, "other", worker_record("other", now, other, group="other").encode())
        await write(settings, "other-lost", worker_record("other-lost", now - 60_000, group="other").encode())
        await write(settings, "ended", worker_record("ended", now).encode())
        await write(settings, "ended", None)
        await write(settings, "foreign", b"{}")
        fleet = await fleet_of(settings)
        assert [worker.state.id for worker in fleet.alive] == ["a", "b"]
        assert [worker.state.id for worker in fleet.lost] == ["ahead", "killed"], "nobody would see that it has gone"
        assert (fleet.unreadable, fleet.others) == (1, 1), "another group has one that is alive"
        [one] = fleet.destinations.values()
        assert (one.state, one.waiting, one.max_calls, one.per_second, one.workers) == ("suspended", 2, 16, 4.0, 2)
        watched = watch_fleet(settings)
        assert (await asyncio.to_thread(next, watched)).alive[0].state.id == "a"
        watched.close()


async def test_no_worker_can_be_asked(embedded_broker: EmbeddedBroker) -> None:
    async with outside(embedded_broker) as (_, settings):
        await write(settings, "other", worker_record("other", now_ms(), group="other").encode())
        with pytest.raises(OperatorError, match=r"no worker is running in group group-.*; workers of other groups: 1"):
            await asyncio.to_thread(request, settings, "retry_now", {"destination": "dst_0"})


@pytest.mark.kafka
async def test_every_worker_shows_itself_and_answers(real_kafka: str) -> None:
    async with FaultBus.serve() as bus:
        settings = settings_for(real_kafka, bus.url)
        make_topics(settings)
        async with running(settings, []) as one, running(settings, []):
            fleet = await fleet_of(settings)
            while len(fleet.alive) < 2:
                fleet = await fleet_of(settings)
            assert len({worker.state.id for worker in fleet.workers}) == 2
            assert f"127.0.0.1:{one.worker.http_port}" in {worker.state.http for worker in fleet.workers}
            async with FleetTopics(checked_kafka(settings), settings.topics, "foreign") as link:
                old = Request("old", "retry_now", 1, 60, {"destination": "dst_0"})
                for value in (b"\xff", b"[" * 100_000, old.encode(), b""):
                    await link.write_answer(value)
            asked = await asyncio.to_thread(request, settings, "retry_now", {"destination": "dst_0"})
            assert not asked.silent
            assert {answer.worker_id for answer in asked.answers} == {worker.state.id for worker in fleet.workers}
        assert (await fleet_of(settings)).workers == [], "each has taken its state away"


@pytest.mark.kafka
async def test_missing_topics_are_one_warning_each(real_kafka: str) -> None:
    async with FaultBus.serve() as bus:
        settings = settings_for(real_kafka, bus.url)
        make_topics(settings)
        await asyncio.to_thread(delete_topics, real_kafka, [settings.topics.workers, settings.topics.control])
        async with running(settings, []) as worker:
            await worker.until(lambda: sum(isinstance(signal, FleetTrouble) for signal in worker.signals) == 2)
            problems = sorted(signal.problem for signal in worker.signals if isinstance(signal, FleetTrouble))
            assert all(name in said for name, said in zip(("control", "workers"), problems, strict=True))
        with pytest.raises(OperatorError, match="workers"):
            await fleet_of(settings)
