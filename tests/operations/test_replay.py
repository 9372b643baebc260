"""A replay sends exactly the chosen dead letters and past events, whatever interrupts it."""

from __future__ import annotations

import asyncio
import itertools
import json
import shlex
from collections import Counter
from pathlib import Path

import pytest
from confluent_kafka import Producer

from pushrail_stream.core.destination import Secret
from pushrail_stream.core.headers import DeliveryHeaders, decode_headers
from pushrail_stream.kafka.client_properties import checked_kafka
from pushrail_stream.kafka.replay_journal import ReplayJournal
from pushrail_stream.sandbox.bus.faults import CallError, Match, ResetAfter, Rule
from pushrail_stream.sandbox.bus.server import FaultBus
from pushrail_stream.settings.eventbridge import AccessKey
from pushrail_stream.settings.model import Settings
from tests.support.builders import SECRET, bus_arn, event, modified, with_access_key
from tests.support.commands import Desk
from tests.support.replay_world import (
    DENIED,
    MALFORMED,
    OTHER_KEY_ID,
    letters,
    number_of,
    read_all_committed,
    retries_are_done,
    settled,
    world,
)
from tests.support.workers import committed, ends, produce, read_all, until

pytestmark = pytest.mark.kafka


async def test_a_killed_replay_sends_each_letter_once(real_kafka: str, tmp_path: Path) -> None:
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
        assert {(row["destination"], row["fault"]) for row in told["chosen"]} == {("dst_0", "customer")}

        bus.set_plan([])
        bus.clear()
        kills = 0
        while kills < 2:
            marked = replayed(settings)
            await kill_midway(settings, desk, marked, "replay", "dlq", "--destination", "dst_0")
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


async def kill_midway(settings: Settings, desk: Desk, marked: int, *words: str) -> None:
    """Kill a replay when more than ``marked`` have gone; it is so slow that it cannot end before."""
    process = await desk.start(*words, "--rate", "25")
    await until(lambda: process.returncode is not None or sent(settings) > marked)
    assert process.returncode is None, "it ended before it could be killed"
    process.kill()
    await process.wait()
    await asyncio.to_thread(wait_for_the_last_commit, settings)


def wait_for_the_last_commit(settings: Settings) -> None:
    """A killed replay's last commit is made or undone later. A new replay begins by waiting for that."""
    ReplayJournal(checked_kafka(settings), settings.topics.replays)


def sent(settings: Settings) -> int:
    """Copies that were committed."""
    return sum(len(read_all_committed(settings, topic)) for topic in settings.topics.retry)


def replayed(settings: Settings) -> int:
    """The number of marked letters, by committed records."""
    return len({mark.key for mark in read_all_committed(settings, settings.topics.replays)})


async def test_a_replayed_entry_has_the_same_bytes(real_kafka: str, tmp_path: Path) -> None:
    """The bus took the first attempts and the worker never heard: so both are in the bus's own record."""
    async with world(real_kafka, tmp_path, hold_secs=1, max_age_secs=1) as (bus, settings, desk), desk.working():
        trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        raw = (
            b'{ "eventType":"order.completed","occurredAt":"2026-05-26T14:21:08.493+02:00","source":"s",\n'
            b'"customerExternalId":"acct_0","idempotencyKey":"k\\u00e9y","payload":{"n":1.50,"e":"Zo\xc3\xab"}}'
        )
        bus.set_plan([Rule(ResetAfter(), Match(operation="PutEvents"))])
        producer = Producer({"bootstrap.servers": real_kafka, "log_level": 0})
        headers: list[tuple[str, str | bytes | None]] = [
            ("traceparent", trace.encode()),
            ("x-own", b"kept"),
            ("x", None),
        ]
        producer.produce(settings.topics.events, raw, "acct_0", headers=headers)
        assert producer.flush(30) == 0
        await settled(settings, 1)
        [record] = read_all_committed(settings, settings.topics.dlq)
        dead = decode_headers(record.headers)
        assert isinstance(dead, DeliveryHeaders)
        assert (dead.reason, record.value) == ("expired", raw)
        first, *more = bus.arrivals
        assert len(more) == dead.attempts - 1
        bus.clear()
        bus.set_plan([])
        assert (await desk.ask("replay", "dlq", "--all"))["sent"] == 1
        await bus.wait_for_arrivals(1)
        [again] = bus.arrivals
        assert first.detail.encode() == raw
        for field in ("bus_arn", "source", "detail_type", "detail", "resources", "time", "trace_header"):
            assert getattr(first, field) == getattr(again, field), field
        assert first.trace_header == "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1"
        [copy] = read_all_committed(settings, next(iter(settings.topics.retry)))[-1:]
        assert [header for header in copy.headers if not header[0].startswith("pushrail-")] == [
            ("traceparent", trace.encode()), ("x-own", b"kept"), ("x", None),
        ]  # fmt: skip


async def test_a_deleted_destination_gets_no_replay(real_kafka: str, tmp_path: Path) -> None:
    async with world(real_kafka, tmp_path) as (bus, settings, desk):
        bus.set_plan([Rule(CallError(403, "AccessDeniedException", "no"), Match(operation="PutEvents"))])
        async with desk.working():
            await produce(settings, [(f"acct_{n % 2}", event(n % 2, n)) for n in range(1200)])
            await settled(settings, 1200)
        bus.set_plan([])
        bus.clear()
        await kill_midway(settings, desk, 100, "replay", "dlq", "--all")
        gone = Counter(state.destination for state in copied(settings))
        assert gone.total() < 1200
        desk.file("dst_0").unlink()
        told = await desk.ask("replay", "dlq", "--all")
        assert told["chosen"] == [
            {"destination": "dst_1", "reason": row["reason"], "fault": "customer", "count": row["count"]}
            for row in told["chosen"]
        ]
        assert told["sent"] == 600 - gone["dst_1"]
        assert told["leftOut"] == {
            "its destination was deleted": 600 - gone["dst_0"], "replayed before (--again repeats it)": gone.total(),
        }  # fmt: skip
        async with desk.working():
            await bus.wait_for_arrivals(600)
            await until(lambda: retries_are_done(settings))
        assert Counter(map(number_of, bus.arrivals)) == Counter(f"key-{n}" for n in range(1, 1200, 2))
        accounts = await desk.ask("check", "--since", "1h")
        assert accounts["deliveries"] == {
            "delivered": 600, "dead_lettered": 600, "skipped": 0, "pending": 0, "missing": 0, "too_new": 0,
        }  # fmt: skip


def copied(settings: Settings) -> list[DeliveryHeaders]:
    """The headers of the committed copies."""
    states = [decode_headers(r.headers) for t in settings.topics.retry for r in read_all_committed(settings, t)]
    return [state for state in states if isinstance(state, DeliveryHeaders)]


async def test_a_replay_that_dies_again_is_counted(real_kafka: str, tmp_path: Path) -> None:
    async with world(real_kafka, tmp_path) as (bus, settings, desk), desk.working():
        bus.set_plan([DENIED])
        await produce(settings, [("acct_0", event(0, 1))])
        await settled(settings, 1)
        for died in (1, 2):
            told = await desk.ask("replay", "dlq", "--all", "--max-count", "2")
            assert told["sent"] == 1
            await settled(settings, died + 1)
        told = await desk.ask("replay", "dlq", "--all", "--max-count", "2")
        assert (told["sent"], told["leftOut"]) == (
            0,
            {"replayed before (--again repeats it)": 2, "replayed 2 times or more (--max-count)": 1},
        )
        told = await desk.ask("replay", "dlq", "--all", "--max-count", "2", "--again")
        assert told["sent"] == 0, "--again is no way around the guard"
        told = await desk.ask("replay", "dlq", "--all", "--again", "--dry-run")
        assert sum(row["count"] for row in told["chosen"]) == 1, "three letters of one delivery"
        counts = [headers.get("pushrail-replay-count") for _, _, headers in read_all(settings, settings.topics.dlq)]
        assert sorted(count or "0" for count in counts) == ["0", "1", "2"]
        [group] = await desk.lines("dlq", "list", "--replay", told_id(settings))
        assert group["count"] == 1


def told_id(settings: Settings) -> str:
    """The replay in which the newest letter died."""
    found = [headers for _, _, headers in read_all(settings, settings.topics.dlq)]
    newest = max(found, key=lambda headers: int(headers.get("pushrail-replay-count", 0)))
    return newest["pushrail-replay"]


async def test_unavailable_destinations_are_left_out(real_kafka: str, tmp_path: Path) -> None:
    async with world(real_kafka, tmp_path) as (bus, settings, desk):
        bus.set_plan([Rule(CallError(403, "AccessDeniedException", "no"), Match(operation="PutEvents"))])
        async with desk.working():
            await produce(settings, [(f"acct_{n}", event(n, n)) for n in range(3)])
            await settled(settings, 3)
        desk.file("dst_0").unlink()
        desk.put([with_access_key(1, enabled=False)])
        table = await desk.run("replay", "dlq", "--all", "--dry-run")
        assert "left out: 1, its destination was deleted" in table
        assert "left out: 1, its destination is disabled" in table
        assert table.splitlines()[-1] == "1 deliveries would be sent"
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


async def test_past_events_go_to_todays_destinations(real_kafka: str, tmp_path: Path) -> None:
    async with world(real_kafka, tmp_path) as (bus, settings, desk), desk.working():
        await produce(settings, [(f"acct_{n % 2}", event(n % 2, n)) for n in range(40)])
        await produce(settings, [("acct_0", event(0, 100, eventType="invoice.paid"))])
        await bus.wait_for_arrivals(41)
        await until(lambda: committed(settings) == ends(settings, settings.topics.events))
        offsets = committed(settings)
        bus.clear()
        desk.put([modified(with_access_key(0), id="dst_0b", bus=bus_arn(3), event_types=("invoice.*",))])
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
        for words, problem in (
            ((), "--since: is required"),
            (("--delivered-since", "1h"), "--delivered-since: needs --destination"),
            (("--delivered-since", "1h", "--destination", "dst_0", "--since", "1h"), "and neither --since nor --until"),
            (
                ("--delivered-since", "1h", "--destination", "dst_0", "--all"),
                "and neither --since nor --until nor --all",
            ),
            (("--delivered-until", "1h", "--destination", "dst_0"), "--delivered-until: needs --delivered-since"),
            (
                ("--destination", "dst_0", "--delivered-since", "1h", "--delivered-until", "2h"),
                "--delivered-until: must be later than --delivered-since",
            ),
            (
                ("--resume", told["replay"], "--delivered-since", "1h"),
                "--resume: goes on with that replay's own filter",
            ),
            (("--since", "1h"), "--customer, --destination, --event-type: one of them is required"),
            (("--since", "1h", "--all", "--until", "2h"), "--until: must be later than --since"),
            (("--resume", told["replay"], "--customer", "acct_0"), "--resume: goes on with that replay's own filter"),
            (("--resume", told["replay"], "--until", "1h"), "--resume: goes on with that replay's own filter"),
        ):
            assert problem in await desk.run("replay", "events", *words, exit_code=2)


async def test_the_printed_command_resends_deliveries(real_kafka: str, tmp_path: Path) -> None:
    async with world(real_kafka, tmp_path) as (bus, settings, desk), desk.working() as log:
        numbers = itertools.count()

        async def send(count: int) -> None:
            of_both = [(f"acct_{n}", event(n, number)) for number in itertools.islice(numbers, count) for n in (0, 1)]
            await produce(settings, of_both)

        await send(20)
        await bus.wait_for_arrivals(40)
        bus.directory.buses.discard(bus_arn(0))
        bus.add_key(OTHER_KEY_ID, SECRET)
        # Reached with another key, the bus is asked about before ten minutes have passed.
        desk.put([modified(with_access_key(0), auth=AccessKey(OTHER_KEY_ID, Secret(SECRET)))])
        while not sum(ends(settings, settings.topics.dlq).values()):
            await send(10)
        await until(lambda: committed(settings) == ends(settings, settings.topics.events))
        count = next(numbers)
        await until(lambda: ended(settings) == 2 * count)
        rows = {row["id"]: row for row in await desk.lines("destinations", "list", "--state")}
        gone, swallowed = rows["dst_0"], count - sum(letters(settings).values())
        assert (gone["state"], gone["deliveredSince"], rows["dst_1"]["state"]) == ("gone", swallowed, "ok")
        assert gone["lastSeen"] < gone["missingSince"]
        assert (
            f"dst_0: its bus is missing since {gone['missingSince']}; last seen {gone['lastSeen']}; {swallowed} "
            in (await desk.run("destinations", "list", "--state"))
        )
        bus.add_bus(bus_arn(0))
        desk.put([with_access_key(0)])
        while not arrived(bus, bus_arn(0)) - {f"key-{number}" for number in range(20)}:
            await send(1)
        told = await desk.ask(*shlex.split(gone["replay"])[1:])
        assert (told["sent"], told["chosen"], told["leftOut"]) == (
            swallowed, [{"destination": "dst_0", "count": swallowed}], {},
        )  # fmt: skip
        await until(lambda: retries_are_done(settings))
        dead = sum(letters(settings).values())
        assert len(arrived(bus, bus_arn(0))) == next(numbers) - 1 - dead, "every event that is no dead letter"
        assert len(arrived(bus, bus_arn(1))) == len(arrived(bus, bus_arn(0))) + dead
    lines = [json.loads(line) for line in log if '"bus_missing"' in line or '"bus_found"' in line]
    assert [(line["event"], line["delivered_since"], line["replay"]) for line in lines] == [
        ("bus_missing", swallowed, gone["replay"]), ("bus_found", swallowed, gone["replay"]),
    ]  # fmt: skip


def ended(settings: Settings) -> int:
    """Deliveries that have ended by the delivery log, which is written after commits too."""
    records = [json.loads(value or b"") for _, value, _ in read_all(settings, settings.topics.attempts)]
    return sum(record["status"] != "retrying" for record in records)


def arrived(bus: FaultBus, arn: str) -> set[str]:
    return {number_of(arrival) for arrival in bus.arrivals if arrival.bus_arn == arn}


async def test_a_killed_event_replay_goes_on(real_kafka: str, tmp_path: Path) -> None:
    async with world(real_kafka, tmp_path) as (bus, settings, desk), desk.working():
        await produce(settings, [(f"acct_{n % 2}", event(n % 2, n)) for n in range(1600)])
        await bus.wait_for_arrivals(1600)
        await settled(settings, 0)
        bus.clear()
        await kill_midway(settings, desk, 100, "replay", "events", "--customer", "acct_0", "--since", "1h")
        assert 100 < (before := sent(settings)) < 800
        [replay_id] = {state.replay for state in copied(settings)}
        assert replay_id is not None
        rest = await desk.ask("replay", "events", "--resume", replay_id)
        assert rest["sent"] == 800 - before
        await bus.wait_for_arrivals(800)
        await until(lambda: retries_are_done(settings))
        assert Counter(map(number_of, bus.arrivals)) == Counter(f"key-{n}" for n in range(0, 1600, 2))
