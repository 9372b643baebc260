"""Topics that are deleted, created again, or grow while they are read."""

from __future__ import annotations

from typing import Any

from confluent_kafka import TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from tests.simulation.parity.clients import Reader, Writer, write
from tests.simulation.parity.kit import Kit, attempt, error_of, on, places
from tests.simulation.parity.stories.commits import commit, committed, joined
from tests.simulation.parity.stories.registry import story

_NO_PLACE = {"UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_PARTITION", "_DESTROY"}
"""librdkafka's errors of a record whose topic has gone; the moment decides which."""


def _described(kit: Kit, *topics: str) -> list[Any]:
    admin: AdminClient = kit.admin()
    answers = admin.describe_topics(TopicCollection(list(topics)), request_timeout=10)
    return [attempt(answers[topic].result) for topic in topics]


@story()
def a_recreated_topic_has_another_id(kit: Kit) -> None:
    topic = kit.new_topic(partitions=2)
    [before] = _described(kit, topic)
    [again] = _described(kit, topic)
    kit.note("one topic, one id", before.topic_id == again.topic_id or str(before.topic_id) == str(again.topic_id))
    kit.note("its length", len(str(before.topic_id)))
    kit.note("partitions", [len(before.partitions), error_of(None)])
    write(kit, topic, "old")
    kit.delete_topic(topic)
    kit.note("deleted", _described(kit, topic))
    kit.create_again(topic, 2)
    [after] = _described(kit, topic)
    kit.note("another id", str(before.topic_id) != str(after.topic_id))
    reader = Reader(kit)
    kit.note("bounds", reader.consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10))
    missing = kit.unique("missing")
    kit.note("with a missing one", [str(type(one).__name__) for one in _described(kit, topic, missing)])
    reader.close()


@story()
def topics_are_created_by_a_client(kit: Kit) -> None:
    name = kit.unique("made")

    def create(topic: Any) -> Any:
        [answer] = kit.admin().create_topics([topic], request_timeout=10).values()
        return attempt(answer.result)

    config = {"max.message.bytes": "5000", "retention.ms": "60000"}
    kit.note("new", create(NewTopic(name, 3, 1, config=config)))
    kit.note("again", create(NewTopic(name, 3, 1)))
    kit.note("more replicas than brokers", create(NewTopic(kit.unique("made"), 1, 5)))
    wanted = [ConfigResource(ResourceType.TOPIC, name), ConfigResource(ResourceType.TOPIC, kit.unique("missing"))]
    for answer in kit.admin().describe_configs(wanted, request_timeout=10).values():
        told = attempt(answer.result)
        names = ("max.message.bytes", "retention.ms", "cleanup.policy")
        shown = told if isinstance(told, str) else [[told[n].value, told[n].is_default] for n in names]
        kit.note("config", shown)
    kit.until(lambda: name in kit.admin().list_topics(timeout=10).topics)
    kit.note("partitions", len(kit.admin().list_topics(timeout=10).topics[name].partitions))


@story(groups=True)
def a_topic_is_deleted_while_read(kit: Kit) -> None:
    topic, group = kit.new_topic(), kit.unique("group")
    write(kit, topic, "a", "b")
    member = joined(kit, group, topic)
    kit.until(lambda: len(member.got) == 2, member)
    commit(member, topic, 2)
    kit.delete_topic(topic)
    kit.meanwhile(8.0, member)
    kit.note("errors", [sorted(member.errors), sorted(member.events)])
    kit.note("diary", member.diary)
    kit.note("committed", attempt(lambda: places(member.consumer.committed(on(topic, [0]), timeout=5))))
    kit.note("commit", commit(member, topic, 2))
    member.close()


@story()
def a_reader_loses_its_topic(kit: Kit) -> None:
    topic = kit.new_topic()
    write(kit, topic, "a", "b")
    reader = Reader(kit)
    reader.read(topic, 2)
    kit.delete_topic(topic)
    kit.meanwhile(6.0, reader)
    kit.note("deleted", [reader.errors, reader.events])
    reader.errors.clear()
    kit.create_again(topic)
    kit.meanwhile(3.0, reader)
    write(kit, topic, "x", "y", "z")
    kit.meanwhile(2.0, reader)
    kit.note("created again", [reader.got[2:], reader.errors, reader.position(topic)])
    reader.close()


@story(groups=True)
def a_topic_is_recreated_while_read(kit: Kit) -> None:
    """The new topic has fewer records than were read of the old one."""
    topic, group = kit.new_topic(), kit.unique("group")
    write(kit, topic, *"abcdef")
    member = joined(kit, group, topic)
    kit.until(lambda: len(member.got) == 6, member)
    commit(member, topic, 6, "old")
    kit.delete_topic(topic)
    kit.create_again(topic)
    write(kit, topic, "x", "y")
    kit.meanwhile(8.0, member)
    kit.note("read", sorted(set(member.got[6:])))  # some of it twice, if it was assigned twice
    kit.note("owned", member.numbers())
    kit.note("position", attempt(lambda: member.position(topic)))
    kit.note("committed", committed(member, topic))
    kit.note("seek to the beginning", attempt(lambda: member.consumer.seek(TopicPartition(topic, 0, 0))))
    kit.until(lambda: "0@1 y" in member.got, member)
    kit.meanwhile(1.0, member)
    kit.note("read", member.got[-2:])
    kit.note("commit", [commit(member, topic, 2), committed(member, topic)])
    member.close()


@story(groups=True)
def a_topic_is_recreated_while_nobody_reads(kit: Kit) -> None:
    topic, group = kit.new_topic(), kit.unique("group")
    write(kit, topic, *"abcdef")
    member = joined(kit, group, topic)
    kit.until(lambda: len(member.got) == 6, member)
    commit(member, topic, 4, "old")
    member.close()
    kit.delete_topic(topic)
    kit.create_again(topic)
    write(kit, topic, "x", "y")
    reader = Reader(kit, group_id=group)
    kit.note("committed", committed(reader, topic))
    reader.close()
    again = joined(kit, group, topic)
    kit.until(lambda: "0@1 y" in again.got, again)
    kit.note("read", again.got)
    again.close()


@story()
def a_writer_meets_a_recreated_topic(kit: Kit) -> None:
    topic = kit.new_topic()
    writer, other = Writer(kit), Writer(kit)
    kit.note("old", writer.write(topic, "a", "b"))
    kit.note("old, by key", other.write(topic, "c", partition=-1, key=b"k"))
    kit.delete_topic(topic)
    kit.note("deleted", writer.write(topic, "lost")[0] in _NO_PLACE)
    kit.note("deleted, by key", other.write(topic, "lost", partition=-1, key=b"k")[0] in _NO_PLACE)
    kit.note("then", [writer.write(topic, "lost"), other.write(topic, "lost", partition=-1, key=b"k")])
    kit.create_again(topic)
    kit.until(lambda: writer.write(topic, "c") == ["0@0"])  # until its metadata are new, the client refuses by itself
    kit.until(lambda: other.write(topic, "c", partition=-1, key=b"k") == ["0@1"])
    kit.note("events", [writer.events, other.events])


@story(groups=True)
def partitions_are_added_while_read(kit: Kit) -> None:
    topic, group = kit.new_topic(), kit.unique("group")
    write(kit, topic, "a")
    member = joined(kit, group, topic)
    kit.until(lambda: member.got, member)
    kit.add_partitions(topic, 3)
    kit.until(lambda: member.has(3), member)
    write(kit, topic, "new", partition=2)
    kit.until(lambda: "2@0 new" in member.got, member)
    kit.note("diary", member.diary)
    kit.note("read", member.got)
    member.close()
