"""Transactions: readers of committed records, and a producer that is shut out by a newer one."""

from __future__ import annotations

from typing import Any

from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import OffsetSpec

from tests.simulation.parity.clients import Reader, Writer, write
from tests.simulation.parity.kit import Kit, attempt, error_of, on
from tests.simulation.parity.stories.registry import story


def _transactional(kit: Kit, name: str) -> Writer:
    return Writer(kit, transactional_id=name, transaction_timeout_ms=10_000)


@story()
def aborted_records_are_not_read(kit: Kit) -> None:
    topic = kit.new_topic()
    writer = _transactional(kit, kit.unique("transactions"))
    producer = writer.producer
    producer.init_transactions(30)
    producer.begin_transaction()
    writer.write(topic, "committed 1", "committed 2")
    producer.commit_transaction(30)
    producer.begin_transaction()
    kit.note("reports of the aborted", writer.write(topic, "aborted 1", "aborted 2"))
    producer.abort_transaction(30)
    write(kit, topic, "plain")
    reader = Reader(kit)
    kit.note("read", reader.read(topic, 3))
    kit.note("position", reader.position(topic))
    dirty = Reader(kit, isolation_level="read_uncommitted")
    kit.note("read uncommitted", dirty.read(topic, 5))
    kit.note("position", dirty.position(topic))
    producer.begin_transaction()
    writer.write(topic, "aborted at the end")
    producer.abort_transaction(30)
    kit.until(lambda: reader.position(topic) == 9, reader)
    kit.note("position behind the last marker", reader.position(topic))
    kit.note("bounds", reader.consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10))
    dirty.close()
    reader.close()


@story(exclusive=True)
def a_new_leaders_marker_is_passed(kit: Kit) -> None:
    """A marker alone takes the position to the epoch of its leader."""
    topic = kit.new_topic()
    writer = _transactional(kit, kit.unique("transactions"))
    producer = writer.producer
    producer.init_transactions(30)
    write(kit, topic, "plain")
    producer.begin_transaction()
    writer.write(topic, "aborted")
    reader = Reader(kit)
    kit.note("read", reader.read(topic, 1))
    [before] = reader.consumer.position(on(topic, [0]))
    kit.stop_brokers()
    kit.start_brokers()
    producer.abort_transaction(30)
    kit.until(lambda: reader.position(topic) == 3, reader)
    [after] = reader.consumer.position(on(topic, [0]))
    kit.note("position", [before.offset, after.offset, after.leader_epoch > before.leader_epoch])
    kit.note("read", [reader.got, reader.errors])
    reader.close()


@story()
def an_open_transaction_holds_readers_back(kit: Kit) -> None:
    topic = kit.new_topic()
    write(kit, topic, "first")
    writer = _transactional(kit, kit.unique("transactions"))
    writer.producer.init_transactions(30)
    writer.producer.begin_transaction()
    writer.write(topic, "open")
    write(kit, topic, "behind it")
    reader, dirty = Reader(kit), Reader(kit, isolation_level="read_uncommitted")
    kit.note("read", reader.read(topic, 1))
    kit.note("position", reader.position(topic))
    kit.note("read uncommitted", dirty.read(topic, 3))
    place = TopicPartition(topic, 0)
    kit.note("bounds", reader.consumer.get_watermark_offsets(place, timeout=10))
    kit.note("bounds known", reader.consumer.get_watermark_offsets(place, cached=True))
    kit.note("bounds uncommitted", dirty.consumer.get_watermark_offsets(place, timeout=10))
    newest: Any = OffsetSpec
    for level in (IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED):
        [answer] = kit.admin().list_offsets({place: newest.latest()}, isolation_level=level).values()
        kit.note(f"list_offsets {level.name}", answer.result(10).offset)
    writer.producer.commit_transaction(30)
    kit.note("read on", reader.read_on(2))
    kit.note("position", reader.position(topic))
    reader.close()
    dirty.close()


@story()
def a_newer_producer_shuts_out_the_older(kit: Kit) -> None:
    topic = kit.new_topic()
    name = kit.unique("transactions")
    old, new = _transactional(kit, name), _transactional(kit, name)
    old.producer.init_transactions(30)
    old.producer.begin_transaction()
    kit.note("old writes", old.write(topic, "old"))
    new.producer.init_transactions(30)
    kit.note("old writes on", old.write(topic, "old and late"))
    kit.note("old commits", attempt(lambda: old.producer.commit_transaction(30)))
    kit.note("old aborts", attempt(lambda: old.producer.abort_transaction(30)))
    kit.note("old begins", attempt(old.producer.begin_transaction))
    kit.note("old produces", attempt(lambda: old.producer.produce(topic, b"x")))
    kit.note("old events", old.events)
    new.producer.begin_transaction()
    kit.note("new writes", new.write(topic, "new"))
    kit.note("new commits", attempt(lambda: new.producer.commit_transaction(30)))
    reader = Reader(kit)
    kit.note("read", reader.read(topic, 1))
    reader.close()


@story()
def calls_out_of_turn(kit: Kit) -> None:
    topic = kit.new_topic()
    writer = _transactional(kit, kit.unique("transactions"))
    producer = writer.producer
    kit.note("begin before init", attempt(producer.begin_transaction))
    producer.init_transactions(30)
    kit.note("produce before begin", attempt(lambda: producer.produce(topic, b"x")))
    kit.note("commit before begin", attempt(lambda: producer.commit_transaction(10)))
    producer.begin_transaction()
    kit.note("begin twice", attempt(producer.begin_transaction))
    kit.note("empty commit", attempt(lambda: producer.commit_transaction(10)))
    producer.begin_transaction()
    kit.note("empty abort", attempt(lambda: producer.abort_transaction(10)))
    kit.note("too large", _write_too_large(kit, writer))


def _write_too_large(kit: Kit, writer: Writer) -> list[object]:
    small = kit.new_topic(max_message_bytes="1000")
    writer.producer.begin_transaction()
    reports = writer.write(small, "x" * 2_000)
    committed = attempt(lambda: writer.producer.commit_transaction(10))
    return [reports, committed, attempt(lambda: writer.producer.abort_transaction(10)), error_of(None)]


@story()
def a_transaction_outlives_its_topic(kit: Kit) -> None:
    """The topic is deleted and created again within it: the marker comes to the new topic."""
    topic = kit.new_topic()
    writer = _transactional(kit, kit.unique("transactions"))
    producer = writer.producer
    producer.init_transactions(30)
    producer.begin_transaction()
    writer.write(topic, "old")
    kit.delete_topic(topic)
    kit.create_again(topic)
    kit.sleep(3.0)  # the client's metadata is of the new topic
    writer.write(topic, "new")
    write(kit, topic, "plain")
    reader = Reader(kit)
    place = TopicPartition(topic, 0)
    kit.note("bounds while open", reader.consumer.get_watermark_offsets(place, timeout=10))
    kit.note("committed", attempt(lambda: producer.commit_transaction(10)))
    kit.note("read", reader.read(topic, 2))
    kit.until(lambda: reader.position(topic) == 3, reader)
    kit.note("bounds", reader.consumer.get_watermark_offsets(place, timeout=10))
    reader.close()
