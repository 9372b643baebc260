"""The check accounts for every event, or names the ones that are missing."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from pushrail_stream.core.cursor_state import CursorState
from pushrail_stream.core.text import format_rfc3339
from pushrail_stream.kafka.client_properties import checked_kafka
from pushrail_stream.kafka.topic_ids import topic_id
from pushrail_stream.sandbox.bus.faults import Hang, Match, Rule
from pushrail_stream.settings.model import Settings
from tests.support.builders import bus_arn, event, with_access_key
from tests.support.commands import Desk
from tests.support.kafka.cursors import commit_cursors
from tests.support.kafka.wire import write_raw
from tests.support.replay_world import DENIED, letters, settled, world
from tests.support.workers import (
    committed,
    ends,
    outside,
    produce,
    read_all,
    until,
)

pytestmark = pytest.mark.kafka


async def test_a_mixed_day_adds_up(real_kafka: str, tmp_path: Path) -> None:
    async with world(real_kafka, tmp_path) as (bus, settings, desk):
        desk.put([with_access_key(3, enabled=False)])
        bus.set_plan([DENIED])
        async with desk.working():
            await produce(settings, [(f"acct_{n % 5}", event(n % 5, n)) for n in range(500)])
            await produce(settings, [("acct_1", b"poison")])
            await settled(settings, 101)
        told = await desk.ask("check", "--since", "1h")
        assert told["deliveries"] == {
            "delivered": 200, "dead_lettered": 101, "skipped": 200, "pending": 0, "missing": 0, "too_new": 0,
        }  # fmt: skip
        assert (told["events"], told["repeated"], told["missing"]) == (501, 0, [])
        assert told["deadLetteredByFault"] == {"customer": 100, "producer": 1, "ours": 0}
        rows = [line.split() for line in (await desk.run("check", "--since", "1h")).splitlines()]
        assert ["-", "0", "1"] in [row[:3] for row in rows], "the poison has no destination"
        table = await desk.run("check", "--since", "1h", "--customer", "acct_0")
        assert table.splitlines()[-2:] == [
            "dead-lettered: 100 by the customer's fault, 0 by the producer's fault, 0 by our own fault",
            "100 events, 100 deliveries, 0 missing, 0 repeated",
        ]
        assert sum(letters(settings).values()) == 101
        # No worker runs: events that come now are pending.
        await produce(settings, [("acct_1", event(1, 9000 + n)) for n in range(7)])
        assert (await desk.ask("check", "--since", "1h"))["deliveries"]["pending"] == 7


async def test_an_event_on_a_retry_topic_is_pending(real_kafka: str, tmp_path: Path) -> None:
    async with outside(real_kafka, 2, tiers=(3600,), delivery={"flush_ms": 20, "hold_secs": 30}) as (bus, settings):
        desk = Desk(tmp_path, settings)
        desk.put(with_access_key(n) for n in range(2))
        async with desk.working():
            await produce(settings, [("acct_1", event(1, n)) for n in range(10)])
            await settled(settings, 0)
        hasty = settings.model_copy(update={"delivery": settings.delivery.model_copy(update={"hold_secs": 1})})
        (tmp_path / "hasty").mkdir()
        busy = Desk(tmp_path / "hasty", hasty)
        busy.put(with_access_key(n) for n in range(2))
        bus.set_plan([Rule(Hang(), Match(operation="PutEvents", bus=bus_arn(0)))])
        async with busy.working():
            await produce(settings, [("acct_0", event(0, n)) for n in range(10)])
            await until(lambda: committed(settings) == ends(settings, settings.topics.events))
        told = await desk.ask("check", "--since", "1h")
        assert told["deliveries"] == {
            "delivered": 10, "dead_lettered": 0, "skipped": 0, "pending": 10, "missing": 0, "too_new": 0,
        }  # fmt: skip


async def test_an_event_on_a_cursor_is_pending(real_kafka: str, tmp_path: Path) -> None:
    async with outside(real_kafka, 2) as (_, settings):
        desk = Desk(tmp_path, settings)
        desk.put(with_access_key(n) for n in range(2))
        await produce(settings, [(f"acct_{n % 2}", event(n % 2, n)) for n in range(20)])
        assert (await desk.ask("check", "--since", "1h"))["deliveries"]["pending"] == 20
        behind = CursorState(destination_id="dst_0", since=0, next=0, oldest_ms=1, opened_ms=1)
        for partition, end in ends(settings, settings.topics.events).items():
            await asyncio.to_thread(commit_cursors, settings, partition, end, [behind])
        said, _ = await fails(desk, "check", "--since", "1h")
        told = json.loads(said)
        assert (told["deliveries"]["pending"], told["deliveries"]["missing"]) == (10, 10)
        assert {one["destination"] for one in told["missing"]} == {"dst_1"}
        [backlog] = await desk.lines("backlog", "list")
        assert (backlog["destination"], backlog["events"]) == ("dst_0", 20), "others' events are among them"


async def test_cursors_that_cannot_be_read_do_not_hide_the_other_partitions(real_kafka: str, tmp_path: Path) -> None:
    async with outside(real_kafka, 1) as (_, settings):
        desk = Desk(tmp_path, settings)
        desk.put([with_access_key(0)])
        ended = ends(settings, settings.topics.events)
        await asyncio.to_thread(commit_cursors, settings, 0, ended[0], "dst_0,40,90,,5,5,damaged")
        _, err = await fails(desk, "check", "--since", "1h")
        assert "/0 stands still: " in err, "alone it is a failure"
        assert "cannot be read" in err
        await produce(settings, [(f"acct_0_{n}", event(0, n)) for n in range(40)])
        ended = ends(settings, settings.topics.events)
        for partition, end in ended.items():
            cursors = "dst_0,40,90,,5,5,damaged" if partition == 0 else ""
            await asyncio.to_thread(commit_cursors, settings, partition, end, cursors)
        said, err = await fails(desk, "check", "--since", "1h")
        told = json.loads(said)
        assert told["deliveries"]["pending"] == ended[0]
        assert told["deliveries"]["missing"] == 40 - ended[0] > 0


async def test_an_event_without_a_time_is_missed_too(real_kafka: str, tmp_path: Path) -> None:
    async with world(real_kafka, tmp_path) as (_, settings, desk):
        desk.put([with_access_key(0)])
        for number, at_ms in ((0, -1), (1, None), (2, -1), (3, 0)):
            write_raw(real_kafka, settings.topics.events, b"acct_0", event(0, number), [], at_ms=at_ms)
        assert await desk.run("replay", "offsets", "--to", "latest")
        told = json.loads((await fails(desk, "check", "--since", "1970-01-01T00:00:00Z"))[0])
        assert (told["events"], told["deliveries"]["missing"]) == (4, 4)
        told = json.loads((await fails(desk, "check", "--since", "1h"))[0])
        assert (told["events"], told["deliveries"]["missing"]) == (3, 3), "those among the events of this time"


async def test_a_destination_without_any_is_missed(real_kafka: str, tmp_path: Path) -> None:
    """Every delivery to one of two destinations is lost. Only its earlier deliveries show that it is not new."""
    async with world(real_kafka, tmp_path) as (_, settings, desk):
        both = with_access_key(0), with_access_key(0, id="dst_b", bus=bus_arn(3))
        desk.put(both)
        hour_ms = 3_600_000
        now = int(datetime.now(UTC).timestamp() * 1000)
        producer = Producer({"bootstrap.servers": real_kafka, "log_level": 0})
        for number, at in ((0, now - 3 * hour_ms), (1, now - hour_ms), (2, now - hour_ms)):
            producer.produce(settings.topics.events, event(0, number), "acct_0", 0, timestamp=at)
        for offset, destination_id, at in (
            (0, "dst_0", now - 3 * hour_ms), (0, "dst_b", now - 3 * hour_ms),
            (1, "dst_0", now - hour_ms), (2, "dst_0", now - hour_ms),
        ):  # fmt: skip
            said = {
                "at": format_rfc3339(at), "status": "delivered", "destinationId": destination_id,
                "origin": {"topic": settings.topics.events, "partition": 0, "offset": offset},
            }  # fmt: skip
            producer.produce(settings.topics.attempts, json.dumps(said).encode(), destination_id, timestamp=at)
        assert producer.flush(30) == 0
        assert await desk.run("replay", "offsets", "--to", "latest")
        told = json.loads((await fails(desk, "check", "--since", "2h"))[0])
        assert told["deliveries"]["delivered"] == told["deliveries"]["missing"] == 2
        assert {row["destination"] for row in told["missing"]} == {"dst_b"}
        # A destination that nothing is known of may have come since: it is counted, and named.
        desk.put([with_access_key(0, id="dst_c", bus=bus_arn(2))])
        told = json.loads((await fails(desk, "check", "--since", "2h"))[0])
        assert (told["deliveries"]["too_new"], told["deliveries"]["missing"]) == (2, 2)
        assert [row["destination"] for row in told["tooNew"]] == ["dst_c", "dst_c"]
        out, _ = await fails(desk, "check", "--since", "2h", as_json=False)
        assert "2 not counted: nothing shows that their destinations existed by then" in out


async def test_an_event_without_a_trace_is_missing(real_kafka: str, tmp_path: Path) -> None:
    """An event that a tool committed past, one lost delivery of two, and a retry that was lost."""
    async with world(real_kafka, tmp_path) as (bus, settings, desk):
        async with desk.working():
            await produce(settings, [("acct_0", event(0, n)) for n in range(10)])
            await bus.wait_for_arrivals(10)
            await until(lambda: committed(settings) == ends(settings, settings.topics.events))
        await produce(settings, [("acct_0", event(0, 100))])
        assert json.loads((await desk.run("replay", "offsets", "--to", "latest", "--json")).splitlines()[0])
        lost = attempt(settings, destination="dst_1", status="retrying")
        told = json.loads((await fails(desk, "check", "--since", "1h"))[0])
        assert told["deliveries"]["missing"] == 2
        assert {(row["destination"], row["last"]) for row in told["missing"]} == {("dst_0", ""), ("dst_1", "retrying")}
        assert lost["origin"]["offset"] in {int(row["origin"].rpartition("/")[2]) for row in told["missing"]}
        out, err = await fails(desk, "check", "--since", "1h", as_json=False)
        assert "MISSING: " in out
        assert err == "error: 2 deliveries are missing\n"


def attempt(settings: Settings, **changes: str) -> dict[str, Any]:
    """An attempt record like another, of which nothing more was heard."""
    record: dict[str, Any] = json.loads(read_all(settings, settings.topics.attempts)[0][1] or b"")
    record |= {"destinationId": changes["destination"], "status": changes["status"]}
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers, "log_level": 0})
    producer.produce(settings.topics.attempts, json.dumps(record).encode(), "dst_1")
    producer.produce(settings.topics.attempts, b"no json", "dst_1")
    assert producer.flush(30) == 0
    return record


async def fails(desk: Desk, *words: str, as_json: bool = True) -> tuple[str, str]:
    process = await desk.start(*words, *(["--json"] if as_json else []))
    out, err = await process.communicate()
    assert process.returncode == 1
    return out.decode(), err.decode().splitlines(keepends=True)[-1]


async def test_old_deliveries_do_not_certify_a_new_topic(real_kafka: str, tmp_path: Path) -> None:
    """Its records lie at the positions of the old topic's, which were all delivered."""
    async with world(real_kafka, tmp_path) as (_, settings, desk):
        name, options = settings.topics.events, checked_kafka(settings)
        admin = AdminClient({"bootstrap.servers": real_kafka})
        producer = Producer({"bootstrap.servers": real_kafka, "log_level": 0})

        def deliver(identity: str | None) -> None:
            now = format_rfc3339(int(datetime.now(UTC).timestamp() * 1000))
            for number in range(10):
                producer.produce(name, event(0, number), "acct_0", 0)
                origin: dict[str, Any] = {"topic": name, "partition": 0, "offset": number}
                said = {"at": now, "status": "delivered", "destinationId": "dst_0", "origin": origin}
                if identity is not None:
                    origin["topicId"] = identity
                producer.produce(settings.topics.attempts, json.dumps(said).encode(), "dst_0")
            assert producer.flush(30) == 0

        deliver(topic_id(options, name))
        assert await desk.run("replay", "offsets", "--to", "latest")
        told = await desk.ask("check", "--since", "1h")
        assert (told["events"], told["deliveries"]["delivered"], told["missing"]) == (10, 10, [])
        [gone] = admin.delete_topics([name]).values()
        gone.result()
        await until(lambda: name not in admin.list_topics(timeout=10).topics)
        [made] = admin.create_topics([NewTopic(name, 1, 1)]).values()
        made.result()
        for number in range(10):
            producer.produce(name, event(0, 100 + number), "acct_0", 0)
        assert producer.flush(30) == 0
        assert await desk.run("replay", "offsets", "--to", "latest")
        told = json.loads((await fails(desk, "check", "--since", "1h"))[0])
        assert (told["events"], told["deliveries"]["delivered"], told["deliveries"]["missing"]) == (10, 0, 10)
