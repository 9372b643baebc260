"""Brokers that go, and logs that lose their end. These stories run alone."""

from __future__ import annotations

from functools import partial

from confluent_kafka import TopicPartition

from tests.simulation.parity.clients import Reader, Writer, write
from tests.simulation.parity.kit import SMALL_ANSWERS, Kit, attempt, on, places
from tests.simulation.parity.stories.commits import commit, committed, joined
from tests.simulation.parity.stories.registry import story


def _read_ten(kit: Kit, group: str, topic: str) -> None:
    """Write ten records and commit them all, with the epoch that the position tells, as the engine does."""
    write(kit, topic, *"abcdefghij")
    member = joined(kit, group, topic)
    kit.until(lambda: len(member.got) == 10, member)
    [place] = member.consumer.position(on(topic, [0]))
    kit.note("position", [place.offset, place.leader_epoch])
    whole = TopicPartition(topic, 0, 10, "map", place.leader_epoch)
    kit.note("commit", places(member.consumer.commit(offsets=[whole], asynchronous=False)))
    member.close()


@story(exclusive=True)
def a_truncation_passes_a_commit(kit: Kit) -> None:
    """One log ends below the commit, the other has grown beyond it since.

    In the first, the reader may learn that its offset is out of range before it learns where the epoch ended. Then the
    reset policy applies, and it begins at the first record.
    """
    topics, groups = [kit.new_topic(), kit.new_topic()], [kit.unique("group"), kit.unique("group")]
    for topic, group in zip(topics, groups, strict=True):
        _read_ten(kit, group, topic)
    kit.stop_brokers()
    for topic in topics:
        kit.cut_off(topic, 0, 5)
    kit.start_brokers()
    write(kit, topics[0], *"XY")
    write(kit, topics[1], *"QRSTUVWXYZ")
    for name, topic, group in zip(("shorter", "longer"), topics, groups, strict=True):
        member = joined(kit, group, topic)
        kit.meanwhile(3.0, member)
        first = member.got[0]
        kit.note(name, [first if name == "longer" else first in {"0@0 a", "0@5 X"}, member.errors, member.got[-2:]])
        kit.note("committed", committed(member, topic))
        [place] = member.consumer.position(on(topic, [0]))
        kit.note("position", [place.offset, place.leader_epoch > 0])
        member.close()


@story(exclusive=True)
def a_truncation_passes_a_reader(kit: Kit) -> None:
    topics = [kit.new_topic(), kit.new_topic()]
    readers = [Reader(kit), Reader(kit)]
    for topic, reader in zip(topics, readers, strict=True):
        write(kit, topic, *"abcdefghij")
        reader.read(topic, 10)
    kit.stop_brokers()
    for topic in topics:
        kit.cut_off(topic, 0, 5)
    kit.start_brokers()
    write(kit, topics[0], *"XY")
    write(kit, topics[1], *"QRSTUVWXYZ")
    kit.meanwhile(4.0, *readers)
    for name, topic, reader in zip(("shorter", "longer"), topics, readers, strict=True):
        [place] = reader.consumer.position(on(topic, [0]))
        kit.note(name, [reader.got[10:], reader.errors, place.offset, place.leader_epoch > 0])
        reader.close()


def _has_taken(reader: Reader, count: int) -> bool:
    return len(reader.got) == count


@story(exclusive=True)
def a_log_is_cut_twice_before_it_is_taken(kit: Kit) -> None:
    """The client has fetched more than the application took. It goes on at the second cut, and forgets the others."""
    cuts = {"a later cut": (5, 7), "an earlier cut": (7, 5)}
    topics, readers = [kit.new_topic() for _ in cuts], [Reader(kit) for _ in cuts]
    taken = []
    for topic, reader in zip(topics, readers, strict=True):
        write(kit, topic, *"abcdefghij")
        reader.consumer.assign([TopicPartition(topic, 0, 0)])
        kit.until(partial(_has_taken, reader, 3), reader)
        taken += reader.consumer.position(on(topic, [0]))
    for number, values in enumerate(("QRST", "XYZ")):
        kit.stop_brokers()
        for topic, offsets in zip(topics, cuts.values(), strict=True):
            kit.cut_off(topic, 0, offsets[number])
        kit.start_brokers()
        for topic in topics:
            write(kit, topic, *values)
        kit.sleep(4.0)  # the clients fetch it
    for name, topic, reader, start in zip(cuts, topics, readers, taken, strict=True):
        kit.note(name, [reader.read_on(3), reader.errors])
        [place] = reader.consumer.position(on(topic, [0]))
        kit.note("position", [place.offset, place.leader_epoch > start.leader_epoch])
        reader.consumer.seek(start)
        kit.note("read again", [reader.read_on(place.offset - 3), reader.errors])
        reader.consumer.seek(TopicPartition(topic, 0, 10, "", start.leader_epoch))
        kit.note("read again from behind the cuts", [reader.read_on(place.offset - 5), reader.errors])
        reader.close()


@story(exclusive=True)
def a_batch_of_a_later_leader_is_skipped(kit: Kit) -> None:
    """A client that is given the epoch before an unreadable batch for the offset after it goes back to the batch."""
    topic, group = kit.new_topic(), kit.unique("group")
    write(kit, topic, "a", "b")
    small = {name.replace(".", "_"): size for name, size in SMALL_ANSWERS.items()}
    member = joined(kit, group, topic, **small)
    kit.until(lambda: len(member.got) == 2, member)
    [before] = member.consumer.position(on(topic, [0]))
    kit.stop_brokers()
    kit.start_brokers()
    kit.write_unreadable(topic, 10)
    write(kit, topic, "after")
    kit.until(lambda: member.errors, member)
    for name, epoch in (("with the epoch before", before.leader_epoch), ("without an epoch", -1)):
        member.errors.clear()
        member.consumer.seek(TopicPartition(topic, 0, 12, "", epoch))
        kit.meanwhile(3.0, member)
        kit.note(f"skipped {name}", [member.got[2:], member.errors])
        whole = TopicPartition(topic, 0, 12, "", epoch)
        kit.note("commit", places(member.consumer.commit(offsets=[whole], asynchronous=False)))
        member.close()
        member = joined(kit, group, topic, **small)
        kit.meanwhile(3.0, member)
        kit.note(f"begun {name}", [member.got, member.errors])
        member.got[:0] = "ab"
    member.close()


@story(exclusive=True)
def a_topic_is_recreated_after_elections(kit: Kit) -> None:
    """A client keeps the leader epochs of the name: brokers refuse its fetches, and only a new client reads on."""
    topic = kit.new_topic()
    kit.stop_brokers()
    kit.start_brokers()
    write(kit, topic, *"ab")
    reader = Reader(kit)
    kit.note("before", reader.read(topic, 2))
    kit.delete_topic(topic)
    kit.create_again(topic)
    write(kit, topic, *"cdef")
    kit.meanwhile(5.0, reader)
    kit.note("the same client", reader.got[2:])
    another = Reader(kit)
    kit.note("a new client", another.read(topic, 4))
    for one in (reader, another):
        one.close()


@story(groups=True, exclusive=True)
def all_brokers_are_away(kit: Kit) -> None:
    topic, group = kit.new_topic(), kit.unique("group")
    write(kit, topic, "a")
    member, writer = joined(kit, group, topic), Writer(kit, delivery_timeout_ms=3_000)
    kit.until(lambda: member.got, member)
    kit.note("before", [commit(member, topic, 1), writer.write(topic, "b")])
    kit.stop_brokers()
    kit.note("written", writer.write(topic, "c"))
    member.consumer.commit(offsets=[TopicPartition(topic, 0, 2)], asynchronous=True)
    kit.meanwhile(2.0, member)
    kit.note("bounds", attempt(lambda: member.consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=1)))
    kit.note("committed", attempt(lambda: places(member.consumer.committed(on(topic, [0]), timeout=1))))
    kit.note("list_topics", attempt(lambda: member.consumer.list_topics(timeout=1)))
    kit.note("member", [member.errors, sorted(member.events)])
    kit.note("writer", [sorted(writer.events)])
    kit.start_brokers()
    kit.note("written after", writer.write(topic, "d"))
    kit.until(lambda: len(member.got) == 3, member)
    kit.note("read", member.got)
    kit.until(lambda: commit(member, topic, 3) == {0: 3}, member)
    kit.note("committed", [committed(member, topic), member.numbers()])
    member.close()
