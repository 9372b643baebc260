"""Troubles for which the whole fleet is away."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pushrail_stream.core.commit import Committable, new_commit, topic_of
from pushrail_stream.core.cursor_state import CursorState, encode_cursors
from pushrail_stream.core.record import Partition, TopicIdentity
from pushrail_stream.core.snapshot import (
    SnapshotPlace,
    snapshot_key,
    snapshot_of,
    snapshot_value,
    with_place,
    with_snapshot,
)
from tests.simulation.kafka.groups import Commit
from tests.simulation.kafka.partition_log import NewRecord
from tests.simulation.people.downtime import mirror_offsets, replace_newest_records, shift_offsets
from tests.simulation.people.drawing import EVENTS, draw_plan
from tests.simulation.people.producers import produce_events
from tests.simulation.people.registry import prepare_registry
from tests.simulation.stage import opened
from tests.simulation.world import World

CURSORS = encode_cursors([CursorState(destination_id="gone", since=2, next=5, oldest_ms=5, opened_ms=6)])


@pytest.fixture
def world() -> Iterator[World]:
    """A world whose only worker has committed some events."""
    with opened(draw_plan(1, "calm").with_troubles([])) as world:
        world.prepare()
        world.office.do("prepare", prepare_registry, world)
        assert world.scheduler.run_until(world.office.is_idle, 120.0)
        world.fleet.scale(1)
        produce_events(world, count=30, secs=5.0, hot=None, odd=0.0, repeats=0.0, transactions=False)
        world.scheduler.run(world.scheduler.now + 30.0)
        assert world.is_settled()
        yield world


def commit_of(world: World) -> Commit:
    group = world.cluster.coordinator(world.settings.kafka.group_id)
    commit: Commit = group.commits[EVENTS, 0]
    return commit


def wait_until_away(world: World) -> None:
    group = world.cluster.coordinator(world.settings.kafka.group_id)
    before = group.commits[EVENTS, 0]
    assert world.scheduler.run_until(lambda: group.commits[EVENTS, 0] != before, 100.0)
    assert [end.how for end in world.evidence.worker_ends] == ["stopped"]


def test_a_shift_keeps_the_metadata(world: World) -> None:
    before = commit_of(world)
    shift_offsets(world, by=-4)
    wait_until_away(world)
    assert (commit_of(world).offset, commit_of(world).metadata) == (before.offset - 4, before.metadata)
    world.scheduler.run(world.scheduler.now + 5.0)
    assert world.fleet.running != []


def test_a_mirror_names_the_topic_of_another_cluster(world: World) -> None:
    before = commit_of(world)
    mirror_offsets(world)
    wait_until_away(world)
    after = commit_of(world)
    assert after.offset == before.offset
    topic = topic_of(Committable(after.offset, after.metadata))
    assert topic is not None
    assert topic.cluster_id != world.cluster.cluster_id


@pytest.mark.parametrize("shift", [0, 4])
def test_a_mirror_takes_the_snapshot_of_the_commit(world: World, shift: int) -> None:
    group, here = world.cluster.coordinator(world.settings.kafka.group_id), Partition(EVENTS, 0)
    topic = world.cluster.topic(world.settings.topics.cursors)
    assert topic is not None
    made = new_commit(commit_of(world).offset, [], TopicIdentity("here", "topic"), 1, CURSORS).without_cursors()
    offset = topic.partitions[0].append([NewRecord(snapshot_key(here), snapshot_value(here, made))])
    named = with_place(made, SnapshotPlace(0, offset))
    group.move({(EVENTS, 0): Commit(named.offset - shift, named.metadata)})
    mirror_offsets(world)
    wait_until_away(world)
    after = commit_of(world)
    assert snapshot_of(Committable(after.offset, after.metadata)) == SnapshotPlace(0, offset)
    copies = [one.value for one in topic.partitions[0].records if one.offset > offset]
    assert len(copies) == 1
    assert with_snapshot(Committable(after.offset, after.metadata), here, copies[0]).cursors == CURSORS
    assert world.evidence.commits[-1].committable.cursors == CURSORS, "the oracle knows them, too"


def test_new_records_take_the_offsets_of_lost_ones(world: World) -> None:
    topic = world.cluster.topic(EVENTS)
    assert topic is not None
    log = topic.partitions[0]
    lost, end, epoch = log.records[-3:], log.end, log.epoch
    replace_newest_records(world, partition=0, lost=3, more=2)
    assert world.scheduler.run_until(lambda: log.end != end, 100.0)
    assert [end.how for end in world.evidence.worker_ends] == ["stopped"]
    assert (log.end, log.epoch) == (end + 2, epoch + 1)
    assert not set(lost) & set(log.records)
    world.scheduler.run(world.scheduler.now + 60.0)
    assert world.is_settled()
