"""Committed offsets are moved while no worker runs."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from pushrail_stream.core.cursor_state import CursorState
from pushrail_stream.core.record import Partition
from pushrail_stream.kafka.groups import OpenCursors, Shift, UnreadableCursorsError
from pushrail_stream.operations import offsets
from pushrail_stream.operations.offsets import _given_up
from pushrail_stream.sandbox.broker import EmbeddedBroker
from tests.support.builders import event
from tests.support.commands import Desk
from tests.support.kafka.cursors import commit_cursors
from tests.support.replay_world import (
    world,
)
from tests.support.workers import PARTITIONS, committed, ends, outside, produce, settings_for, until

pytestmark = pytest.mark.kafka


async def test_destinations_that_are_behind_are_named(embedded_broker: EmbeddedBroker, tmp_path: Path) -> None:
    async with outside(embedded_broker) as (_, settings):
        desk = Desk(tmp_path, settings)
        behind = CursorState(destination_id="dst_a", since=0, next=10, oldest_ms=1, opened_ms=1, open=(2, 6))
        ended = CursorState(destination_id="dst_b", since=8, next=8, to=9, oldest_ms=1, opened_ms=1)
        await asyncio.to_thread(commit_cursors, settings, 0, 20, [behind, ended])
        code, _, err = await desk.end("replay", "offsets", "--to", "earliest", "--dry-run")
        assert (code, "warning" in err) == (0, False), "they get everything again"
        await produce(settings, [("one", event(0, n)) for n in range(15)])
        for partition in range(PARTITIONS):
            beginning = replace(behind, next=0, open=())
            await asyncio.to_thread(commit_cursors, settings, partition, 0, [beginning])
        code, _, err = await desk.end("replay", "offsets", "--to", "latest", "--dry-run")
        assert (code, "dst_a is behind and gives up at most 15 events" in err) == (0, True), err
        await asyncio.to_thread(commit_cursors, settings, 0, 0, [replace(behind, destination_id="dst_a/damaged")])
        code, _, err = await desk.end("replay", "offsets", "--to", "latest", "--dry-run")
        assert (code, "give up their events; which ones is not known" in err) == (0, True), "a way out of damage"
        moved = _given_up({0: OpenCursors([behind, ended], 30)}, [Shift(0, 20, 15, 0, 30)])
        assert [(one.destination, one.events) for one in moved] == [("dst_a", 7), ("dst_b", 1)]
        assert _given_up({0: OpenCursors([behind, ended], 30)}, [Shift(0, 20, 20, 0, 30)]) == [], "it does not move"
        below = _given_up({0: OpenCursors([behind, ended], 30)}, [Shift(0, 20, 5, 0, 30)])
        assert [(one.destination, one.events) for one in below] == [("dst_a", 1)], "they get the others again"


@pytest.mark.parametrize(("named", "old"), [(0, None), (None, 5)])
def test_a_commit_is_replaced_at_its_offset_only_where_its_partition_is_named(
    monkeypatch: pytest.MonkeyPatch, named: int | None, old: int | None
) -> None:
    committed: list[Shift] = []

    def fail(*_: object) -> None:
        raise UnreadableCursorsError({Partition("pushrail.events", 0): "pushrail.events/0 stands still"}, {})

    def move(_kafka: object, _group: str, _topic: str, shifts: list[Shift]) -> None:
        committed.extend(shifts)

    monkeypatch.setattr(offsets, "reached_kafka", lambda settings: settings.kafka)
    monkeypatch.setattr(offsets, "members_of", lambda *_: [])
    monkeypatch.setattr(offsets, "plan_shift", lambda *_: [Shift(0, 5, 5, 0, 9)])
    monkeypatch.setattr(offsets, "open_cursors", fail)
    monkeypatch.setattr(offsets, "move_group", move)
    moved = offsets.move_offsets(settings_for("127.0.0.1:1", "http://x"), 5, named, is_dry_run=False)
    assert (moved.shifts, moved.problem) == ([Shift(0, 5, 5, 0, 9)], "pushrail.events/0 stands still")
    assert committed == [Shift(0, old, 5, 0, 9)]


async def test_cursors_that_cannot_be_read_are_given_up_by_order(real_kafka: str, tmp_path: Path) -> None:
    async with outside(real_kafka) as (_, settings):
        desk = Desk(tmp_path, settings)
        damaged = CursorState(destination_id="dst_a/damaged", since=0, next=0, oldest_ms=1, opened_ms=1)
        for partition in (0, 1):
            await asyncio.to_thread(commit_cursors, settings, partition, 0, [damaged])
        assert await desk.run("backlog", "list", exit_code=1)
        assert await desk.run("replay", "offsets", "--to", "0")
        assert "1 stands still" in await desk.run("backlog", "list", exit_code=1), "nothing has moved"
        for number in ("0", "1"):
            assert await desk.run("replay", "offsets", "--to", "0", "--partition", number)
        assert await desk.lines("backlog", "list") == []


async def test_offsets_move_without_a_worker(real_kafka: str, tmp_path: Path) -> None:
    async with world(real_kafka, tmp_path) as (bus, settings, desk):
        await produce(settings, [("acct_0", event(0, n)) for n in range(30)])
        table = await desk.run("replay", "offsets", "--to", "latest", "--dry-run")
        assert table.splitlines()[-1] == "0 records would be delivered again, 30 passed over", "they begin at the first"
        async with desk.working():
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
