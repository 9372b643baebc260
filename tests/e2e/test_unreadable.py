"""Records that the client library cannot read, on every topic that is read: the worker and the tools go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.builders import event
from tests.support.kafka.wire import write_raw
from tests.support.replay_world import settled, world
from tests.support.workers import produce, read_all, until

pytestmark = pytest.mark.kafka
NOT_UTF8 = [(b"tenant", b"1"), (b"caf\xe9", b"2")]


async def test_a_bad_header_name_is_a_dead_letter(real_kafka: str, tmp_path: Path) -> None:
    async with world(real_kafka, tmp_path) as (bus, settings, desk):
        topics = settings.topics
        [retry] = topics.retry
        for topic in (topics.events, retry, topics.dlq, topics.attempts, topics.replays):
            write_raw(real_kafka, topic, b"acct_1", event(1, 1), NOT_UTF8)
        async with desk.working():
            await produce(settings, [("acct_1", event(1, 2))])
            await settled(settings, 3)
            await until(lambda: len(bus.arrivals) == 1)
        letters = [letter for letter in read_all(settings, topics.dlq) if len(letter[2]) > 2]
        assert len(letters) == 2
        for key, value, headers in letters:
            assert (key, value) == (b"acct_1", event(1, 1))
            assert headers["pushrail-reason"] == "undecodable"
            assert headers["tenant"] == "1"
        [at_events] = [h for _, _, h in letters if h["pushrail-origin"].startswith(f"{topics.events}/")]
        assert at_events["pushrail-error-code"] == "headers"
        assert at_events["pushrail-error-message"] == (
            "headers: 1 of 2 names are not UTF-8; copies leave these headers out"
        )
        told = await desk.ask("check", "--since", "1h")
        assert (told["events"], told["deliveries"]["delivered"], told["deliveries"]["dead_lettered"]) == (2, 1, 1)
        assert (told["missing"], told["unreadableAttempts"]) == ([], 1)
        rows = await desk.lines("dlq", "list")
        assert sorted((row["reason"], row["code"], row["count"]) for row in rows) == [
            ("foreign", "", 1), ("undecodable", "headers", 1), ("undecodable", "pushrail-origin", 1),
        ]  # fmt: skip
        [shown] = await desk.lines("dlq", "show", at_events["pushrail-origin"])
        assert shown["headers"] == [{"name": "tenant", "value": "1"}]
        found = await desk.lines("attempts", "--origin", at_events["pushrail-origin"])
        assert [attempt["status"] for attempt in found] == ["dead_lettered"]
        replayed = await desk.ask("replay", "events", "--all", "--since", "1h", "--dry-run")
        assert replayed["leftOut"] == {"cannot be decoded": 1}
        # Sent again, its letter goes where an event without that header goes.
        assert (await desk.ask("replay", "dlq", "--origin", at_events["pushrail-origin"]))["sent"] == 1
        async with desk.working():
            await until(lambda: len(bus.arrivals) == 2)
