"""Two brokers, of which a client reaches one alone, or hears old news. These stories run alone."""

from __future__ import annotations

from confluent_kafka import TopicPartition

from tests.simulation.parity.clients import Reader, Writer, write
from tests.simulation.parity.kit import Kit
from tests.simulation.parity.stories.registry import story


@story(exclusive=True, brokers=2)
def an_answer_is_lost_while_a_right_is_withdrawn(kit: Kit) -> None:
    """The client gives up a batch of one topic and begins a new epoch. A batch of another topic has no answer yet."""
    topic, forbidden = kit.new_topic(partitions=2), kit.new_topic(partitions=2)
    writer = Writer(kit)
    kit.note("allowed", [writer.write(topic, "a"), writer.write(forbidden, "a", partition=1)])
    kit.deny("topic", forbidden, "Write")
    kit.until(lambda: "@" not in Writer(kit).write(forbidden, "probe", partition=1)[0])  # the second broker knows it
    writer.reports = []
    kit.lose_answers(1)
    writer.send(topic, "b")
    kit.until(lambda: kit.has_lost_an_answer(1))
    writer.send(forbidden, "b", partition=1)
    kit.until(lambda: writer.producer.poll(0.1) or writer.reports)
    kit.note("forbidden", writer.reports)
    kit.close_connections(1)
    writer.flush()
    kit.note("answered later", writer.reports)
    kit.note("written on", writer.write(topic, "c"))
    reader = Reader(kit)
    reader.consumer.assign([TopicPartition(topic, 0, 0)])
    kit.meanwhile(3.0, reader)
    kit.note("read", reader.got)
    reader.close()


@story(exclusive=True, brokers=2)
def a_late_broker_tells_of_a_deleted_topic(kit: Kit) -> None:
    """A client hears of a new topic, then of the deleted one of its name, and of the new one again."""
    led, calm = kit.new_topic(), kit.new_topic()
    kit.delete_topic(calm)
    kit.stop_brokers()
    kit.start_brokers()  # two elections for the first topic
    kit.create_again(calm)
    topics = {"after elections": led, "without elections": calm}
    for topic in topics.values():
        write(kit, topic, "old", "old", "old")
    kit.shut(2)
    kit.leave_behind()
    for topic in topics.values():
        kit.delete_topic(topic)
        kit.create_again(topic)
        write(kit, topic, "x", "y")
    readers = [Reader(kit) for _ in topics]
    for (name, topic), reader in zip(topics.items(), readers, strict=True):
        kit.note(f"{name}: the new one", reader.read(topic, 2))
    kit.open(2)
    kit.shut(1)
    kit.meanwhile(5.0, *readers)  # they hear of the deleted one
    kit.open(1)
    kit.meanwhile(3.0, *readers)  # at no moment they are without a broker
    kit.shut(2)
    for topic in topics.values():
        write(kit, topic, "z")
    kit.meanwhile(6.0, *readers)
    for name, reader in zip(topics, readers, strict=True):
        kit.note(f"{name}: the new one again", [reader.got[2:], reader.errors])
    kit.shut(1)
    kit.meanwhile(2.0, *readers)
    kit.open(1)
    kit.meanwhile(4.0, *readers)
    for (name, topic), reader in zip(topics.items(), readers, strict=True):
        kit.note(f"{name}: after a moment without a broker", [reader.got[2:], reader.errors])
        reader.close()
        another = Reader(kit)
        kit.note(f"{name}: a new client", another.read(topic, 3))
        another.close()
