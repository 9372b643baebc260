"""Committed offsets are moved while no worker runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.builders import event
from tests.support.replay_world import (
    world,
)
from tests.support.workers import committed, ends, produce, until

pytestmark = pytest.mark.kafka


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
