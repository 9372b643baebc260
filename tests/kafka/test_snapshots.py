"""Cursors for which a commit has no room: a snapshot is there before the commit that names it, or no commit is made."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping
from typing import Any, cast

import pytest
from confluent_kafka import KafkaException

from pushrail_stream.core.commit import Committable, cursors_of, new_commit
from pushrail_stream.core.cursor_state import CursorError, CursorState, encode_cursors
from pushrail_stream.core.record import Partition, TopicIdentity
from pushrail_stream.core.snapshot import SnapshotPlace, snapshot_of, with_place
from pushrail_stream.kafka import snapshots as snapshots_module
from pushrail_stream.kafka.producer import KafkaPublisher
from pushrail_stream.kafka.snapshots import Snapshots
from pushrail_stream.ports.pipeline import PublishError
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.settings.model import KafkaSettings
from tests.support.workers import until

P0, P1 = Partition("events", 0), Partition("events", 1)
TOPIC = TopicIdentity("cluster", "topic")


def large(offset: int, *, epoch: int = 1, settled: int = 0) -> Committable:
    """A commit whose cursors are too long for its metadata."""
    states = [
        CursorState(
            destination_id=f"dst_{number}", owner=f"{number:08x}", since=offset, next=offset + settled, oldest_ms=1,
            opened_ms=number * 7919,
        )
        for number in range(800)
    ]  # fmt: skip
    commit = new_commit(offset, [], TOPIC, epoch, encode_cursors(states))
    assert commit.needs_snapshot
    return commit


def small(offset: int) -> Committable:
    return new_commit(offset, [], TOPIC, 1, "")


class Publisher:
    """A publisher whose acknowledgements a test gives."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[tuple[int, int]]] = []

    async def place(self, topic: str, key: bytes, value: bytes) -> tuple[int, int]:
        assert (topic, key.split(b"/")[0]) == ("cursors", b"events")
        assert value
        self.waiting.append(asyncio.get_running_loop().create_future())
        return await self.waiting[-1]


class Stage:
    """Snapshots on a thread of their own, as a consumer has them, and an event loop beside it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(snapshots_module, "_EVERY_SECS", 0.0)
        self.publisher = Publisher()
        self.snapshots = Snapshots(KafkaSettings(), "cursors", cast("KafkaPublisher", self.publisher))
        self.troubles: list[str] = []

    async def ready(self, commits: Mapping[Partition, Committable]) -> dict[Partition, Committable]:
        made = await asyncio.to_thread(self.snapshots.ready, commits, self.troubles.append)
        await asyncio.sleep(0.01)
        return made

    async def acknowledge(self, offset: int) -> None:
        self.publisher.waiting.pop(0).set_result((0, offset))
        await asyncio.sleep(0.01)

    async def refuse(self) -> None:
        self.publisher.waiting.pop(0).set_exception(PublishError("cursors: no room"))
        await asyncio.sleep(0.01)


@pytest.fixture
async def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(monkeypatch)


async def test_a_commit_waits_for_its_snapshot(stage: Stage) -> None:
    commit = large(100)
    assert await stage.ready({P0: commit, P1: small(5)}) == {P1: small(5)}, "no other partition waits"
    assert await stage.ready({P0: commit}) == {}
    await stage.acknowledge(17)
    made = await stage.ready({P0: commit})
    assert snapshot_of(made[P0]) == SnapshotPlace(0, 17)
    assert made[P0].says_as(commit)
    assert await stage.ready({P0: commit}) == made, "it is made until Kafka has acknowledged it, with one snapshot"
    assert stage.publisher.waiting == []


async def test_the_commit_is_the_one_of_the_snapshot(stage: Stage) -> None:
    """Meanwhile more was delivered. The earlier commit is as right as it was, and the later one follows."""
    await stage.ready({P0: large(100)})
    await stage.ready({P0: large(110)})
    await stage.acknowledge(17)
    assert await stage.ready({P0: large(120)}) == {P0: with_place(large(100), SnapshotPlace(0, 17))}
    await stage.acknowledge(18)
    assert await stage.ready({P0: large(120)}) == {P0: with_place(large(120), SnapshotPlace(0, 18))}


async def test_no_earlier_commit_follows_a_later_one(stage: Stage) -> None:
    await stage.ready({P0: large(100)})
    assert await stage.ready({P0: small(200)}) == {P0: small(200)}
    await stage.acknowledge(17)
    assert await stage.ready({P0: large(300)}) == {}


@pytest.mark.parametrize("later", [large(99), large(100, epoch=2)], ids=["went back", "another epoch"])
async def test_nothing_is_made_of_an_earlier_log(stage: Stage, later: Committable) -> None:
    await stage.ready({P0: large(100)})
    await stage.acknowledge(17)
    assert await stage.ready({P0: later}) == {}
    await stage.acknowledge(18)
    assert await stage.ready({P0: later}) == {P0: with_place(later, SnapshotPlace(0, 18))}


async def test_nothing_is_made_of_an_earlier_assignment(stage: Stage) -> None:
    await stage.ready({P0: large(100)})
    await stage.acknowledge(17)
    stage.snapshots.forget(P0)
    assert await stage.ready({P0: large(200)}) == {}


async def test_a_refused_snapshot_is_told_and_written_again(stage: Stage) -> None:
    commit = large(100)
    await stage.ready({P0: commit})
    await stage.refuse()
    assert await stage.ready({P0: commit}) == {}
    assert stage.troubles == ["the snapshot of the cursors of events/0 could not be written: cursors: no room"]
    await stage.acknowledge(18)
    assert snapshot_of((await stage.ready({P0: commit}))[P0]) == SnapshotPlace(0, 18)


async def test_snapshots_of_a_partition_have_their_distance(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots_module, "_EVERY_SECS", 3600.0)
    await stage.ready({P0: large(100)})
    await stage.acknowledge(17)
    made = await stage.ready({P0: large(110)})
    assert made == {P0: with_place(large(100), SnapshotPlace(0, 17))} == await stage.ready({P0: large(120)})
    assert stage.publisher.waiting == []


async def test_the_last_commits_wait_for_their_snapshots_together(stage: Stage) -> None:
    commits = {P0: large(100), P1: large(7), Partition("events", 2): small(1)}
    async with asyncio.TaskGroup() as tasks:
        last = tasks.create_task(
            asyncio.to_thread(stage.snapshots.last, commits, stage.troubles.append, time.monotonic() + 30)
        )
        await until(lambda: len(stage.publisher.waiting) == 2)
        await stage.acknowledge(17)
        await stage.acknowledge(18)
    made = last.result()
    assert {p.number: snapshot_of(commit) for p, commit in made.items()} == {
        0: SnapshotPlace(0, 17), 1: SnapshotPlace(0, 18), 2: None,
    }  # fmt: skip


async def test_a_last_commit_without_its_snapshot_is_not_made(stage: Stage) -> None:
    """A missing commit costs repeats. The commit alone would lose the events of its cursors."""
    soon = time.monotonic() + 0.05
    made = await asyncio.to_thread(stage.snapshots.last, {P0: large(100), P1: small(1)}, stage.troubles.append, soon)
    assert made == {P1: small(1)}
    assert stage.troubles == ["the snapshot of the cursors of events/0 could not be written: it took too long"]


async def test_a_snapshot_is_read_back(embedded_broker: EmbeddedBroker) -> None:
    topic, kafka = uuid.uuid4().hex, KafkaSettings(bootstrap_servers=embedded_broker.bootstrap_servers)
    embedded_broker.create_topic(topic, 2)
    async with KafkaPublisher(kafka) as publisher:
        snapshots, commits, troubles = Snapshots(kafka, topic, publisher), {P0: large(100), P1: large(7)}, list[str]()
        made = await asyncio.to_thread(snapshots.last, commits, troubles.append, time.monotonic() + 30)
        assert troubles == []
        kept = {partition: Committable(commit.offset, commit.metadata) for partition, commit in made.items()}
        for partition, commit in commits.items():
            restored = await asyncio.to_thread(snapshots.restore, partition, kept[partition])
            assert cursors_of(restored) == cursors_of(commit)
            assert restored.says_as(commit)
        assert snapshots.restore(P1, small(5)) == small(5)
        with pytest.raises(CursorError, match="of another commit"):
            await asyncio.to_thread(snapshots.restore, P1, kept[P0])
        elsewhere = with_place(kept[P0], SnapshotPlace(0, 99))
        copied = await asyncio.to_thread(snapshots.restore, P0, elsewhere)
        assert cursors_of(copied) == cursors_of(commits[P0]), "as on a cluster to which a tool has copied it"
        never_written = with_place(large(200), SnapshotPlace(0, 99))
        with pytest.raises(CursorError, match="no record 99 any more"):
            await asyncio.to_thread(snapshots.restore, P0, never_written)


async def test_a_broker_that_does_not_answer_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots_module, "_READ_SECS", 0.2)
    publisher: Any = Publisher()
    snapshots = Snapshots(KafkaSettings(bootstrap_servers="127.0.0.1:1"), "cursors", publisher)
    with pytest.raises(KafkaException):
        await asyncio.to_thread(snapshots.restore, P0, with_place(large(100), SnapshotPlace(0, 1)))
