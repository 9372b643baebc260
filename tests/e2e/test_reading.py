"""Markers and aborted records are committed past; removed records are reported."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import OFFSET_END, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from pushrail_stream.core.signals import RecordsTrimmed
from pushrail_stream.settings.model import Settings
from tests.support.builders import event, with_access_key
from tests.support.commands import Desk
from tests.support.patience import PATIENCE_SECS
from tests.support.workers import committed, ends, outside, produce, running, until

pytestmark = pytest.mark.kafka


def remove_all(settings: Settings, topic: str) -> None:
    """Remove records of a topic at once, as its retention would."""
    admin = AdminClient({"bootstrap.servers": settings.kafka.bootstrap_servers})
    wanted = [TopicPartition(topic, number, OFFSET_END) for number in ends(settings, topic)]
    for removed in admin.delete_records(wanted).values():
        removed.result(30)


def transactions(settings: Settings, *batches: tuple[list[bytes], bool]) -> None:
    """Events of one customer, each batch a transaction that is committed or not."""
    producer = Producer({
        "bootstrap.servers": settings.kafka.bootstrap_servers, "transactional.id": settings.topics.events,
        "log_level": 0,
    })  # fmt: skip
    producer.init_transactions(30)
    for values, commits in batches:
        producer.begin_transaction()
        for value in values:
            producer.produce(settings.topics.events, value, "acct_0", 0)
        producer.flush(30)
        if commits:
            producer.commit_transaction(30)
        else:
            producer.abort_transaction(30)


async def test_removed_markers_are_no_loss(
    real_kafka: str,
) -> None:
    async with outside(real_kafka) as (bus, settings):
        good, bad = [event(0, n) for n in range(3)], [event(0, n) for n in range(3, 6)]
        await asyncio.to_thread(transactions, settings, (good, True), (bad, False))
        async with running(settings, [with_access_key(0)]) as worker:
            await worker.settled(3)
            await until(lambda: committed(settings) == ends(settings, settings.topics.events))
        assert [arrival.detail.encode() for arrival in bus.arrivals] == good
        remove_all(settings, settings.topics.events)
        async with running(settings, [with_access_key(0)]) as worker:
            await produce(settings, [("acct_0", event(0, 9))])
            await worker.settled(1)
            await until(lambda: committed(settings) == ends(settings, settings.topics.events))
        assert not [told for told in worker.signals if isinstance(told, RecordsTrimmed)]


@pytest.mark.parametrize("more", [True, False], ids=["records follow", "none follow"])
async def test_removed_records_are_reported(real_kafka: str, tmp_path: Path, *, more: bool) -> None:
    async with outside(real_kafka) as (bus, settings):
        desk = Desk(tmp_path, settings)
        desk.put([with_access_key(0)])
        await produce(settings, [("acct_0", event(0, 0))])
        process = await desk.start("run")
        try:
            await until(lambda: len(bus.arrivals) == 1)
            await until(lambda: sum(committed(settings).values()) == 1)
            process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(1)  # the broker answers the fetch that was on its way after fetch.wait.max.ms, 100 ms
            await produce(settings, [("acct_0", event(0, n)) for n in range(1, 400)])
            remove_all(settings, settings.topics.events)
            if more:
                await produce(settings, [("acct_0", event(0, n)) for n in range(400, 403)])
            process.send_signal(signal.SIGCONT)
            await until(lambda: committed(settings) == ends(settings, settings.topics.events))
            process.send_signal(signal.SIGTERM)
            _, err = await asyncio.wait_for(process.communicate(), PATIENCE_SECS)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        [line] = [found for found in log_of(err) if found["event"] == "records_trimmed"]
        assert (line["expected"], line["first"]) == (1, 400)
        assert len(bus.arrivals) == (4 if more else 1)


def log_of(err: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in err.splitlines() if line.startswith(b"{")]
