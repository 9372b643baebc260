"""Kafka's troubles: brokers, elections, topics, rights, and tools of other people."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError

from pushrail_stream.core.record import Origin
from tests.simulation.kafka.groups import Commit
from tests.simulation.people.fleet import while_away
from tests.simulation.people.operators import skip_unreadable
from tests.simulation.people.registry import patiently
from tests.simulation.people.troubles import trouble
from tests.simulation.plan import Draw, Plan, between, chance, number, one_of

if TYPE_CHECKING:
    from tests.simulation.kafka.broker import Topic
    from tests.simulation.kafka.partition_log import PartitionLog
    from tests.simulation.world import World

EVENTS: Final = "pushrail.events"
_OTHERS: Final = ("pushrail.dlq", "pushrail.attempts", "pushrail.workers", "pushrail.control", "pushrail.replays")
_PRODUCER: Final = 1_000_000
"""The id of a producer whose records went with the end of a log: higher than those of a story's producers."""
_SNAPSHOTS: Final = "pushrail.cursors"
"""A partition whose snapshot is lost stands still until an operator moves its offset, so no story loses this topic."""


def _any_topic(dice: Random, plan: Plan) -> str:
    topics: list[str] = [EVENTS, *plan.settings["topics"]["retry"], *_OTHERS, "pushrail.destinations"]
    return dice.choice(topics)


def _any_or_snapshots(dice: Random, plan: Plan) -> str:
    return _SNAPSHOTS if dice.random() < 0.1 else _any_topic(dice, plan)


def _worked_topic(dice: Random, plan: Plan) -> str:
    """A topic that the groups read."""
    topics: list[str] = [EVENTS, EVENTS, *plan.settings["topics"]["retry"]]
    return dice.choice(topics)


def _log(world: World, topic: str, partition: int) -> PartitionLog | None:
    found = world.cluster.topic(topic)
    return None if found is None else found.partitions[partition % len(found.partitions)]


@trouble(2.0, broker=number(1, 3), secs=between(2, 180))
def stop_broker(world: World, *, broker: int, secs: float) -> None:
    """A broker is away for seconds or minutes."""
    if not world.cluster.is_up(broker):
        return
    world.disturb("kafka", secs)
    world.cluster.stop_broker(broker)
    world.mend_later(secs, f"broker {broker}", partial(_start_broker, world, broker))


def _start_broker(world: World, broker: int) -> None:
    if not world.cluster.is_up(broker):
        world.disturb("kafka")
        world.cluster.start_broker(broker)


@trouble(0.5, secs=between(5, 120))
def stop_all_brokers(world: World, *, secs: float) -> None:
    """The whole cluster is away."""
    for broker in world.cluster.brokers:
        stop_broker(world, broker=broker, secs=secs)


@trouble(3.0, topic=_any_or_snapshots, partition=number(0, 7), leader=number(1, 3))
def elect_leader(world: World, *, topic: str, partition: int, leader: int) -> None:
    """Another broker leads a partition, and no record is lost."""
    log = _log(world, topic, partition)
    if log is not None and world.cluster.is_up(leader) and leader in log.replicas:
        world.disturb("kafka", 5.0)
        world.cluster.elect(topic, log.number, leader)


@trouble(0.7, least="hostile", topic=_worked_topic, partition=number(0, 7), lost=number(1, 30), leader=number(1, 3))
def elect_unclean(world: World, *, topic: str, partition: int, lost: int, leader: int) -> None:
    """A broker that lacks the newest records leads a partition. Kafka has lost them, although it acknowledged them."""
    log = _log(world, topic, partition)
    if log is not None and world.cluster.is_up(leader) and leader in log.replicas:
        world.disturb("log")
        world.cluster.elect(topic, log.number, leader, max(log.first, log.end - lost))


@trouble(0, least="hostile", topic=_worked_topic, partition=number(0, 7), lost=number(1, 30), leader=number(1, 3))
def elect_unclean_amid_transaction(world: World, *, topic: str, partition: int, lost: int, leader: int) -> None:
    """After an unclean election, the first record of the new leader is the marker of an aborted transaction."""
    elect_unclean(world, topic=topic, partition=partition, lost=lost, leader=leader)
    log = _log(world, topic, partition)
    if log is not None:
        log.end_transaction((_PRODUCER, 0), is_committed=False)


@trouble(0.5, least="hostile", topic=_any_topic, secs=between(0.1, 60))
def recreate_topic(world: World, *, topic: str, secs: float) -> None:
    """An administrator deletes a topic, and creates it again after a while."""
    found = world.cluster.topic(topic)
    if found is None:
        return
    world.disturb("log", secs)
    world.cluster.delete_topic(topic)
    if topic == world.settings.topics.destinations and world.settings.registry.topic:
        for destination in world.customers:
            world.edited(destination, None)
    world.mend_later(secs, f"topic {topic}", partial(_create_again, world, found))


def _create_again(world: World, topic: Topic) -> None:
    if world.cluster.topic(topic.name) is None:
        world.disturb("log")
        world.cluster.create_topic(topic.name, len(topic.partitions), topic.config)
        if topic.name == world.settings.topics.destinations and world.settings.registry.topic:
            world.restore_documents()


@trouble(0.7, more=number(1, 3))
def add_partitions(world: World, *, more: int) -> None:
    """The topic of events gets more partitions."""
    found = world.cluster.topic(EVENTS)
    if found is not None:
        world.cluster.add_partitions(EVENTS, len(found.partitions) + more)


@trouble(0.7, least="hostile", topic=_worked_topic, partition=number(0, 7), share=one_of(0.3, 0.9, 1.0))
def remove_old_records(world: World, *, topic: str, partition: int, share: float) -> None:
    """Retention removes records, read or not."""
    log = _log(world, topic, partition)
    if log is not None:
        world.disturb("log")
        log.remove_before(log.first + round(share * (log.end - log.first)))


@trouble(1.5, topic=one_of("pushrail.destinations", "pushrail.replays", "pushrail.workers"), tombstones=chance(0.5))
def compact(world: World, *, topic: str, tombstones: bool) -> None:
    """A compacted topic is compacted."""
    found = world.cluster.topic(topic)
    for log in () if found is None else found.partitions:
        log.compact(log.end, drop_tombstones=tombstones)


_RIGHTS: Final[Draw] = one_of("Read", "Write", "Describe")


@trouble(1.5, topic=_any_or_snapshots, operation=_RIGHTS, secs=between(2, 90))
def withdraw_right(world: World, *, topic: str, operation: Any, secs: float) -> None:
    """An administrator withdraws a right on one topic by mistake."""
    acl = world.cluster.acl
    world.disturb("kafka", secs)
    acl.deny("topic", topic, operation)
    world.mend_later(secs, f"right to {operation} {topic}", partial(acl.allow, "topic", topic, operation))


@trouble(0.7, secs=between(2, 60))
def withdraw_group(world: World, *, secs: float) -> None:
    """An administrator withdraws the right to read as the group of events."""
    acl, group = world.cluster.acl, world.settings.kafka.group_id
    world.disturb("kafka", secs)
    acl.deny("group", group, "Read")
    world.mend_later(secs, "right to the group", partial(acl.allow, "group", group, "Read"))


@trouble(0.7, least="hostile", partition=number(0, 7), count=number(1, 5), skip_secs=between(5, 120))
def write_unreadable_batch(world: World, *, partition: int, count: int, skip_secs: float) -> None:
    """A batch cannot be decompressed. After a while an operator orders workers to skip it."""
    log = _log(world, EVENTS, partition)
    if log is None:
        return
    first = log.append_unreadable(count, KafkaError._BAD_COMPRESSION, world.now_ms)
    world.disturb("log", skip_secs)
    at = Origin(EVENTS, log.number, first)
    skip = partial(skip_unreadable, world, at)
    world.mend_later(skip_secs, "unreadable batch", lambda: world.office.do("skip", patiently, skip))


@trouble(0.5, least="hostile", partition=number(0, 7), back=number(1, 40), keep=chance(0.5))
def move_offset_back(world: World, *, partition: int, back: int, keep: bool) -> None:
    """Another tool commits an older offset for the group, while its members run. Some tools keep the metadata."""
    log = _log(world, EVENTS, partition)
    if log is not None:
        group = world.cluster.coordinator(world.settings.kafka.group_id)
        found = group.commits.get((EVENTS, log.number))
        if found is not None:
            world.disturb("operator")
            group.move(
                {(EVENTS, log.number): Commit(max(log.first, found.offset - back), found.metadata if keep else "")}
            )


@trouble(1.5)
def move_coordinator(world: World) -> None:
    """Another broker coordinates the group of events."""
    world.disturb("kafka", 10.0)
    world.cluster.move_coordinator(world.settings.kafka.group_id)


@trouble(1.0, secs=between(0.5, 20))
def lag_metadata(world: World, *, secs: float) -> None:
    """Brokers hear of changes late: topics, leaders and partitions."""
    world.cluster.lag_of = lambda broker: secs * broker / 3
    world.mend_later(60.0, "late metadata", lambda: setattr(world.cluster, "lag_of", lambda _broker: 0.0))


@trouble(0.3, least="hostile")
def expire_offsets(world: World) -> None:
    """The fleet is stopped for long, and Kafka deletes the offsets of its empty group."""
    group = world.cluster.coordinator(world.settings.kafka.group_id)
    while_away(world, group.forget_commits)


@trouble(0, limit=one_of(220, 400))
def lower_metadata_limit(world: World, *, limit: int) -> None:
    """An administrator lets brokers take only short metadata of commits."""
    world.cluster.coordinators.max_metadata_bytes = limit
