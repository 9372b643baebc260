"""Rights that are withdrawn while a client works."""

from __future__ import annotations

from confluent_kafka import TopicCollection

from tests.simulation.parity.clients import Member, Reader, Writer, write
from tests.simulation.parity.kit import Kit, attempt, on, places
from tests.simulation.parity.stories.commits import commit, committed, joined
from tests.simulation.parity.stories.registry import story

_OURS = {"READ", "WRITE", "DESCRIBE"}
"""The operations of which the stories withdraw some."""


@story(groups=True)
def reading_is_forbidden(kit: Kit) -> None:
    topic, group = kit.new_topic(), kit.unique("group")
    write(kit, topic, "a")
    member = joined(kit, group, topic)
    kit.until(lambda: member.got, member)
    kit.deny("topic", topic, "Read")
    write(kit, topic, "b")
    kit.until(lambda: member.errors, member)
    kit.meanwhile(1.0, member)
    kit.note("errors", [member.errors, member.events])
    kit.note("read", member.got)
    kit.note("commit", commit(member, topic, 1))
    kit.note("committed", attempt(lambda: places(member.consumer.committed(on(topic, [0]), timeout=5))))
    kit.allow("topic", topic)
    kit.until(lambda: "0@1 b" in member.got, member)
    kit.note("allowed again", [member.got, member.numbers(), member.diary])
    member.close()


@story()
def describing_is_forbidden(kit: Kit) -> None:
    topic = kit.new_topic()
    write(kit, topic, "a")
    reader = Reader(kit)
    reader.read(topic, 1)
    kit.deny("topic", topic, "Read", "Describe")
    kit.meanwhile(3.0, reader)
    kit.note("errors", sorted({*reader.errors, *reader.events}))  # metadata or a fetch may tell it first
    kit.note("listed", topic in reader.consumer.list_topics(timeout=10).topics)
    answers = kit.admin().describe_topics(TopicCollection([topic]), request_timeout=10)
    kit.note("described", attempt(lambda: answers[topic].result().topic_id))
    kit.allow("topic", topic)
    write(kit, topic, "b")
    kit.note("allowed again", reader.read_on(1))
    reader.close()


@story()
def writing_is_forbidden(kit: Kit) -> None:
    topic = kit.new_topic()
    writer = Writer(kit)
    kit.note("allowed", writer.write(topic, "a"))
    kit.deny("topic", topic, "Write")
    kit.note("forbidden", writer.write(topic, "b"))
    kit.note("a new producer", Writer(kit).write(topic, "b"))
    kit.note("events", writer.events)
    kit.allow("topic", topic)
    kit.until(lambda: writer.write(topic, "c") == ["0@1"])  # until its metadata are new, the client refuses by itself


@story(groups=True)
def the_group_is_forbidden(kit: Kit) -> None:
    topic, group = kit.new_topic(), kit.unique("group")
    write(kit, topic, "a")
    member = joined(kit, group, topic)
    kit.until(lambda: member.got, member)
    kit.note("allowed", commit(member, topic, 1))
    kit.deny("group", group, "Read")
    kit.note("commit", commit(member, topic, 1))
    member.consumer.commit(offsets=on(topic, [0]), asynchronous=True)
    kit.until(lambda: member.errors or member.events, member)
    kit.meanwhile(1.0, member)
    kit.note("errors", sorted(set(member.errors)))
    kit.note("events", member.events)
    kit.note("diary", member.diary)
    kit.allow("group", group)
    kit.meanwhile(4.0, member)
    kit.note("allowed again", [member.numbers(), commit(member, topic, 1), committed(member, topic)[0]])
    member.close()


@story(groups=True)
def a_start_is_forbidden(kit: Kit) -> None:
    topic, group = kit.new_topic(), kit.unique("group")
    write(kit, topic, "a")
    kit.deny("group", group, "Read")
    member = Member(kit, group, topic)
    kit.until(lambda: member.errors or member.events, member)
    kit.meanwhile(1.0, member)
    kit.note("group", [sorted(set(member.errors)), member.events, member.diary])
    member.close()
    kit.allow("group", group)
    kit.deny("topic", topic, "Read", "Describe")
    member = Member(kit, group, topic)
    kit.meanwhile(4.0, member)
    kit.note("topic", [sorted(set(member.errors)), member.events, member.diary])
    member.close()


@story()
def rights_are_told(kit: Kit) -> None:
    topic, group = kit.new_topic(), kit.unique("group")
    commit(Reader(kit, group_id=group), topic, 1)

    def told() -> list[object]:
        topics = kit.admin().describe_topics(TopicCollection([topic]), include_authorized_operations=True)
        groups = kit.admin().describe_consumer_groups([group], include_authorized_operations=True)
        answers = (topics[topic].result(), groups[group].result())
        return [sorted(_OURS & {operation.name for operation in one.authorized_operations}) for one in answers]

    kit.note("all", told())
    kit.deny("topic", topic, "Write")
    kit.deny("group", group, "Read")
    kit.note("fewer", told())
