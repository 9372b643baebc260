"""Traps about Kafka: what is committed and when, what it refuses to take, and records nobody can read."""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections import Counter
from pathlib import Path

import psutil
import pytest
from confluent_kafka import KafkaError

from pushrail_stream.core.signals import CopyFailed
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.sandbox.bus.faults import Hang, Latency, Match, Rule
from pushrail_stream.sandbox.bus.server import FaultBus
from pushrail_stream.settings.client import ClientProperties
from pushrail_stream.settings.model import Settings
from tests.support.builders import bus_arn, event, with_access_key
from tests.support.kafka.breakable import ApiKey, BreakableBroker
from tests.support.patience import PATIENCE_SECS
from tests.support.worker_process import FAILED, WORKERS, worker, write_world
from tests.support.workers import (
    PARTITIONS,
    committed,
    ends,
    letters,
    make_topics,
    open_bus,
    outside,
    produce,
    read_all,
    running,
    settings_for,
    until,
)

pytestmark = pytest.mark.kafka


def killable(bootstrap: str, bus: FaultBus) -> Settings:
    """Settings of workers in processes of their own, that wait long for a bus that hangs."""
    settings = settings_for(bootstrap, bus.url, delivery={"hold_secs": 60})
    kafka = settings.kafka.model_copy(
        update={"client": ClientProperties({"session.timeout.ms": 6000})}
    )  # seconds until it is missed
    eventbridge = settings.eventbridge.model_copy(update={"read_timeout_secs": 60})
    return settings.model_copy(update={"kafka": kafka, "eventbridge": eventbridge})


def fully_committed(settings: Settings) -> int:
    """Partitions of the events topic that are committed to the end."""
    done, end = committed(settings), ends(settings, settings.topics.events)
    return sum(done[number] == end[number] for number in end)


async def test_no_commit_passes_an_open_record(real_kafka: str, tmp_path: Path) -> None:
    """The worker is killed while a record is open and later ones of its partition are delivered and committed."""
    async with FaultBus.serve() as bus:
        settings = killable(real_kafka, bus)
        make_topics(settings)
        open_bus(bus, range(4))
        path = write_world(tmp_path, settings, 4)
        bus.set_plan([Rule(Hang(), Match(operation="PutEvents", bus=bus_arn(0)))])
        behind = [event(1 + n % 3, n) for n in range(99)]
        markers = [event(1, 1000 + n) for n in range(20)]
        async with worker(path) as process, asyncio.timeout(PATIENCE_SECS):
            await produce(settings, (("same", value) for value in (event(0, 5000), *behind)))
            await bus.wait_for_arrivals(99)
            await produce(settings, ((f"any {n}", value) for n, value in enumerate(markers)))
            # A commit with these covers the other partition too.
            await until(lambda: fully_committed(settings) >= PARTITIONS - 1)
            process.kill()
            await process.wait()
        bus.set_plan([])
        async with worker(path) as process:
            await until(lambda: fully_committed(settings) == PARTITIONS)
            process.terminate()
            await process.communicate()
        assert {a.detail.encode() for a in bus.arrivals} == {event(0, 5000), *behind, *markers}


async def test_a_kill_loses_no_event(real_kafka: str, tmp_path: Path) -> None:
    """One of two workers is killed amid the traffic: the other ends with it, and those who come next lose nothing."""
    async with FaultBus.serve() as bus:
        settings = killable(real_kafka, bus)
        make_topics(settings)
        open_bus(bus, range(6))
        path = write_world(tmp_path, settings, 6)
        bus.set_plan([Rule(Latency(0.05), Match(operation="PutEvents"))])
        events = [(f"acct_{n % 6}", event(n % 6, n) if n % 100 else b"poison %d" % n) for n in range(6000)]
        async with worker(path, "--workers", "2") as process, asyncio.timeout(PATIENCE_SECS):
            await produce(settings, events)
            await bus.wait_for_arrivals(1500)
            workers = [one for one in psutil.Process(process.pid).children() if "spawn_main" in " ".join(one.cmdline())]
            assert len(workers) == len(WORKERS)
            workers[0].kill()
            _, errors = await process.communicate()
        assert process.returncode == FAILED
        assert b"ended with exit code -9" in errors
        poison = {value for _, value in events if value.startswith(b"poison")}
        expected = {value for _, value in events} - poison
        async with worker(path) as process:
            # A slow machine may move deliveries to a retry topic, so the last ones may arrive after the last commit.
            await until(lambda: fully_committed(settings) == PARTITIONS)
            await until(lambda: {a.detail.encode() for a in bus.arrivals} == expected)
            process.terminate()
            await process.communicate()
        assert {value for value, _, _ in letters(settings)} == poison


async def test_a_failed_dlq_write_drops_nothing(real_kafka: str) -> None:
    async with FaultBus.serve() as bus:
        settings = settings_for(real_kafka, bus.url)
        make_topics(settings)
        small = settings.model_copy(
            update={"topics": settings.topics.model_copy(update={"dlq": settings.topics.attempts})}
        )  # a topic of the broker's default size: a large dead letter does not fit
        open_bus(bus, [0])
        huge = event(0, 1, payload={"blob": base64.b64encode(random.Random(1).randbytes(1_200_000)).decode()})
        async with running(small, [with_access_key(0)]) as worker:
            await produce(settings, [("acct_0", huge), ("acct_0", event(0, 2))])
            await worker.until(lambda: any(isinstance(s, CopyFailed) for s in worker.signals))
            await worker.until(lambda: worker.worker.ledger.delivered == 1)
            said = {signal.problem for signal in worker.signals if isinstance(signal, CopyFailed)}
            assert all(f"raise max.message.bytes of {small.topics.dlq}" in problem for problem in said)
        assert sum(committed(settings).values()) == 0
        async with running(settings, [with_access_key(0)]) as worker:
            await worker.settled(1)
            await until(lambda: sum(committed(settings).values()) == 2)
        assert [value for _, value, _ in read_all(settings, settings.topics.dlq)] == [huge]
        assert len(bus.arrivals) == 1, "the event behind it was not sent twice"


@pytest.mark.parametrize(
    ("error", "lost"),
    [(KafkaError.TOPIC_AUTHORIZATION_FAILED, 3000), (KafkaError.NOT_ENOUGH_REPLICAS, None)],
    ids=["refused", "no answer for good"],
)
async def test_a_lost_attempt_log_stalls_nothing(
    error: int, lost: int | None, capfd: pytest.CaptureFixture[str]
) -> None:
    """No record of the log can be written. Deliveries go on and are committed, and lost records are counted."""
    with BreakableBroker.start({}) as broker:
        async with outside(broker) as (bus, settings):
            # Attempt records repeat the correlation id: these are more than the log's producer will queue.
            events = [event(0, n, correlationId="c" * 2_000) for n in range(3000)]
            await produce(settings, (("acct_0", value) for value in events))
            broker.push_request_errors(ApiKey.PRODUCE, *[error] * 100_000)
            async with running(settings, [with_access_key(0)]) as worker:
                await worker.settled(3000)
                await until(lambda: committed(settings) == ends(settings, settings.topics.events))
                # The last records may not have been tried yet: they wait for others a while.
                await until(lambda: worker.worker.attempts.lost >= (lost or 1))
                broker.clear_request_errors(ApiKey.PRODUCE)
            assert len(bus.arrivals) == 3000
            counted = worker.worker.attempts.lost
            assert counted == lost if lost is not None else 0 < counted < 3000
            assert len(read_all(settings, settings.topics.attempts)) == 3000 - counted
            said = [json.loads(line) for line in capfd.readouterr().err.splitlines() if "attempts_lost" in line]
            assert [line["records"] for line in said] == [counted]


async def test_a_poison_record_blocks_nothing(embedded_broker: EmbeddedBroker) -> None:
    poison = [b"", None, b"\xff\xfe", b"[]", b"null", b'{"eventType": 1}', b"[" * 5000, event(0, 1)[:-1], b"\x00" * 100]
    async with outside(embedded_broker) as (bus, settings):
        good = [event(0, n) for n in range(len(poison) + 1)]
        mixed = [good[0], *(value for pair in zip(poison, good[1:], strict=True) for value in pair)]
        async with running(settings, [with_access_key(0)]) as worker:
            await produce(settings, (("acct_0", value) for value in mixed))
            await worker.settled(len(mixed))
        assert sorted(a.detail.encode() for a in bus.arrivals) == sorted(good)
        assert Counter(value for value, _, _ in letters(settings)) == Counter(poison), "untouched"
        assert {reason for _, reason, _ in letters(settings)} == {"undecodable"}
        assert committed(settings) == ends(settings, settings.topics.events)


@pytest.mark.parametrize(("missing", "why"), [(0, "oversize"), (1, "undecodable")], ids=["an event", "cut off"])
async def test_a_large_compressed_record_blocks_nothing(real_kafka: str, missing: int, why: str) -> None:
    """Kafka weighs records compressed. A record may be many times larger than its topic's limit, and must be copied."""
    async with outside(real_kafka) as (bus, settings):
        whole = event(0, 1, payload={"blob": "x" * 20 * 2**20})
        huge = whole[: len(whole) - missing]
        async with running(settings, [with_access_key(0)]) as worker:
            values = [event(0, 2), huge, event(0, 3)]
            await produce(settings, (("acct_0", value) for value in values), **{"message.max.bytes": 30 * 2**20})
            await worker.settled(3)
        [(value, reason, _)] = letters(settings)
        assert (value == huge, reason) == (True, why)
        assert sorted(a.detail.encode() for a in bus.arrivals) == [event(0, 2), event(0, 3)]
        assert committed(settings) == ends(settings, settings.topics.events)
