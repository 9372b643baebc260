"""Troubles for which the whole fleet is away, such as tools of other people that need an empty group."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from pushrail_stream.core.commit import Committable, cursor_field, encode_metadata
from pushrail_stream.core.record import TopicIdentity
from pushrail_stream.core.snapshot import snapshot_of
from tests.simulation.kafka.groups import Commit
from tests.simulation.kafka.partition_log import NewRecord, PartitionLog
from tests.simulation.people.events import good_event
from tests.simulation.people.fleet import while_away
from tests.simulation.people.troubles import trouble
from tests.simulation.plan import number

if TYPE_CHECKING:
    from tests.simulation.world import World

_ELSEWHERE: Final = TopicIdentity("another-cluster", "another-topic")
"""The topic of events on a cluster from which a group may come."""
_MAP: Final = 40
"""Offsets above the commit that are settled on the other cluster."""


@trouble(0.4, least="hostile", by=number(-15, 15))
def shift_offsets(world: World, *, by: int) -> None:
    """Another tool shifts the offsets of the group, and keeps the metadata of its commits."""

    def shift(log: PartitionLog, commit: Commit) -> Commit:
        return Commit(min(max(log.first, commit.offset + by), log.last_stable), commit.metadata)

    while_away(world, partial(_change_commits, world, shift))


@trouble(0.4, least="hostile")
def mirror_offsets(world: World) -> None:
    """Another tool takes the group's commits from another cluster, whose topic has other records.

    The same destinations are behind there. The tool takes the snapshots of the commits, too, and they get new places.
    """

    def mirror(_log: PartitionLog, commit: Commit) -> Commit:
        _mirror_snapshot(world, commit)
        settled = list(range(commit.offset, commit.offset + _MAP))
        cursors = cursor_field(Committable(commit.offset, commit.metadata))
        return Commit(commit.offset, encode_metadata(commit.offset, settled, _ELSEWHERE, cursors=cursors))

    while_away(world, partial(_change_commits, world, mirror))


def _mirror_snapshot(world: World, commit: Commit) -> None:
    """Add the snapshot of a commit as a copy from the other cluster: its commit is of that cluster's topic."""
    place = snapshot_of(Committable(commit.offset, commit.metadata))
    topic = world.cluster.topic(world.settings.topics.cursors)
    if place is None or topic is None:
        return
    log = topic.partitions[place.partition]
    for record in [one for one in log.records if one.offset == place.offset]:
        marks = {"offset": str(commit.offset), "topicId": _ELSEWHERE.topic_id}
        fields = {**json.loads(record.value or b"{}"), **marks}
        log.append([NewRecord(record.key, json.dumps(fields).encode(), record.headers, record.timestamp_ms)])


def _change_commits(world: World, change: Callable[[PartitionLog, Commit], Commit]) -> None:
    events = world.settings.topics.events
    topic, group = world.cluster.topic(events), world.cluster.coordinator(world.settings.kafka.group_id)
    for log in () if topic is None else topic.partitions:
        commit = group.commits.get((events, log.number))
        if commit is not None:
            group.move({(events, log.number): change(log, commit)})


@trouble(0.4, least="hostile", partition=number(0, 7), lost=number(1, 10), more=number(0, 10))
def replace_newest_records(world: World, *, partition: int, lost: int, more: int) -> None:
    """While nothing reads, an unclean election loses records, and as many new ones or more take their offsets."""
    while_away(world, partial(_replace_newest, world, partition, lost, more))


def _replace_newest(world: World, partition: int, lost: int, more: int) -> None:
    topic = world.cluster.topic(world.settings.topics.events)
    if topic is None:
        return
    log = topic.partitions[partition % len(topic.partitions)]
    leader = next((broker for broker in log.replicas if world.cluster.is_up(broker)), None)
    if leader is None:
        return
    world.disturb("log")
    lost = min(lost, log.end - log.first)
    world.cluster.elect(topic.name, log.number, leader, log.end - lost)
    dice = world.plan.dice(f"new records {world.elapsed}")
    for which in range(lost + more):
        key = f"after-{world.elapsed:.1f}-{which}"
        sent = good_event(dice, dice.choice(world.plan.customers), key, world.now_ms)
        world.note_sent(sent)
        log.append([NewRecord(sent.key, sent.value, tuple(sent.headers), world.now_ms)])
