"""A batch that the client cannot read: it is named, and skipped on an order."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from pushrail_stream.core.record import Partition
from pushrail_stream.core.signals import OffsetsSkipped
from pushrail_stream.sandbox.bus.server import FaultBus
from pushrail_stream.settings.model import Settings
from tests.support.builders import event, with_access_key
from tests.support.commands import Desk
from tests.support.workers import committed, ends, make_topics, open_bus, running, settings_for, until

pytestmark = pytest.mark.kafka

SMALL: dict[str, Any] = {"receive.message.max.bytes": 4_000_000, "fetch.max.bytes": 2_000_000}
"""Fewer bytes than a batch of 9 MB has: such a batch cannot be read."""


async def produce_batches(settings: Settings, *batches: list[bytes]) -> None:
    """Each as one batch of partition 0, compressed."""

    def send() -> None:
        producer = Producer({
            "bootstrap.servers": settings.kafka.bootstrap_servers, "compression.type": "zstd", "linger.ms": 60_000,
            "batch.size": 100_000_000, "message.max.bytes": 100_000_000, "log_level": 0,
        })  # fmt: skip
        for batch in batches:
            for value in batch:
                producer.produce(settings.topics.events, value, "acct_0", 0)
            assert producer.flush(60) == 0

    await asyncio.to_thread(send)


async def test_an_unreadable_batch_is_skipped_on_order(real_kafka: str, tmp_path: Path) -> None:
    async with FaultBus.serve() as bus:
        settings = settings_for(real_kafka, bus.url, kafka={"bootstrap_servers": real_kafka, "client": SMALL})
        make_topics(settings)
        open_bus(bus, [0])
        desk = Desk(tmp_path, settings, client=SMALL)
        desk.put([with_access_key(0)])
        bad = [event(0, n, payload={"x": "abcdefgh" * 112_500}) for n in range(1, 11)]
        await produce_batches(settings, [event(0, 0)], bad, [event(0, 11)])
        where = f"{settings.topics.events}/0"
        readable = await desk.run("topics", "skip", f"{where}/0", "--reason", "no", exit_code=1)
        assert "can be read" in readable
        assert "is neither" in await desk.run("topics", "skip", "other/0/0", "--reason", "no", exit_code=2)
        async with running(settings, [with_access_key(0)]) as worker:
            await worker.settled(1)
            dry = await desk.ask("topics", "skip", f"{where}/1", "--reason", "too large", "--dry-run")
            assert (dry["first"], dry["end"], dry["dryRun"], dry["repeated"]) == (1, 11, True, False)
            assert ends(settings, settings.topics.dlq) == {0: 0, 1: 0, 2: 0}
            unknown = await desk.run("check", "--since", "1h", exit_code=1)
            assert "up to 10 events cannot be read" in unknown
            ordered = await desk.run("topics", "skip", f"{where}/1", "--reason", "too large")
            assert f"{where}: offsets 1 to 10, up to 10 records that cannot be read: will be stepped over" in ordered
            again = await desk.ask("topics", "skip", f"{where}/1", "--reason", "too large")
            assert (again["end"], again["repeated"]) == (11, True)
            await worker.settled(2)
            assert [told for told in worker.signals if isinstance(told, OffsetsSkipped)] == [
                OffsetsSkipped(Partition(settings.topics.events, 0), 1, 11, "too large")
            ]
            await until(lambda: committed(settings) == ends(settings, settings.topics.events))
        assert [arrival.detail.encode() for arrival in bus.arrivals] == [event(0, 0), event(0, 11)]
        [letter] = await desk.lines("dlq", "show", f"{where}/1")
        assert (letter["reason"], letter["code"]) == ("undecodable", "Skipped")
        assert letter["message"] == "offsets 1 to 10 could not be read and were stepped over by an operator: too large"
        passed = await desk.run("topics", "skip", f"{where}/0", "--reason", "no", exit_code=1)
        assert "can be read" in passed
        told = await desk.ask("check", "--since", "1h")
        assert (told["events"], told["missing"], told["unreadableEvents"]) == (2, [], 0), "the order accounts for it"
