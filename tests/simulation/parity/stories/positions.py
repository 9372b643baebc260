"""Positions: where a consumer begins, and where it goes on."""

from __future__ import annotations

from functools import partial
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, OFFSET_INVALID, IsolationLevel, TopicPartition
from confluent_kafka.admin import OffsetSpec

from tests.simulation.parity.clients import Member, Reader, write
from tests.simulation.parity.kit import Kit, attempt, on, places
from tests.simulation.parity.stories.commits import commit, committed, joined
from tests.simulation.parity.stories.registry import story

_AT_MS = 1_700_000_000_000


@story(groups=True)
def the_first_start_follows_the_reset_policy(kit: Kit) -> None:
    topic = kit.new_topic()
    write(kit, topic, "old")
    for policy in ("earliest", "latest", "error"):
        member = joined(kit, kit.unique("group"), topic, auto_offset_reset=policy)
        kit.meanwhile(1.0, member)
        write(kit, topic, "new")
        kit.meanwhile(1.0, member)
        kit.note(policy, [member.got, member.errors, member.events, member.position(topic)])
        member.close()


@story()
def a_seek_outside_the_log(kit: Kit) -> None:
    topic = kit.new_topic()
    write(kit, topic, "a", "b", "c", "d")
    kit.remove_below(topic, 0, 2)
    for policy in ("earliest", "latest", "error"):
        reader = Reader(kit, auto_offset_reset=policy)
        reader.read(topic, 2, 2)
        for offset in (0, 99):
            reader.got.clear()
            reader.errors.clear()
            place = TopicPartition(topic, 0, offset)
            said = attempt(partial(reader.consumer.seek, place))
            kit.meanwhile(1.5, reader)
            kit.note(f"{policy}, {offset}", [said, reader.got, reader.errors, reader.position(topic)])
        reader.close()


@story()
def the_end_is_waited_for(kit: Kit) -> None:
    topic = kit.new_topic()
    write(kit, topic, "a")
    reader = Reader(kit)
    reader.consumer.assign([TopicPartition(topic, 0, 1)])
    kit.meanwhile(0.5, reader)
    kit.note("at the end", [reader.got, reader.position(topic)])
    write(kit, topic, "b")
    kit.note("then", reader.read_on(1))
    reader.close()


@story(groups=True)
def retention_passes_a_commit(kit: Kit) -> None:
    topic, group = kit.new_topic(), kit.unique("group")
    write(kit, topic, "a", "b", "c", "d")
    member = joined(kit, group, topic)
    kit.until(lambda: len(member.got) == 4, member)
    commit(member, topic, 1)
    member.close()
    kit.remove_below(topic, 0, 3)
    again = joined(kit, group, topic)
    kit.until(lambda: again.got, again)
    kit.note("read", again.got)
    kit.note("errors", again.errors)
    kit.note("committed", committed(again, topic))
    kit.note("position", again.position(topic))
    kit.note("bounds", again.consumer.get_watermark_offsets(TopicPartition(topic, 0), cached=True))
    again.close()


@story()
def retention_passes_a_reader(kit: Kit) -> None:
    topic = kit.new_topic()
    write(kit, topic, "a", "b", "c", "d")
    reader = Reader(kit)
    reader.read(topic, 4)
    place = TopicPartition(topic, 0)
    reader.consumer.pause([place])
    write(kit, topic, "e", "f")
    kit.remove_below(topic, 0, 5)
    reader.consumer.resume([place])
    kit.note("read", reader.read_on(1))
    kit.note("position", reader.position(topic))
    kit.remove_below(topic, 0, 6)
    kit.note("bounds of the empty log", reader.consumer.get_watermark_offsets(place, timeout=10))
    write(kit, topic, "g")
    kit.note("read", reader.read_on(1))
    reader.close()


@story()
def a_pause_keeps_the_place(kit: Kit) -> None:
    topic = kit.new_topic(partitions=2)
    write(kit, topic, "a", "b", "c")
    write(kit, topic, "x", partition=1)
    reader = Reader(kit)
    reader.consumer.assign([TopicPartition(topic, 0, 0), TopicPartition(topic, 1, 0)])
    kit.until(lambda: "0@0 a" in reader.got, reader)
    first = [record for record in reader.got if record.startswith("0")]
    reader.consumer.pause(on(topic, [0]))
    kit.note("position", reader.position(topic) == len(first))
    write(kit, topic, "d")
    write(kit, topic, "y", partition=1)
    reader.got.clear()
    kit.until(lambda: "1@1 y" in reader.got, reader)
    kit.meanwhile(0.5, reader)
    kit.note("while paused", [r for r in reader.got if r.startswith("0")])
    reader.consumer.resume(on(topic, [0]))
    kit.until(lambda: "0@3 d" in reader.got, reader)
    kit.note("whole", first + [r for r in reader.got if r.startswith("0")])
    kit.note("pause a stranger", attempt(lambda: reader.consumer.pause(on(kit.unique("missing"), [0]))))
    kit.note("resume what reads", attempt(lambda: reader.consumer.resume(on(topic, [0]))))
    reader.close()


@story()
def a_pause_outlives_the_assignment(kit: Kit) -> None:
    topic = kit.new_topic(partitions=2)
    reader = Reader(kit)
    for number in (0, 1):
        write(kit, topic, "a", "b", partition=number)
    reader.consumer.incremental_assign([TopicPartition(topic, number, 0) for number in (0, 1)])
    kit.until(lambda: len(reader.got) == 4, reader)
    reader.consumer.pause(on(topic, [0]))
    reader.consumer.incremental_unassign(on(topic, [0, 1]))
    kit.meanwhile(0.5, reader)
    reader.got.clear()
    reader.consumer.incremental_assign([TopicPartition(topic, number, 1) for number in (0, 1)])
    kit.until(lambda: reader.got, reader)
    kit.meanwhile(1.5, reader)
    kit.note("assigned again", reader.got)
    reader.consumer.resume(on(topic, [0]))
    kit.until(lambda: len(reader.got) == 2, reader)
    kit.note("resumed", sorted(reader.got))
    reader.consumer.pause(on(topic, [0]))
    reader.consumer.incremental_unassign(on(topic, [0]))
    kit.note("resume without it", attempt(lambda: reader.consumer.resume(on(topic, [0]))))
    kit.meanwhile(0.5, reader)
    reader.consumer.incremental_assign([TopicPartition(topic, 0, 0)])
    kit.until(lambda: len(reader.got) == 4, reader)
    kit.note("then assigned", sorted(reader.got))
    reader.close()


@story(groups=True)
def a_seek_while_paused(kit: Kit) -> None:
    topic = kit.new_topic()
    write(kit, topic, "a", "b", "c")
    member = joined(kit, kit.unique("group"), topic)
    kit.until(lambda: len(member.got) == 3, member)
    member.consumer.pause(on(topic, [0]))
    kit.note("seek", attempt(lambda: member.consumer.seek(TopicPartition(topic, 0, 1))))
    kit.meanwhile(0.5, member)
    kit.note("position", member.position(topic))
    member.got.clear()
    member.consumer.resume(on(topic, [0]))
    kit.until(lambda: len(member.got) == 2, member)
    kit.note("read", [member.got, member.position(topic)])
    member.close()


@story()
def starts_at_offsets(kit: Kit) -> None:
    topic = kit.new_topic(partitions=4)
    for number in range(4):
        write(kit, topic, "a", "b", "c", partition=number)
    reader = Reader(kit)
    starts = [1, OFFSET_BEGINNING, OFFSET_END, OFFSET_INVALID]
    reader.consumer.incremental_assign([TopicPartition(topic, n, start) for n, start in enumerate(starts)])
    kit.note("assigned at", [reader.position(topic, number) for number in range(4)])
    kit.until(lambda: len(reader.got) == 8, reader)
    kit.meanwhile(0.5, reader)
    write(kit, topic, "d", partition=2)
    kit.until(lambda: len(reader.got) == 9, reader)
    kit.note("read", sorted(reader.got))
    kit.note("positions", [reader.position(topic, number) for number in range(4)])
    kit.note("twice", attempt(lambda: reader.consumer.incremental_assign([TopicPartition(topic, 0, 0)])))
    kit.note("taken away", attempt(lambda: reader.consumer.incremental_unassign(on(topic, [0]))))
    kit.note("and again", attempt(lambda: reader.consumer.incremental_unassign(on(topic, [0]))))
    kit.note("its position", attempt(lambda: reader.position(topic)))
    kit.note("seek", attempt(lambda: reader.consumer.seek(TopicPartition(topic, 0, 0))))
    reader.got.clear()
    reader.consumer.assign([TopicPartition(topic, 0, 2)])
    kit.until(lambda: reader.got, reader)
    kit.note("assigned anew", [reader.got, attempt(lambda: reader.position(topic, 1))])
    reader.close()


@story()
def bounds_known_and_asked(kit: Kit) -> None:
    topic = kit.new_topic()
    place = TopicPartition(topic, 0)
    reader = Reader(kit)
    consumer: Any = reader.consumer
    kit.note("known before all", attempt(lambda: consumer.get_watermark_offsets(place, cached=True)))
    kit.note("asked, empty", consumer.get_watermark_offsets(place, timeout=10))
    write(kit, topic, "a", "b", "c")
    kit.note("asked", consumer.get_watermark_offsets(place, timeout=10))
    kit.note("known without reading", attempt(lambda: consumer.get_watermark_offsets(place, cached=True)))
    reader.read(topic, 3)
    kit.note("known by reading", consumer.get_watermark_offsets(place, cached=True))
    kit.remove_below(topic, 0, 2)
    kit.until(lambda: consumer.get_watermark_offsets(place, cached=True)[0] == 2, reader)
    kit.note("known after retention", consumer.get_watermark_offsets(place, cached=True))
    specs: Any = OffsetSpec
    for spec in (specs.earliest(), specs.latest()):
        wanted = {place: spec, TopicPartition(topic, 9): spec, TopicPartition(kit.unique("missing"), 0): spec}
        level = IsolationLevel.READ_COMMITTED
        answers = kit.admin().list_offsets(wanted, isolation_level=level, request_timeout=4)
        told = [attempt(answer.result) for answer in answers.values()]
        kit.note("list_offsets", [one if isinstance(one, str) else one.offset for one in told])
    reader.close()


@story()
def offsets_by_time(kit: Kit) -> None:
    topic = kit.new_topic(partitions=2)
    for number in range(4):
        write(kit, topic, f"{number}", timestamp=_AT_MS + 1_000 * number)
    write(kit, topic, "late", timestamp=_AT_MS + 60_000)
    write(kit, topic, "early again", timestamp=_AT_MS + 1_500)
    reader = Reader(kit)
    for after_ms in (-1_000, 0, 1, 1_000, 1_001, 3_001, 60_001):
        wanted = [TopicPartition(topic, number, _AT_MS + after_ms) for number in (0, 1)]
        kit.note(f"{after_ms}", places(reader.consumer.offsets_for_times(wanted, timeout=10)))
    wanted = [TopicPartition(topic, 9, _AT_MS)]
    kit.note("missing", attempt(lambda: places(reader.consumer.offsets_for_times(wanted, timeout=10))))
    kit.remove_below(topic, 0, 2)
    wanted = [TopicPartition(topic, 0, 0)]
    kit.note("after retention", places(reader.consumer.offsets_for_times(wanted, timeout=10)))
    reader.close()


@story()
def compaction_leaves_gaps(kit: Kit) -> None:
    topic = kit.new_topic(
        cleanup_policy="compact", segment_ms="100", min_cleanable_dirty_ratio="0.0", min_compaction_lag_ms="0",
        max_compaction_lag_ms="500", delete_retention_ms="0",
    )  # fmt: skip
    for key, value in (("a", "1"), ("b", "1"), ("a", "2"), ("c", "1"), ("a", "3"), ("b", "2")):
        write(kit, topic, value, key=key.encode())
    kit.sleep(0.2)
    write(kit, topic, "roll", key=b"r")  # the active segment is never compacted
    kit.compact(topic, 4)
    reader = Reader(kit)
    kit.note("read", reader.read(topic, 4))
    kit.note("position", reader.position(topic))
    kit.note("bounds", reader.consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10))
    reader.got.clear()
    reader.consumer.assign([TopicPartition(topic, 0, 1)])
    kit.until(lambda: len(reader.got) == 4, reader)
    kit.note("read from a gap", reader.got)
    reader.close()


@story()
def positions_before_reading(kit: Kit) -> None:
    topic = kit.new_topic()
    write(kit, topic, "a")
    reader = Reader(kit)
    kit.note("not assigned", attempt(lambda: places(reader.consumer.position(on(topic, [0, 9])))))
    kit.note("seek", attempt(lambda: reader.consumer.seek(TopicPartition(topic, 0, 0))))
    reader.consumer.assign([TopicPartition(topic, 0, 0)])
    [place] = reader.consumer.position(on(topic, [0]))
    kit.note("assigned", [place.offset, place.leader_epoch])
    kit.until(lambda: reader.got, reader)
    [place] = reader.consumer.position(on(topic, [0]))
    kit.note("after a record", [place.offset, place.leader_epoch])
    reader.consumer.seek(TopicPartition(topic, 0, 0))
    kit.note("right after a seek", reader.position(topic))
    kit.until(lambda: len(reader.got) == 2, reader)
    kit.note("read", reader.got)
    reader.consumer.seek(TopicPartition(topic, 0, OFFSET_BEGINNING))
    kit.until(lambda: len(reader.got) == 3, reader)
    kit.note("from the beginning", [reader.got, reader.position(topic)])
    reader.close()


@story(groups=True)
def a_restart_goes_on_at_the_commit(kit: Kit) -> None:
    topic, group = kit.new_topic(partitions=2), kit.unique("group")
    write(kit, topic, "a", "b", "c")
    member = joined(kit, group, topic, 2)
    kit.until(lambda: len(member.got) == 3, member)
    commit(member, topic, 2, "map")
    member.close()
    again: Member = joined(kit, group, topic, 2)
    kit.until(lambda: again.got, again)
    kit.meanwhile(0.5, again)
    kit.note("read", again.got)
    kit.note("committed", [committed(again, topic, number) for number in (0, 1)])
    again.close()
