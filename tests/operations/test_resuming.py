"""A resumed destination gets exactly the events that were skipped while it was paused, whatever interrupts that."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest

from pushrail_stream.kafka.client_properties import checked_kafka
from pushrail_stream.kafka.replay_journal import ReplayJournal
from pushrail_stream.operations.replay_selection import EventFilter, ReplayProgress, progress_mark
from pushrail_stream.operations.resuming import _Mark, _read, _write
from pushrail_stream.settings.model import Settings
from tests.support.builders import bus_arn, event
from tests.support.replay_world import number_of, read_all_committed, retries_are_done, world
from tests.support.workers import committed, ends, produce, read_all, until


@pytest.mark.kafka
async def test_skipped_events_are_sent_once(real_kafka: str, tmp_path: Path) -> None:
    async with world(real_kafka, tmp_path) as (bus, settings, desk), desk.working():
        sent = 0

        async def send(count: int) -> None:
            nonlocal sent
            await produce(settings, [(f"acct_{c}", event(c, n)) for n in range(sent, sent + count) for c in (0, 1)])
            sent += count
            await until(lambda: committed(settings) == ends(settings, settings.topics.events))

        await send(5)
        await bus.wait_for_arrivals(10)
        assert (await desk.ask("destinations", "pause", "dst_0"))["result"] == "paused"
        while not skipped(settings):
            await send(1)
        await send(200)
        await until(lambda: len(skipped(settings)) >= 200)
        (shown,) = await desk.lines("destinations", "list", "--state", "paused")
        assert shown["id"] == "dst_0"
        missing = len(skipped(settings))

        told = await desk.ask("destinations", "resume", "dst_0", "--dry-run")
        assert (told["result"], told["sent"], told["replays"][0]["count"]) == ("would be resumed", 0, missing)
        assert (await desk.ask("destinations", "show", "dst_0"))["paused"] is True

        process = await desk.start("destinations", "resume", "dst_0", "--rate", "25")
        await until(lambda: process.returncode is not None or copied(settings) > 0)
        assert process.returncode is None, "it ended before it could be killed"
        process.kill()
        await process.wait()
        await asyncio.to_thread(ReplayJournal, checked_kafka(settings), settings.topics.replays)
        before = copied(settings)
        assert 0 < before < missing
        await send(5)

        told = await desk.ask("destinations", "resume", "dst_0")
        assert (told["result"], told["sent"]) == ("not paused", missing - before)
        assert [one["leftOut"] for one in told["replays"]] == [{}, {}]
        await until(lambda: retries_are_done(settings))
        again = await desk.ask("destinations", "resume", "dst_0")
        assert (again["sent"], [one["leftOut"] for one in again["replays"]]) == (0, [{}])
        assert "0 skipped events are on their way" in await desk.run("destinations", "resume", "dst_0")
        await until(lambda: retries_are_done(settings))
        for customer in (0, 1):
            arrived = Counter(number_of(one) for one in bus.arrivals if one.bus_arn == bus_arn(customer))
            assert arrived == Counter(f"key-{n}" for n in range(sent))

        assert (await desk.run("destinations", "resume", "dst_none", exit_code=1)).startswith("error: ")


def skipped(settings: Settings) -> set[str]:
    records = [json.loads(value or b"") for _, value, _ in read_all(settings, settings.topics.attempts)]
    return {one["idempotencyKey"] for one in records if one.get("reason") == "paused"}


def copied(settings: Settings) -> int:
    return sum(len(read_all_committed(settings, topic)) for topic in settings.topics.retry)


STRANGE = [
    b'{"replay": "rp", "attempts": {}, "topicId": 7, "done": true}',
    b'{"replay": "rp", "attempts": {"x": 1}, "topicId": null, "done": true}',
    b'{"replay": "rp", "attempts": {"0": "x"}, "topicId": null, "done": true}',
]


@pytest.mark.parametrize("value", [None, b"", b"[]", b"{}", *STRANGE])
def test_any_other_record_is_no_mark(value: bytes | None) -> None:
    assert _read(value) is None


@pytest.mark.kafka
async def test_events_of_a_deleted_topic_are_not_waited_for(real_kafka: str, tmp_path: Path) -> None:
    """The replay that was interrupted read another topic of that name: the next one begins after it."""
    async with world(real_kafka, tmp_path) as (bus, settings, desk), desk.working():
        await desk.ask("destinations", "pause", "dst_0")
        count = 0
        while len(skipped(settings)) < 3:
            await produce(settings, [("acct_0", event(0, count))])
            count += 1
            await until(lambda: committed(settings) == ends(settings, settings.topics.events))
        wanted = EventFilter(since_ms=0, until_ms=1, destination="dst_0", paused="")
        progress = ReplayProgress(wanted, {}, "another id")
        journal = ReplayJournal(checked_kafka(settings), settings.topics.replays)
        unfinished = _write("resume:dst_0", _Mark("rp-old", {}, None, is_done=False))
        journal.write(next(iter(settings.topics.retry)), [], [progress_mark("rp-old", progress), unfinished])
        told = await desk.ask("destinations", "resume", "dst_0")
        assert [one["count"] for one in told["replays"]] == [len(skipped(settings))]
        await bus.wait_for_arrivals(count)
