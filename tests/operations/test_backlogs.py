"""Backlogs as commands see them: by the commits alone, and with the workers' speeds while they live."""

from __future__ import annotations

import asyncio

import pytest

from pushrail_stream.cli.progress import ProgressBar
from pushrail_stream.core.cursor_state import CursorState
from pushrail_stream.errors import OperatorError, UsageError
from pushrail_stream.kafka.groups import OpenCursors, UnreadableCursorsError
from pushrail_stream.observe.worker_record import BacklogSummary
from pushrail_stream.operations.backlogs import Backlog, add_speeds, list_backlogs, sum_up
from pushrail_stream.operations.destination_health import read_states
from pushrail_stream.operations.fleet import Fleet, FleetBacklog, FleetWorker
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.settings.model import Settings
from tests.support.builders import destination, event
from tests.support.kafka.cursors import commit_cursors
from tests.support.worker_records import worker_record
from tests.support.workers import PARTITIONS, outside, produce


def cursor(name: str, next_: int, *open_: int, to: int | None = None, at_ms: int = 5_000) -> CursorState:
    return CursorState(
        destination_id=name, since=0, next=next_, to=to, oldest_ms=at_ms, opened_ms=at_ms + 1, open=open_
    )


def worker(name: str, *backlogs: BacklogSummary) -> FleetWorker:
    state = worker_record(name, 1)
    return FleetWorker(
        type(state)(**{k: getattr(state, k) for k in state.__struct_fields__} | {"backlogs": backlogs}), 0
    )


def test_the_cursors_of_all_partitions_are_summed_up() -> None:
    found = sum_up({
        3: OpenCursors([cursor("dst_b", 95, at_ms=9_000), cursor("dst_a", 90, 10, 20)], 100),
        1: OpenCursors([cursor("dst_a", 40, to=60, at_ms=3_000), cursor("dst_done", 50, to=50)], 1_000),
    })  # fmt: skip
    assert found == [
        Backlog("dst_a", 3_001, 2, 30, 3_000, [1, 3]),
        Backlog("dst_b", 9_001, 0, 5, 9_000, [3]),
    ]
    assert [one.events for one in found] == [32, 5]


def test_a_cursor_that_is_open_counts_also_without_an_event() -> None:
    assert sum_up({0: OpenCursors([cursor("dst_a", 100)], 100)}) == [Backlog("dst_a", 5_001, 0, 0, 5_000, [0])]


def test_the_workers_of_a_destination_are_put_together() -> None:
    fleet = Fleet(
        [
            worker(
                "a", BacklogSummary("dst_a", 2, 700, 3, 40, 600, 1.25, 90.0), BacklogSummary("dst_b", 1, 7, 1, 1, 6)
            ),
            worker("b", BacklogSummary("dst_a", 1, 500, 1, 10, 800, 2.0, 30.0)),
            worker("c", BacklogSummary("dst_b", 1, 7, 1, 1, 6, 4.0, 10.0)),
        ],
        0,
    )
    assert list(fleet.backlogs.values()) == [
        FleetBacklog("dst_a", 3, 500, 4, 50, 600, 3.25, 90.0),
        FleetBacklog("dst_b", 2, 7, 2, 2, 6, 4.0, None),
    ], "one worker's part does not shrink, so the whole will not be through"


def test_living_workers_tell_the_speed() -> None:
    backlogs = [Backlog("dst_a", 1, 2, 3, 4, [0]), Backlog("dst_b", 1, 2, 3, 4, [0])]
    live = {"dst_a": FleetBacklog("dst_a", 1, 1, 2, 3, 4, 7.5, 12.0)}
    assert add_speeds(backlogs, live) == [Backlog("dst_a", 1, 2, 3, 4, [0], 7.5, 12.0), backlogs[1]]


async def listed(settings: Settings, destination: str | None = None) -> list[Backlog]:
    found, problem = await asyncio.to_thread(list_backlogs, settings, ProgressBar(quiet=True), destination)
    assert problem is None
    return found


async def test_the_commits_alone_tell_who_is_behind(embedded_broker: EmbeddedBroker) -> None:
    async with outside(embedded_broker) as (_, settings):
        assert await listed(settings) == []
        await produce(settings, [("one", event(0, n)) for n in range(30)])
        commit_cursors(settings, 0, 0, [cursor("dst_a", 10, 2, 3, to=50), cursor("dst_b", 0)])
        for partition in range(1, PARTITIONS):
            commit_cursors(settings, partition, 0, [cursor("dst_b", 0, at_ms=4_000)])
        behind = Backlog("dst_b", 4_001, 0, 30, 4_000, list(range(PARTITIONS)))
        assert await listed(settings) == [Backlog("dst_a", 5_001, 2, 40, 5_000, [0]), behind]
        assert await listed(settings, "dst_b") == [behind]
        with pytest.raises(UsageError, match="--destination"):
            await listed(settings, "no such id")


async def test_backlogs_are_listed_also_when_the_workers_cannot_be_seen(
    embedded_broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with outside(embedded_broker) as (_, settings):
        commit_cursors(settings, 0, 0, [cursor("dst_a", 10, to=50)])

        def fail(_: Settings) -> Fleet:
            raise OperatorError("no topic of workers")

        monkeypatch.setattr("pushrail_stream.operations.backlogs.read_fleet", fail)
        found, _ = await asyncio.to_thread(list_backlogs, settings, ProgressBar())
        assert [(one.destination, one.events, one.per_second) for one in found] == [("dst_a", 40, None)]
        assert "nothing tells how fast the backlogs go" in capsys.readouterr().err


async def test_states_are_read_also_when_the_backlogs_cannot_be(
    embedded_broker: EmbeddedBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    async with outside(embedded_broker) as (_, settings):
        commit_cursors(settings, 0, 0, [cursor("dst_a/damaged", 10)])
        [seen] = await asyncio.to_thread(read_states, settings, [destination("acme")], ProgressBar())
        assert (seen.destination.id, seen.state, seen.backlog) == ("dst_acme", None, None)
        assert "the backlogs are not known" in capsys.readouterr().err


async def test_a_partition_whose_cursors_cannot_be_read_hides_no_other_one(embedded_broker: EmbeddedBroker) -> None:
    async with outside(embedded_broker) as (_, settings):
        commit_cursors(settings, 0, 0, [cursor("dst_a/damaged", 10)])
        commit_cursors(settings, 1, 0, [cursor("dst_b", 0, to=7)])
        found, problem = await asyncio.to_thread(list_backlogs, settings, ProgressBar())
        assert [(one.destination, one.events, one.partitions) for one in found] == [("dst_b", 7, [1])]
        assert isinstance(problem, UnreadableCursorsError)
        assert problem.partitions == {0}
