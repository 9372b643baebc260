"""Written records are read: keys, headers, sizes, and records that cannot be read."""

from __future__ import annotations

from typing import Any

from confluent_kafka import Message, TopicPartition

from pushrail_stream.kafka.records import records_of, take_messages
from tests.simulation.parity.clients import Reader, Writer, write
from tests.simulation.parity.kit import SMALL_ANSWERS, Kit, attempt, error_of, on, places
from tests.simulation.parity.stories.registry import story

_AT_MS = 1_700_000_000_123


@story()
def records_come_back(kit: Kit) -> None:
    topic = kit.new_topic()
    write(kit, topic, "plain")
    write(kit, topic, "full", key=b"k", headers=[("a", b"1"), ("a", None), ("", b"")], timestamp=_AT_MS)
    write(kit, topic, None, key=b"gone")
    write(kit, topic, b"", key=b"", headers=[])
    reader = Reader(kit)
    reader.consumer.assign([TopicPartition(topic, 0, 0)])
    found: list[Message] = []
    while len(found) < 4:
        found += take_messages(reader.consumer, 0.2, 500, 1_000_000)
    for message in found:
        kind, at_ms = message.timestamp()
        kit.note("record", [message.offset(), str(message.key()), str(message.value()), str(message.headers())])
        kit.note("facts", [message.partition(), kind, at_ms == _AT_MS, len(message), message.leader_epoch()])
        kit.note("error", message.error())
    kit.note("position", reader.position(topic))
    reader.close()


@story()
def keys_choose_partitions(kit: Kit) -> None:
    topic = kit.new_topic(partitions=7)
    writer: Writer = Writer(kit)
    found: list[int] = []
    for key in ("acct_0", "acct_1", "customer-22", "ä", "", "x" * 50):
        writer.producer.produce(topic, b"1", key, on_delivery=lambda _, message: found.append(message.partition()))
        writer.flush()
    kit.note("partitions", found)


@story()
def a_batch_of_many(kit: Kit) -> None:
    topic = kit.new_topic()
    writer = Writer(kit, linger_ms=200)
    for number in range(1000):
        writer.send(topic, f"{number}")
    kit.note("waiting", len(writer.producer))
    writer.flush()
    kit.note("left", len(writer.producer))
    reader = Reader(kit)
    got = reader.read(topic, 1000)
    kit.note("in order", got == [f"0@{n} {n}" for n in range(1000)])
    kit.note("position", reader.position(topic))
    reader.close()


@story()
def a_header_name_is_not_utf8(kit: Kit) -> None:
    topic = kit.new_topic()
    kit.write_raw(topic, b"k", b"v", [(b"tenant", b"1"), (b"caf\xe9", b"2"), (b"caf\xe8", b"")])
    reader = Reader(kit)
    reader.consumer.assign([TopicPartition(topic, 0, 0)])
    found: list[Message] = []
    while not found:
        found += take_messages(reader.consumer, 0.2, 10, 1_000)
    [record] = records_of(found, {})
    kit.note("headers", [[name, str(value)] for name, value in record.headers])
    kit.note("record", [record.offset, str(record.key), str(record.value)])
    reader.close()


@story()
def a_batch_cannot_be_read(kit: Kit) -> None:
    topic = kit.new_topic(max_message_bytes="20000000")
    write(kit, topic, "before")
    kit.write_unreadable(topic, 10)
    write(kit, topic, "after")
    reader = Reader(kit, **{name.replace(".", "_"): size for name, size in SMALL_ANSWERS.items()})
    kit.note("read", reader.read(topic, 1))
    kit.until(lambda: reader.errors, reader)
    kit.note("errors", reader.errors)
    kit.note("position", reader.position(topic))
    reader.errors.clear()
    reader.consumer.assign([TopicPartition(topic, 0, 5)])
    kit.until(lambda: reader.errors, reader)
    kit.note("from inside", reader.errors)
    reader.consumer.seek(TopicPartition(topic, 0, 11))
    kit.note("after it", reader.read_on(1))
    kit.note("bounds", reader.consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10))
    reader.close()


@story()
def a_record_is_too_large(kit: Kit) -> None:
    topic = kit.new_topic(max_message_bytes="1000")
    writer = Writer(kit)
    kit.note("for the topic", writer.write(topic, "x" * 2_000))
    kit.note("small", writer.write(topic, "x"))
    kit.note("for the client", Writer(kit, message_max_bytes=2_000).write(topic, "x" * 3_000))
    together = Writer(kit, linger_ms=500)
    for number in range(30):
        together.send(topic, f"{number} ".ljust(100, "."))
    together.flush()
    kit.note("together", sorted(set(together.reports)))


@story()
def no_such_place_to_write(kit: Kit) -> None:
    topic = kit.new_topic()
    writer = Writer(kit)
    kit.note("known topic", writer.write(topic, "x"))
    kit.note("missing partition", writer.write(topic, "x", partition=9))
    kit.note("missing topic", Writer(kit).write(kit.unique("missing"), "x"))
    kit.note("missing topic by key", Writer(kit).write(kit.unique("missing"), "x", partition=-1, key=b"k"))
    kit.note("events", writer.events)


@story()
def a_full_queue(kit: Kit) -> None:
    topic = kit.new_topic()
    writer = Writer(kit, queue_buffering_max_messages=10, linger_ms=5_000)
    for _ in range(10):
        writer.send(topic, "x")
    kit.note("one more", attempt(lambda: writer.send(topic, "x")))
    kit.note("waiting", len(writer.producer))
    kit.note("purge", attempt(writer.producer.purge))
    writer.flush()
    kit.note("reports", sorted(set(writer.reports)))


@story()
def the_end_of_a_partition(kit: Kit) -> None:
    topic = kit.new_topic(partitions=2)
    write(kit, topic, "a", "b")
    reader = Reader(kit, enable_partition_eof=True)
    reader.consumer.assign([TopicPartition(topic, 0, 0), TopicPartition(topic, 1, 0)])
    kit.until(lambda: len(reader.errors) == 2, reader)
    kit.note("read", reader.got)
    kit.note("ends", sorted(reader.errors))
    reader.errors.clear()
    write(kit, topic, "c")
    kit.until(lambda: reader.errors, reader)
    kit.note("again", reader.errors)
    reader.close()


@story()
def questions_about_missing_topics(kit: Kit) -> None:
    missing: str = kit.unique("missing")
    topic = kit.new_topic(partitions=2)
    reader = Reader(kit)
    consumer: Any = reader.consumer
    told = consumer.list_topics(missing, timeout=10).topics[missing]
    kit.note("list_topics", [error_of(told.error), len(told.partitions)])
    kit.note("all topics have it", missing in consumer.list_topics(timeout=10).topics)
    known = consumer.list_topics(topic, timeout=10).topics[topic]
    kit.note("known", [error_of(known.error), sorted(known.partitions), len(known.partitions[0].replicas)])
    ask = consumer.get_watermark_offsets
    kit.note("bounds", attempt(lambda: ask(TopicPartition(missing, 0), timeout=5)))
    kit.note("bounds of a missing partition", attempt(lambda: ask(TopicPartition(topic, 9), timeout=5)))
    kit.note("committed", attempt(lambda: places(consumer.committed(on(missing, [0]), timeout=5))))
    for what, times in (
        ("a missing topic", [TopicPartition(missing, 0, 1)]),
        ("a missing partition", [TopicPartition(topic, 9, 1)]),
        ("with a known one", [TopicPartition(topic, 0, 1), TopicPartition(topic, 9, 1)]),
    ):
        kit.note(f"times of {what}", attempt(lambda: places(consumer.offsets_for_times(times, timeout=5))))  # noqa: B023
    kit.note("events of questions", reader.events)
    consumer.assign([TopicPartition(missing, 0, 0)])
    kit.meanwhile(4.0, reader)
    kit.note("reading", [reader.errors, reader.events])
    reader.errors.clear()
    reader.events.clear()
    consumer.assign([TopicPartition(topic, 9, 0)])
    kit.meanwhile(4.0, reader)
    kit.note("reading a missing partition", [reader.errors, reader.events])
    reader.close()
