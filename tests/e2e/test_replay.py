"""Sent again: dead letters and past events, exactly those that were chosen, whatever interrupts it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from pushrail_stream.kafka.options import kafka_options
from pushrail_stream.kafka.scan import Scan
from pushrail_stream.sandbox.bus import CallError, EntryError, FaultBus, Match, Rule
from pushrail_stream.settings import Settings
from tests.e2e.desk import Desk
from tests.e2e.world import (
    bus_arn,
    committed,
    destination,
    ends,
    event,
    make_topics,
    open_bus,
    produce,
    read_all,
    settings_for,
)
from tests.faults.world import until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]
CUSTOMERS = 4
DENIED = Rule(CallError(403, "AccessDeniedException", "no"), Match(operation="PutEvents", bus=bus_arn(0)))
MALFORMED = Rule(EntryError("MalformedDetail", "bad"), Match(bus=bus_arn(1), detail_contains=('"bad"',)))


@asynccontextmanager
async def world(bootstrap: str, home: Path) -> AsyncIterator[tuple[FaultBus, Settings, Desk]]:
    async with FaultBus.serve() as bus:
        settings = settings_for(bootstrap, bus.url, tiers=(1,), delivery={"flush_ms": 20, "hold_secs": 1})
        make_topics(settings)
        open_bus(bus, range(CUSTOMERS))
        desk = Desk(home, settings)
        desk.put(destination(n) for n in range(CUSTOMERS))
        yield bus, settings, desk


def number_of(arrival: Any) -> str:
    return str(json.loads(arrival.detail)["idempotencyKey"])


def letters(settings: Settings) -> Counter[tuple[str | None, str]]:
    found = (headers for _, _, headers in read_all(settings, settings.topics.dlq))
    return Counter((headers.get("pushrail-destination"), headers["pushrail-reason"]) for headers in found)


async def settled(settings: Settings, dead: int) -> None:
    """Until so many dead letters are there, and everything is committed."""
    await until(lambda: sum(ends(settings, settings.topics.dlq).values()) >= dead)
    await until(lambda: committed(settings) == ends(settings, settings.topics.events))


async def test_chosen_letters_are_replayed_once_each_though_the_replay_is_killed_twice(
    real_kafka: str, tmp_path: Path
) -> None:
    async with world(real_kafka, tmp_path) as (bus, settings, desk), desk.working():
        bus.set_plan([DENIED, MALFORMED])
        blocked = [(f"acct_{n % 2 * 2}", event(n % 2 * 2, n)) for n in range(4000)]  # half for 0, half for 2
        bad = [("acct_1", event(1, 9000 + n, payload={"x": "bad"})) for n in range(30)]
        large = [("acct_3", event(3, 9100 + n, payload={"x": "y" * 1_100_000})) for n in range(3)]
        await produce(settings, [*blocked, *bad, *large, ("acct_0", b"poison")])
        await settled(settings, 2000 + 30 + 3 + 1)
        before = letters(settings)
        assert before["dst_0", "blocked"] + before["dst_0", "suspended"] == 2000
        assert {key: count for key, count in before.items() if key[0] != "dst_0"} == {
            ("dst_1", "rejected"): 30, ("dst_3", "oversize"): 3, (None, "undecodable"): 1,
        }  # fmt: skip
        rows = await desk.lines("dlq", "list")
        assert sum(row["count"] for row in rows) == 2034
        assert {row["reason"]: row["fault"] for row in rows}["undecodable"] == "producer"
        assert {row["fault"] for row in rows if row["reason"] != "undecodable"} == {"customer"}

        told = await desk.ask("replay", "dlq", "--destination", "dst_0", "--dry-run")
        assert (told["sent"], sum(row["count"] for row in told["chosen"])) == (0, 2000)
        assert {row["destination"] for row in told["chosen"]} == {"dst_0"}

        bus.set_plan([])
        bus.clear()
        kills = 0
        while kills < 2:
            marked = replayed(settings)
            process = await desk.start("replay", "dlq", "--destination", "dst_0", "--rate", "400")
            await until(lambda: process.returncode is not None or replayed(settings) > marked)  # noqa: B023
            assert process.returncode is None, "it ended before it could be killed"
            process.kill()
            await process.wait()
            kills += 1
        marked = replayed(settings)
        assert 0 < marked < 2000
        told = await desk.ask("replay", "dlq", "--destination", "dst_0")
        assert (told["sent"], marked) == (2000 - marked, marked), told
        assert told["leftOut"] == {"replayed before (--again repeats it)": 2000 - told["sent"]}
        await bus.wait_for_arrivals(2000)
        again = await desk.ask("replay", "dlq", "--destination", "dst_0")
        assert (again["sent"], again["leftOut"]) == (0, {"replayed before (--again repeats it)": 2000})
        await until(lambda: retries_are_done(settings))
        arrived = Counter(number_of(arrival) for arrival in bus.arrivals)
        assert arrived == Counter(f"key-{n}" for n in range(0, 4000, 2))
        assert {arrival.bus_arn for arrival in bus.arrivals} == {bus_arn(0)}
        assert letters(settings) == before, "the DLQ stays as it is"
        records = [json.loads(value or b"") for _, value, _ in read_all(settings, settings.topics.attempts)]
        replays = [record for record in records if record["trigger"] == "replay"]
        assert len(replays) == 2000
        assert {record["status"] for record in replays} == {"delivered"}
        assert all(record["replayId"].startswith("rp-") for record in replays)


def replayed(settings: Settings) -> int:
    """Letters that are marked, by what was committed."""
    marks = read_all_committed(settings, settings.topics.replays)
    return len({key for key, _ in marks})


def read_all_committed(settings: Settings, topic: str) -> list[tuple[bytes | None, bytes | None]]:
    with Scan(kafka_options(settings), topic) as scan:
        return [(record.key, record.value) for batch in scan for record in batch]


def retries_are_done(settings: Settings) -> bool:
    """Whether the retry topic is read to its end; a transaction's last record is a marker that nobody commits."""
    for topic in settings.topics.retry:
        done = committed(settings, topic)
        if any(end - done[number] > 1 for number, end in ends(settings, topic).items()):
            return False
    return True


async def test_a_replayed_entry_is_the_first_one_byte_for_byte(real_kafka: str, tmp_path: Path) -> None:
    async with world(real_kafka, tmp_path) as (bus, settings, desk):
        trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        producer = Producer({"bootstrap.servers": real_kafka, "log_level": 0})
        raw = (
            b'{ "eventType":"order.completed","occurredAt":"2026-05-26T14:21:08.493+02:00","source":"s",\n'
            b'"customerExternalId":"acct_0","idempotencyKey":"k\\u00e9y","payload":{"n":1.50,"e":"Zo\xc3\xab"}}'
        )
        headers: list[tuple[str, str | bytes | None]] = [("traceparent", trace.encode()), ("x-own", b"kept")]
        producer.produce(settings.topics.events, raw, "acct_0", headers=headers)
        assert producer.flush(30) == 0
        async with desk.working():
            await bus.wait_for_arrivals(1)
            await until(lambda: committed(settings) == ends(settings, settings.topics.events))
        # The same event again, to a bus that refuses it, and then from the DLQ.
        bus.set_plan([DENIED])
        producer.produce(settings.topics.events, raw, "acct_0", headers=headers)
        assert producer.flush(30) == 0
        async with desk.working():
            await settled(settings, 1)
            bus.set_plan([])
            assert (await desk.ask("replay", "dlq"))["sent"] == 1
            await bus.wait_for_arrivals(2)
        first, second = bus.arrivals
        assert first.detail.encode() == raw
        for field in ("bus_arn", "source", "detail_type", "detail", "resources", "time", "trace_header"):
            assert getattr(first, field) == getattr(second, field), field
        assert first.trace_header


async def test_what_dies_again_keeps_count_and_is_left_alone_in_the_end(real_kafka: str, tmp_path: Path) -> None:
    async with world(real_kafka, tmp_path) as (bus, settings, desk), desk.working():
        bus.set_plan([DENIED])
        await produce(settings, [("acct_0", event(0, 1))])
        await settled(settings, 1)
        for died in (1, 2):
            told = await desk.ask("replay", "dlq", "--max-count", "2")
            assert told["sent"] == 1
            await settled(settings, died + 1)
        told = await desk.ask("replay", "dlq", "--max-count", "2")
        assert (told["sent"], told["leftOut"]) == (
            0,
            {"replayed before (--again repeats it)": 2, "died in 2 replays or more (--max-count)": 1},
        )
        counts = [headers.get("pushrail-replay-count") for _, _, headers in read_all(settings, settings.topics.dlq)]
        assert sorted(count or "0" for count in counts) == ["0", "1", "2"]
        [group] = await desk.lines("dlq", "list", "--replay", told_id(settings))
        assert group["count"] == 1


def told_id(settings: Settings) -> str:
    """The replay in which the newest letter died."""
    found = [headers for _, _, headers in read_all(settings, settings.topics.dlq)]
    newest = max(found, key=lambda headers: int(headers.get("pushrail-replay-count", 0)))
    return newest["pushrail-replay"]


async def test_letters_of_destinations_that_are_gone_or_off_are_left_out(real_kafka: str, tmp_path: Path) -> None:
    async with world(real_kafka, tmp_path) as (bus, settings, desk):
        bus.set_plan([Rule(CallError(403, "AccessDeniedException", "no"), Match(operation="PutEvents"))])
        async with desk.working():
            await produce(settings, [(f"acct_{n}", event(n, n)) for n in range(3)])
            await settled(settings, 3)
        desk.file("dst_0").unlink()
        desk.put([destination(1, enabled=False)])
        table = await desk.run("replay", "dlq", "--dry-run")
        assert "left out: 1 its destination was deleted" in table
        assert "left out: 1 its destination is disabled" in table
        assert table.splitlines()[-1].endswith(": 1 deliveries would be sent")
        shown = await desk.run("dlq", "show", f"{settings.topics.events}/{origin_of(settings, 'dst_1')}")
        assert "destination     dst_1" in shown
        assert '"idempotencyKey": "key-1"' in shown
        error = await desk.run("dlq", "show", "nowhere/0/0", exit_code=1)
        assert error == f"error: nowhere/0/0: there is no such dead letter in {settings.topics.dlq}\n"


def origin_of(settings: Settings, destination_id: str) -> str:
    for _, _, headers in read_all(settings, settings.topics.dlq):
        if headers.get("pushrail-destination") == destination_id:
            return headers["pushrail-origin"].partition("/")[2]
    raise AssertionError(destination_id)


async def test_past_events_are_delivered_again_by_the_destinations_there_are_now(
    real_kafka: str, tmp_path: Path
) -> None:
    async with world(real_kafka, tmp_path) as (bus, settings, desk), desk.working():
        await produce(settings, [(f"acct_{n % 2}", event(n % 2, n)) for n in range(40)])
        await produce(settings, [("acct_0", event(0, 100, eventType="invoice.paid"))])
        await bus.wait_for_arrivals(41)
        await until(lambda: committed(settings) == ends(settings, settings.topics.events))
        offsets = committed(settings)
        bus.clear()
        desk.put([replace(destination(0), id="dst_0b", bus_arn=bus_arn(3), event_types=("invoice.*",))])
        told = await desk.ask("replay", "events", "--customer", "acct_0", "--since", "1h", "--dry-run")
        assert {row["destination"]: row["count"] for row in told["chosen"]} == {"dst_0": 21, "dst_0b": 1}
        assert told["leftOut"] == {"filtered by its destination": 20}
        told = await desk.ask("replay", "events", "--customer", "acct_0", "--since", "1h", "--limit", "5")
        assert told["sent"] == 5
        rest = await desk.ask("replay", "events", "--resume", told["replay"])
        assert rest["sent"] == 17
        await bus.wait_for_arrivals(22)
        await until(lambda: retries_are_done(settings))
        assert Counter(arrival.bus_arn for arrival in bus.arrivals) == {bus_arn(0): 21, bus_arn(3): 1}
        assert len({number_of(arrival) for arrival in bus.arrivals}) == 21
        assert committed(settings) == offsets
        error = await desk.run("replay", "events", "--resume", "rp-never", exit_code=2)
        assert error == "error: --resume: there is no replay of events rp-never that has begun\n"
        assert "--since: is required" in await desk.run("replay", "events", exit_code=2)


async def test_offsets_are_moved_when_nobody_works(real_kafka: str, tmp_path: Path) -> None:
    async with world(real_kafka, tmp_path) as (bus, settings, desk):
        async with desk.working():
            await produce(settings, [("acct_0", event(0, n)) for n in range(30)])
            await bus.wait_for_arrivals(30)
            await until(lambda: committed(settings) == ends(settings, settings.topics.events))
            error = await desk.run("replay", "offsets", "--to", "earliest", exit_code=1)
            assert f"group {settings.kafka.group_id} is active (pushrail-stream at " in error
            assert "stop its workers first" in error
            table = await desk.run("replay", "offsets", "--to", "earliest", "--dry-run")
            assert table.splitlines()[-1] == "30 records would be delivered again, 0 passed over"
        before = committed(settings)
        assert sum(before.values()) == 30
        rows = await desk.lines("replay", "offsets", "--to", "earliest")
        assert sum(row["again"] for row in rows) == 30
        assert set(committed(settings).values()) == {0}
        async with desk.working():
            await bus.wait_for_arrivals(60)
            await until(lambda: committed(settings) == before)
        [one] = await desk.lines("replay", "offsets", "--to", "1h", "--partition", "0")
        assert (one["partition"], one["new"]) == (0, 0)
        assert "10 passed over" not in await desk.run("replay", "offsets", "--to", "latest")
        assert committed(settings) == before
        assert "--to: must be a time such as" in await desk.run("replay", "offsets", "--to", "x", exit_code=2)
        assert "has no partition 99" in await desk.run(
            "replay", "offsets", "--to", "0", "--partition", "99", exit_code=2
        )
