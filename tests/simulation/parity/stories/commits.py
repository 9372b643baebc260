"""Commits of groups: what is kept, and what is refused."""

from __future__ import annotations

from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition

from tests.simulation.parity.clients import Member, Reader, write
from tests.simulation.parity.kit import Kit, attempt, on, places
from tests.simulation.parity.stories.registry import story


def commit(member: Reader, topic: str, offset: int, metadata: str = "", number: int = 0) -> Any:
    """Commit and wait; the places, or the error."""
    wanted = [TopicPartition(topic, number, offset, metadata)]
    return attempt(lambda: places(member.consumer.commit(offsets=wanted, asynchronous=False)))


def committed(reader: Reader, topic: str, number: int = 0) -> list[Any]:
    """Offset, metadata and leader epoch of the group's commit. No metadata are told as empty ones by some clients."""
    [place] = reader.consumer.committed(on(topic, [number]), timeout=10)
    return [place.offset, place.metadata or "", place.leader_epoch]


def joined(kit: Kit, group: str, topic: str, count: int = 1, **properties: Any) -> Member:
    """A member that owns this number of partitions."""
    member = Member(kit, group, topic, **properties)
    kit.until(lambda: member.has(count), member)
    return member


@story(groups=True)
def commits_carry_metadata_and_epoch(kit: Kit) -> None:
    topic, group = kit.new_topic(), kit.unique("group")
    write(kit, topic, "a", "b", "c")
    member = joined(kit, group, topic)
    kit.note("before", committed(member, topic))
    kit.note("plain", commit(member, topic, 1))
    kit.note("read back", committed(member, topic))
    whole = TopicPartition(topic, 0, 2, "said", 0)
    kit.note("with epoch", places(member.consumer.commit(offsets=[whole], asynchronous=False)))
    kit.note("read back", committed(member, topic))
    kit.note("by another client", committed(Reader(kit, group_id=group), topic))
    kit.note("without metadata", commit(member, topic, 3))
    kit.note("read back", committed(member, topic))
    kit.note("beyond the end", [commit(member, topic, 1_000), committed(member, topic)])
    kit.note("backwards", [commit(member, topic, 1), committed(member, topic)])
    member.close()


@story(groups=True)
def an_asynchronous_commit_reports(kit: Kit) -> None:
    topic, group = kit.new_topic(partitions=2), kit.unique("group")
    member = joined(kit, group, topic, 2)
    places_ = [TopicPartition(topic, 0, 5, "x"), TopicPartition(topic, 1, 7)]
    kit.note("returns", member.consumer.commit(offsets=places_, asynchronous=True))
    kit.until(lambda: member.commits, member)
    kit.note("on_commit", member.commits)
    kit.note("read back", [committed(member, topic, n) for n in (0, 1)])
    member.commits.clear()
    commit(member, topic, 6)
    kit.meanwhile(0.5, member)
    kit.note("on_commit of a synchronous one", member.commits)
    member.close()


@story(groups=True)
def metadata_is_too_large(kit: Kit) -> None:
    topic, group = kit.new_topic(partitions=2), kit.unique("group")
    member = joined(kit, group, topic, 2)
    kit.note("by length", {size: commit(member, topic, 1, "x" * size) for size in (4000, 4095, 4096, 4097)})
    kit.note("read back", committed(member, topic)[0])
    mixed = [TopicPartition(topic, 0, 3, "x" * 5000), TopicPartition(topic, 1, 3, "small")]
    kit.note("mixed", attempt(lambda: places(member.consumer.commit(offsets=mixed, asynchronous=False))))
    kit.note("read back", [committed(member, topic, n)[0] for n in (0, 1)])
    member.commits.clear()
    member.consumer.commit(offsets=[TopicPartition(topic, 0, 4, "x" * 5000)], asynchronous=True)
    kit.until(lambda: member.commits, member)
    kit.note("on_commit", member.commits)
    member.close()


@story()
def a_group_that_never_committed(kit: Kit) -> None:
    topic = kit.new_topic(partitions=2)
    reader = Reader(kit)
    kit.note("committed", attempt(lambda: places(reader.consumer.committed(on(topic, [0, 1]), timeout=10))))
    kit.note("its parts", committed(reader, topic))
    kit.note("of no partition of it", attempt(lambda: places(reader.consumer.committed(on(topic, [9]), timeout=10))))
    kit.note("commit", commit(reader, topic, 3))
    kit.note("committed", attempt(lambda: places(reader.consumer.committed(on(topic, [0, 1]), timeout=10))))
    reader.close()


@story(groups=True)
def offsets_are_moved_from_outside(kit: Kit) -> None:
    topic, group = kit.new_topic(partitions=2), kit.unique("group")
    member = joined(kit, group, topic, 2)
    commit(member, topic, 5, "said")
    kit.note("while a member is there", _alter(kit, group, topic, 3))
    kit.note("a commit of a stranger", commit(Reader(kit, group_id=group), topic, 3))
    kit.note("read back", committed(member, topic))
    member.close()
    kit.until(lambda: _state_of(kit, group)[1] == 0)
    kit.note("state", _state_of(kit, group))
    kit.note("when all have left", _alter(kit, group, topic, 3))
    reader = Reader(kit, group_id=group)
    kit.note("read back", [committed(reader, topic, n) for n in (0, 1)])
    kit.note("a commit of a stranger", [commit(reader, topic, 4, "tool"), committed(reader, topic)])
    kit.note("a missing partition", _alter(kit, group, topic, 3, 9))
    fresh = kit.unique("group")
    kit.note("of a new group", [_alter(kit, fresh, topic, 3), _state_of(kit, fresh)])
    reader.close()


def _alter(kit: Kit, group: str, topic: str, offset: int, number: int = 0) -> Any:
    wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, number, offset)])

    def ask() -> Any:
        [answer] = kit.admin().alter_consumer_group_offsets([wanted], request_timeout=10).values()
        return places(answer.result().topic_partitions)

    return attempt(ask)


def _state_of(kit: Kit, group: str) -> Any:
    def ask() -> Any:
        [answer] = kit.admin().describe_consumer_groups([group], request_timeout=10).values()
        told = answer.result()
        return [told.state.name, len(told.members), [len(m.assignment.topic_partitions) for m in told.members]]

    return attempt(ask)


@story(groups=True)
def groups_are_described(kit: Kit) -> None:
    topic, group = kit.new_topic(partitions=3), kit.unique("group")
    kit.note("unknown", _state_of(kit, group))
    one = joined(kit, group, topic, 3)
    kit.until(lambda: _state_of(kit, group)[0] == "STABLE", one)
    kit.note("one member", _state_of(kit, group))
    one.close()
    kit.until(lambda: _state_of(kit, group)[1] == 0)
    kit.note("left, without a commit", _state_of(kit, group))


@story(groups=True)
def commits_of_those_who_left(kit: Kit) -> None:
    topic, group = kit.new_topic(), kit.unique("group")
    member = joined(kit, group, topic)
    kit.note("member", commit(member, topic, 1))
    kit.note("not its partition", commit(member, topic, 1, number=7))
    kit.note("missing topic", commit(member, kit.unique("missing"), 1))
    member.close()
    kit.note("diary", member.diary)
    kit.note("after closing", attempt(lambda: member.consumer.commit(offsets=on(topic, [0]), asynchronous=False)))
    kit.note("committed after closing", attempt(lambda: member.consumer.committed(on(topic, [0]), timeout=5)))
    kit.note("poll after closing", attempt(lambda: member.consumer.poll(0.1)))
    kit.note("closing again", attempt(member.close))
    other = joined(kit, group, topic)
    kit.note("read back", committed(other, topic)[0])
    other.close()
