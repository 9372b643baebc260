"""The cursors that the next owner of a partition finds in the group's commits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from pushrail_stream.core.commit import Committable, encode_metadata
from pushrail_stream.core.cursor_state import CursorError, CursorState, encode_cursors
from pushrail_stream.core.record import Partition, TopicIdentity
from pushrail_stream.kafka.commits import committed_offsets
from pushrail_stream.kafka.committed_cursors import Resumed, resume

P0, P1 = Partition("events", 0), Partition("events", 1)
OURS, OTHERS = TopicIdentity("cluster", "topic"), TopicIdentity("elsewhere", "topic of theirs")
RECREATED = TopicIdentity("cluster", "another topic")
AT_MS = 1_790_000_000_000
STATE = CursorState(destination_id="dst_1", since=40, next=90, oldest_ms=AT_MS, opened_ms=AT_MS + 1, open=(7, 41))


class Log:
    """A consumer's client, as far as look-ups need it: a record a second, whose times begin at `AT_MS` - 1000 s."""

    def __init__(self, first: int = 0, end: int = 2_000, *, error: int = 0) -> None:
        self._bounds = (first, end)
        self._error = error

    def get_watermark_offsets(self, _place: TopicPartition, timeout: float) -> tuple[int, int]:
        assert timeout
        if self._error:
            raise KafkaException(KafkaError(self._error))
        return self._bounds

    def offsets_for_times(self, wanted: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        assert timeout
        first, end = self._bounds
        for place in wanted:
            offset = max(first, -((AT_MS - 1_000_000 - place.offset) // 1000))
            place.offset = offset if offset < end else -1
        return wanted


def commit(offset: int, topic: TopicIdentity = OURS, cursors: str | None = None) -> Committable:
    text = encode_cursors([STATE]) if cursors is None else cursors
    return Committable(offset, encode_metadata(100, [], topic, None, text))


def resumed(committed: Mapping[Partition, Committable | None], log: Log | None = None) -> Resumed:
    return resume(log or Log(), committed, {"events": OURS}, lambda _partition, commit: commit)  # type: ignore[arg-type]


def found(
    committed: Mapping[Partition, Committable | None], log: Log | None = None
) -> Mapping[Partition, list[CursorState]]:
    return {partition: list(states) for partition, states in resumed(committed, log).cursors.items()}


def test_a_commit_of_this_topic_resumes_as_it_is() -> None:
    assert found({P0: commit(100), P1: None}) == {P0: [STATE]}


def test_a_translated_commit_resumes_at_the_time_of_the_oldest_event() -> None:
    [state] = found({P0: commit(5_000, OTHERS)})[P0]
    assert (state.destination_id, state.to, state.open) == ("dst_1", 5_000, ())
    assert state.since == state.next == 940, "one minute before the oldest event"


def test_a_moved_commit_resumes_at_the_time_of_the_oldest_event() -> None:
    [state] = found({P0: commit(1_500)})[P0]
    assert (state.since, state.to) == (940, 1_500)


class Cluster(Log):
    """A client of a broker whose topics have no known ids."""

    def __init__(self, cluster_id: str | None) -> None:
        super().__init__()
        self._cluster_id = cluster_id

    def list_topics(self, topic: str, timeout: float) -> SimpleNamespace:
        assert (topic, timeout > 0) == ("events", True)
        return SimpleNamespace(cluster_id=self._cluster_id)


def test_a_mirrored_commit_of_the_same_offset_is_translated_before_the_topics_id_is_known() -> None:
    def states(cluster_id: str | None) -> list[CursorState]:
        given: Any = Cluster(cluster_id)
        return list(resume(given, {P0: commit(100, OTHERS)}, {}, lambda _partition, commit: commit).cursors[P0])

    assert states("elsewhere") == states(None) == [STATE]
    assert states("cluster") == [], "the live reader reads its events"


def test_a_commit_without_a_topic_asks_no_cluster() -> None:
    plain = Committable(100, encode_metadata(100, [], None, None, encode_cursors([STATE])))
    log: Any = Log()
    assert resume(log, {P0: plain}, {}, lambda _partition, commit: commit).cursors == {P0: [STATE]}


def test_a_broker_without_times_resumes_at_the_first_record() -> None:
    class Timeless(Log):
        def offsets_for_times(self, wanted: list[TopicPartition], timeout: float) -> list[TopicPartition]:
            assert timeout
            for place in wanted:
                place.offset = -1
            return wanted

    [state] = found({P0: commit(5_000, OTHERS)}, Timeless(first=17))[P0]
    assert (state.since, state.to) == (17, 5_000)


def test_the_cursors_of_an_earlier_topic_are_told_so_that_they_can_be_reported() -> None:
    assert found({P0: commit(100, RECREATED)}) == {P0: [STATE]}


def test_a_broker_that_does_not_answer_is_no_answer() -> None:
    with pytest.raises(KafkaException):
        found({P0: commit(5_000, OTHERS)}, Log(error=KafkaError._TIMED_OUT))


@pytest.mark.parametrize("text", ["dst_1,1,2", "dst_1,40,90,,x,5,", "dst_1,40,90,,5,5,damaged"])
def test_a_partition_whose_cursors_cannot_be_read_is_left_out(text: str) -> None:
    readable = {P0: commit(100)}
    all_of_them = resumed({**readable, P1: commit(100, cursors=text)})
    assert all_of_them.commits == readable
    assert all_of_them.cursors == {P0: [STATE]}
    [(partition, why)] = all_of_them.unreadable.items()
    assert partition == P1
    assert re.match(r"events/1 stands still: .*cannot be read: .*reset the group's offset", why)


def test_a_commit_has_the_cursors_of_its_snapshot() -> None:
    def restore(partition: Partition, named: Committable) -> Committable:
        if partition == P1:
            raise CursorError("the snapshot is gone")
        return named._replace(metadata=commit(100).metadata)

    named = commit(100, cursors="@digest.0.17")
    found = resume(Log(), {P0: named, P1: named}, {"events": OURS}, restore)  # type: ignore[arg-type]
    assert found.cursors == {P0: [STATE]}
    assert found.commits == {P0: commit(100)}
    assert "the snapshot is gone" in found.unreadable[P1]


def test_a_commit_that_is_not_known_is_no_commit_of_nothing() -> None:
    class Group:
        def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
            assert timeout
            return partitions

    known, unknown = TopicPartition("events", 0, 5), Unanswered("events", 1)
    assert committed_offsets(Group(), [known]) == [known]  # type: ignore[arg-type]
    with pytest.raises(KafkaException):
        committed_offsets(Group(), [known, unknown])  # type: ignore[arg-type, list-item]


class Unanswered:
    """A partition for which Kafka told an error instead of the commit."""

    error = KafkaError(KafkaError.UNSTABLE_OFFSET_COMMIT)

    def __init__(self, topic: str, partition: int) -> None:
        self.topic, self.partition = topic, partition
