"""Where is my event? The delivery log searched, with and without an index, and an index that is killed."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Producer

from pushrail_stream.history.attempts import AttemptFilter
from pushrail_stream.history.index import AttemptIndex
from pushrail_stream.settings import Settings
from tests.e2e.desk import Desk
from tests.e2e.test_replay import DENIED, settled, world
from tests.e2e.world import event, make_topics, produce, settings_for
from tests.faults.world import until
from tests.history.samples import said

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]


def with_index(desk: Desk, path: Path) -> None:
    values = yaml.safe_load(desk.config.read_text())
    values["history"]["index"] = str(path)
    desk.config.write_text(yaml.safe_dump(values))


async def test_an_event_is_found_by_whatever_is_known_of_it(real_kafka: str, tmp_path: Path) -> None:
    async with world(real_kafka, tmp_path) as (bus, settings, desk):
        bus.set_plan([DENIED])
        async with desk.working():
            await produce(settings, [("acct_0", event(0, 1)), ("acct_1", event(1, 2, correlationId="req_1"))])
            await produce(settings, [("acct_9", event(9, 3))])
            await settled(settings, 1)
            await bus.wait_for_arrivals(1)
        [delivered] = await desk.lines("attempts", "--key", "key-2")
        assert (delivered["status"], delivered["destinationId"]) == ("delivered", "dst_1")
        assert delivered["eventBridgeEventId"] == bus.arrivals[0].event_id
        origin = "{topic}/{partition}/{offset}".format(**delivered["origin"])
        for words in (
            ["--origin", origin], ["--correlation-id", "req_1"], ["--customer", "acct_1"], ["--destination", "dst_1"],
            ["--status", "delivered"], ["--customer", "acct_1", "--since", "1h", "--event-type", "order.completed"],
        ):  # fmt: skip
            assert await desk.lines("attempts", *words) == [delivered], words
        [refused] = await desk.lines("attempts", "--code", "AccessDeniedException")
        assert (refused["status"], refused["reason"]) == ("dead_lettered", "blocked")
        [skipped] = await desk.lines("attempts", "--status", "skipped")
        assert skipped["reason"] == "no_destination"
        assert await desk.lines("attempts", "--key", "nobody") == []
        assert await desk.lines("attempts", "--until", "1h") == []
        table = await desk.run("attempts", "--limit", "2")
        assert table.splitlines()[0].split()[:3] == ["at", "status", "destination"]
        assert len(table.splitlines()) == 3
        told = await desk.ask("attempts", "--summary")
        assert told["byStatus"] == {"dead_lettered": 1, "delivered": 1, "skipped": 1}
        assert told["byCode"] == {"AccessDeniedException": 1}
        error = await desk.run("attempts", "--status", "lost", exit_code=2)
        assert error.startswith("error: Invalid value for '--status'")


async def test_the_index_and_the_topic_together_know_everything(real_kafka: str, tmp_path: Path) -> None:
    settings, desk = log_of(real_kafka, tmp_path)
    write(settings, range(500))
    with_index(desk, tmp_path / "index.sqlite")
    told = await desk.ask("attempts", "index", "--once")
    assert (told["added"], told["attempts"], told["unreadable"]) == (500, 500, 0)
    again = await desk.ask("attempts", "index", "--once")
    assert (again["added"], again["attempts"]) == (0, 500)
    write(settings, range(500, 600))
    for number in (7, 555):
        [found] = await desk.lines("attempts", "--key", f"key-{number}")
        assert found["attemptId"] == f"a-{number}"
    assert (await desk.ask("attempts", "--summary"))["attempts"] == 600
    assert "history.index: is not set" in await Desk(make(tmp_path, "other"), settings).run(
        "attempts", "index", exit_code=2
    )


async def test_an_index_that_is_killed_has_each_record_once(real_kafka: str, tmp_path: Path) -> None:
    settings, desk = log_of(real_kafka, tmp_path)
    path = tmp_path / "index.sqlite"
    with_index(desk, path)
    total, kills = 60_000, 0
    write(settings, range(total))
    while kills < 2:
        before = indexed(path, settings)
        process = await desk.start("attempts", "index")
        await until(lambda: process.returncode is not None or indexed(path, settings) > before)  # noqa: B023
        assert process.returncode is None
        process.kill()
        await process.wait()
        kills += 1
    process = await desk.start("attempts", "index", "--json")
    await until(lambda: indexed(path, settings) == total)
    write(settings, range(total, total + 10))
    await until(lambda: indexed(path, settings) == total + 10)
    process.send_signal(signal.SIGTERM)
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0
    assert json.loads(out)["attempts"] == total + 10
    with AttemptIndex.open(path, settings.topics.attempts) as index:
        keys = {attempt.get("idempotencyKey") for attempt in index.find(AttemptFilter())}
        assert len(keys) == index.count() == total + 10
        assert sum(index.offsets().values()) == total + 10


async def test_the_log_is_followed_until_interrupted(real_kafka: str, tmp_path: Path) -> None:
    settings, desk = log_of(real_kafka, tmp_path)
    write(settings, range(3))
    process = await desk.start("attempts", "--follow", "--since", "2026-01-01T00:00:00Z", "--key", "key-9", "--json")
    assert process.stdout is not None
    write(settings, range(3, 12))
    async with asyncio.timeout(60):
        assert json.loads(await process.stdout.readline())["attemptId"] == "a-9"
    process.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 130
    assert b"Traceback" not in err


def make(home: Path, name: str) -> Path:
    (home / name).mkdir()
    return home / name


def log_of(bootstrap: str, home: Path) -> tuple[Settings, Desk]:
    """An installation of which there is a delivery log and nobody who works."""
    settings = settings_for(bootstrap, "http://127.0.0.1:1")
    make_topics(settings)
    return settings, Desk(home, settings)


def write(settings: Settings, numbers: range) -> None:
    config: dict[str, Any] = {"bootstrap.servers": settings.kafka.bootstrap_servers, "linger.ms": 20, "log_level": 0}
    producer = Producer(config)
    for number in numbers:
        producer.produce(settings.topics.attempts, json.dumps(said(number)).encode(), f"dst_{number % 7}")
        producer.poll(0)
    assert producer.flush(60) == 0


def indexed(path: Path, settings: Settings) -> int:
    if not path.exists():
        return 0
    with AttemptIndex.open(path, settings.topics.attempts) as index:
        return index.count()
