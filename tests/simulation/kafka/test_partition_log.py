from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from tests.simulation.kafka.partition_log import AppendRefused, Fetched, NewRecord, PartitionLog


def new(key: str, value: str | None = "v", at: int = 0) -> NewRecord:
    return NewRecord(key.encode(), None if value is None else value.encode(), (), at)


def log() -> PartitionLog:
    return PartitionLog("events", 0, (1, 2, 3))


def offsets(found: Fetched) -> list[int]:
    return [record.offset for record in found.records]


def test_records_are_read_from_an_offset_in_order() -> None:
    partition = log()
    assert partition.append([new("a"), new("b")]) == 0
    assert partition.append([new("c")]) == 2
    found = partition.read(1, committed_only=True)
    assert (offsets(found), found.next_offset, found.high_watermark) == ([1, 2], 3, 3)


def test_an_answer_holds_about_as_many_bytes_as_wanted_and_at_least_one_record() -> None:
    partition = log()
    partition.append([new("a", "x" * 100), new("b", "x" * 100)])
    found = partition.read(0, max_bytes=1, committed_only=True)
    assert (offsets(found), found.next_offset) == ([0], 1)


def test_offsets_outside_of_the_log_are_out_of_range() -> None:
    partition = log()
    partition.append([new("a"), new("b")])
    partition.remove_before(1)
    assert partition.read(0, committed_only=True).error == KafkaError.OFFSET_OUT_OF_RANGE
    assert partition.read(3, committed_only=True).error == KafkaError.OFFSET_OUT_OF_RANGE
    assert partition.read(2, committed_only=True).error is None
    assert partition.read(0, committed_only=True).first == 1


def test_an_answer_names_the_epoch_of_what_was_read_last() -> None:
    partition = log()
    partition.append([new("a")])
    partition.elect(2)
    assert partition.read(0, committed_only=True).epoch == 0
    partition.end_transaction((7, 0), is_committed=False)
    assert (partition.read(0, committed_only=True).epoch, partition.read(1, committed_only=True).epoch) == (1, 1)
    assert partition.read(0, max_records=1, committed_only=True).epoch == 0
    assert partition.read(2, committed_only=True).epoch == -1


def test_a_client_with_another_leader_epoch_is_fenced() -> None:
    partition = log()
    partition.elect(2)
    assert partition.read(0, 0, committed_only=True).error == KafkaError.FENCED_LEADER_EPOCH
    assert partition.read(0, 2, committed_only=True).error == KafkaError.UNKNOWN_LEADER_EPOCH
    assert partition.read(0, 1, committed_only=True).error is None


def test_an_unclean_election_loses_records_and_the_epoch_tells_where() -> None:
    partition = log()
    partition.append([new(key) for key in "abc"])
    partition.elect(2, truncate_to=1)
    partition.append([new("d"), new("e")])
    assert [record.key for record in partition.read(0, committed_only=True).records] == [b"a", b"d", b"e"]
    assert partition.end_of_epoch(0) == (0, 1)
    assert partition.end_of_epoch(1) == (1, 3)
    assert partition.end_of_epoch(7) == (-1, -1)


def test_markers_fill_offsets_and_aborted_records_are_invisible() -> None:
    partition = log()
    partition.append([new("a")], producer=(7, 0), sequence=0, is_transactional=True)
    partition.append([new("b")])
    assert partition.last_stable == 0
    assert offsets(partition.read(0, committed_only=True)) == []
    assert offsets(partition.read(0, committed_only=False)) == [0, 1]
    partition.end_transaction((7, 0), is_committed=False)
    partition.append([new("c")], producer=(7, 0), sequence=1, is_transactional=True)
    partition.end_transaction((7, 0), is_committed=True)
    found = partition.read(0, committed_only=True)
    assert (offsets(found), found.next_offset, partition.end) == ([1, 3], 5, 5)
    assert partition.last_stable == 5


def test_a_repeated_batch_is_written_once() -> None:
    partition = log()
    assert partition.append([new("a"), new("b")], producer=(7, 0), sequence=0) == 0
    assert partition.append([new("c")], producer=(7, 0), sequence=2) == 2
    assert partition.append([new("a"), new("b")], producer=(7, 0), sequence=0) == 0
    assert partition.end == 3


def test_a_gap_in_a_producers_sequence_is_refused() -> None:
    partition = log()
    partition.append([new("a")], producer=(7, 0), sequence=0)
    with pytest.raises(AppendRefused) as refused:
        partition.append([new("c")], producer=(7, 0), sequence=2)
    assert refused.value.code == KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER
    partition.append([new("d")], producer=(7, 1), sequence=0)
    with pytest.raises(AppendRefused) as fenced:
        partition.append([new("c")], producer=(7, 0), sequence=1)
    assert fenced.value.code == KafkaError.INVALID_PRODUCER_EPOCH


def test_compaction_keeps_the_newest_record_of_each_key_and_its_offset() -> None:
    partition = log()
    partition.append([new("a", "1"), new("b", "1"), new("a", "2"), new("b", None), new("a", "3")])
    partition.compact(4)
    assert offsets(partition.read(0, committed_only=True)) == [3, 4]
    partition.compact(4, drop_tombstones=True)
    found = partition.read(0, committed_only=True)
    assert (offsets(found), found.next_offset, partition.first) == ([4], 5, 0)


def test_reading_passes_a_gap_at_the_end() -> None:
    partition = log()
    partition.append([new("a", "1"), new("b", None)])
    partition.compact(2, drop_tombstones=True)
    assert partition.read(1, committed_only=True).next_offset == 2


def test_reading_stands_before_a_batch_that_cannot_be_read() -> None:
    partition = log()
    partition.append([new("a")])
    partition.append_unreadable(3, KafkaError._BAD_COMPRESSION)
    partition.append([new("b")])
    found = partition.read(0, committed_only=True)
    assert (offsets(found), found.next_offset) == ([0], 1)
    inside = partition.read(2, committed_only=True)
    assert inside.unreadable is not None
    assert (inside.unreadable.offset, inside.unreadable.unreadable) == (1, KafkaError._BAD_COMPRESSION)
    assert offsets(partition.read(4, committed_only=True)) == [4]


def test_the_first_record_of_a_time_is_found() -> None:
    partition = log()
    partition.append([new("a", at=10), new("b", at=30), new("c", at=20)])
    assert partition.offset_for_time(15) == (1, 30)
    assert partition.offset_for_time(31) == (-1, -1)


def test_a_reader_that_waits_is_woken_once_by_news() -> None:
    partition = log()
    woken: list[int] = []
    partition.when_changed(lambda: woken.append(partition.end))
    partition.append([new("a")])
    partition.append([new("b")])
    assert woken == [1]
