"""Reading without a group: positions, pauses, resets, truncation, and topics that go away or come back as others."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, OFFSET_INVALID, KafkaError, KafkaException, TopicPartition

from tests.simulation.kafka.consumer_stage import TOPIC, ConsumerStage, Member
from tests.simulation.kafka.network import Fate
from tests.simulation.kafka.partition_log import NewRecord


def at(offset: int, partition: int = 0) -> TopicPartition:
    return TopicPartition(TOPIC, partition, offset)


def reader(stage: ConsumerStage, offset: int = OFFSET_BEGINNING, **properties: Any) -> Member:
    """A consumer that reads one partition from there."""
    member = Member(stage, stage.consumer(**properties))
    member.consumer.assign([at(offset)])
    return member


def test_records_come_with_all_that_they_have() -> None:
    stage = ConsumerStage()
    log = stage.topic.partitions[0]
    log.append([NewRecord(b"key", b"value", (("name", b"1"), ("name", None)), 1_700_000_000_000)])

    def work() -> None:
        message = reader(stage).consumer.poll(5)
        assert message is not None
        assert (message.topic(), message.partition(), message.offset(), message.leader_epoch()) == (TOPIC, 0, 0, 0)
        assert (message.key(), message.value(), len(message)) == (b"key", b"value", 5)
        assert message.headers() == [("name", b"1"), ("name", None)]
        assert message.timestamp() == (1, 1_700_000_000_000)

    stage.run(work)


def test_a_poll_ends_with_the_first_message_and_a_consume_with_the_time() -> None:
    stage = ConsumerStage()
    stage.scheduler.call_later(2.0, stage.append, ["a", "b"])

    def work() -> None:
        member = reader(stage)
        begun = stage.scheduler.now
        assert member.consumer.poll(10) is not None
        assert stage.scheduler.now - begun == pytest.approx(2.0, abs=0.1)
        assert len(member.consumer.consume(10, 0)) == 1
        assert member.consumer.consume(10, 0.5) == []
        assert stage.scheduler.now - begun == pytest.approx(2.5, abs=0.1)

    stage.run(work)


def test_the_position_is_behind_what_was_taken() -> None:
    stage = ConsumerStage()
    stage.append(range(5))

    def work() -> None:
        member = reader(stage)
        assert member.position() == OFFSET_INVALID
        member.poll(1, lambda: len(member.values) == 2)
        assert member.position() == 2
        member.consumer.seek(at(4))
        assert member.position() == OFFSET_INVALID
        member.poll(1)
        assert member.values == ["0", "1", "4"]
        assert member.position() == 5

    stage.run(work)


def test_a_pause_throws_away_what_was_fetched() -> None:
    stage = ConsumerStage()
    stage.append(range(5))

    def work() -> None:
        member = reader(stage)
        member.poll(1, lambda: len(member.values) == 2)
        member.consumer.pause([at(0)])
        member.poll(1)
        assert member.values == ["0", "1"]
        member.consumer.resume([at(0)])
        member.poll(1)
        assert member.values == ["0", "1", "2", "3", "4"]

    stage.run(work)


def test_a_pause_before_the_first_record_loses_none() -> None:
    """librdkafka 2.16 begins again where fetching began, as its mock cluster shows."""
    stage = ConsumerStage()
    stage.append(range(5))

    def work() -> None:
        member = reader(stage)
        stage.sleep(1.0)
        member.consumer.pause([at(0)])
        member.poll(1)
        assert member.values == []
        member.consumer.resume([at(0)])
        member.poll(1)
        assert member.values == ["0", "1", "2", "3", "4"]

    stage.run(work)


def test_a_pause_outlives_the_assignment() -> None:
    stage = ConsumerStage()
    stage.append(range(3))

    def work() -> None:
        member = reader(stage)
        member.poll(1)
        member.consumer.pause([at(0)])
        member.consumer.incremental_unassign([at(0)])
        member.consumer.incremental_assign([at(1)])
        member.poll(1)
        assert member.values == ["0", "1", "2"]
        member.consumer.incremental_unassign([at(0)])
        member.consumer.resume([at(0)])
        member.consumer.incremental_assign([at(1)])
        member.poll(1)
        assert member.values == ["0", "1", "2", "1", "2"]

    stage.run(work)


def test_a_pause_while_the_offset_is_looked_up_loses_no_record() -> None:
    stage = ConsumerStage()
    stage.append(range(5))

    def work() -> None:
        member = reader(stage)
        member.consumer.pause([at(0)])
        stage.sleep(1.0)
        member.consumer.resume([at(0)])
        member.poll(1)
        assert member.values == ["0", "1", "2", "3", "4"]

    stage.run(work)


def test_a_paused_partition_can_be_moved() -> None:
    stage = ConsumerStage()
    stage.append(range(5))

    def work() -> None:
        member = reader(stage)
        member.poll(1)
        member.consumer.pause([at(0)])
        member.consumer.seek(at(3))
        member.poll(1)
        assert len(member.values) == 5
        member.consumer.resume([at(0)])
        member.poll(1)
        assert member.values[5:] == ["3", "4"]

    stage.run(work)


def test_the_position_passes_markers_and_aborted_records() -> None:
    stage = ConsumerStage()
    log = stage.topic.partitions[0]

    def write(value: str, *, is_committed: bool, sequence: int) -> None:
        record = [NewRecord(None, value.encode())]
        log.append(record, producer=(7, 0), sequence=sequence, is_transactional=True)
        log.end_transaction((7, 0), is_committed=is_committed)

    write("a", is_committed=True, sequence=0)
    write("b", is_committed=False, sequence=1)

    def work() -> None:
        member = reader(stage)
        member.poll(1)
        assert member.values == ["a"]
        assert member.position() == 4

    stage.run(work)


def test_the_end_is_told_on_request() -> None:
    stage = ConsumerStage()
    stage.append(["a"])

    def work() -> None:
        member = reader(stage, enable_partition_eof=True)
        member.poll(1)
        assert (member.values, member.errors) == (["a"], [KafkaError._PARTITION_EOF])
        stage.append(["b"])
        member.poll(1)
        assert member.values == ["a", "b"]
        assert member.errors == [KafkaError._PARTITION_EOF] * 2

    stage.run(work)


@pytest.mark.parametrize(("policy", "values"), [("earliest", ["0", "1", "new"]), ("latest", ["new"])])
def test_an_offset_out_of_range_follows_the_policy(policy: str, values: list[str]) -> None:
    stage = ConsumerStage()
    stage.append(range(2))

    def work() -> None:
        member = reader(stage, 100, auto_offset_reset=policy)
        member.poll(2)
        stage.append(["new"])
        member.poll(2)
        assert member.values == values

    stage.run(work)


def test_an_offset_out_of_range_can_be_an_error() -> None:
    stage = ConsumerStage()

    def work() -> None:
        member = reader(stage, 100, auto_offset_reset="error")
        member.poll(2)
        assert member.errors == [KafkaError._AUTO_OFFSET_RESET]

    stage.run(work)


def test_retention_moves_a_reader_to_the_first_record() -> None:
    stage = ConsumerStage()
    stage.append(range(5))
    stage.topic.partitions[0].remove_before(3)

    def work() -> None:
        member = reader(stage, 1)
        member.poll(2)
        assert member.values == ["3", "4"]
        assert member.consumer.get_watermark_offsets(at(0), cached=True) == (3, 5)
        stage.topic.partitions[0].remove_before(4)
        assert member.consumer.get_watermark_offsets(at(0), cached=True) == (4, 5)

    stage.run(work)


def test_truncation_is_found_when_the_leader_changes() -> None:
    stage = ConsumerStage()
    stage.append(range(10))

    def work() -> None:
        member = reader(stage)
        member.poll(2)
        stage.cluster.elect(TOPIC, 0, 2, truncate_to=0)
        stage.append([f"new {number}" for number in range(20)])
        member.poll(20)
        assert member.values[10:] == [f"new {number}" for number in range(20)], "also those below the old position"

    stage.run(work)


@pytest.mark.parametrize("epoch", [0, None])
def test_a_seek_with_its_epoch_finds_truncation(epoch: int | None) -> None:
    stage = ConsumerStage()
    stage.append(range(10))
    stage.cluster.elect(TOPIC, 0, 2, truncate_to=0)
    stage.append([f"new {number}" for number in range(20)])

    def work() -> None:
        member = reader(stage)
        member.poll(2, lambda: bool(member.values))
        extra: dict[str, Any] = {} if epoch is None else {"leader_epoch": epoch}
        member.consumer.seek(TopicPartition(TOPIC, 0, 10, **extra))
        member.poll(2)
        assert member.values[1] == ("new 0" if epoch == 0 else "new 10")

    stage.run(work)


def test_a_seek_needs_an_assigned_partition() -> None:
    stage = ConsumerStage()

    def work() -> None:
        with pytest.raises(KafkaException):
            stage.consumer().seek(at(0))

    stage.run(work)


def test_a_batch_that_cannot_be_read_comes_as_an_error_again_and_again() -> None:
    stage = ConsumerStage()
    stage.append(["a"])
    stage.topic.partitions[0].append_unreadable(5, KafkaError._BAD_COMPRESSION)
    stage.append(["b"])

    def work() -> None:
        member = reader(stage, 0)
        messages = [message for _ in range(20) if (message := member.consumer.poll(0.2)) is not None]
        assert messages[0].value() == b"a"
        errors = messages[1:]
        assert len(errors) > 2
        assert all(message.offset() == 1 for message in errors)
        assert {error.code() for message in errors if (error := message.error())} == {KafkaError._BAD_COMPRESSION}
        member.consumer.seek(at(6))
        member.poll(2)
        assert member.values == ["b"]

    stage.run(work)


def test_prefetching_is_bounded() -> None:
    stage = ConsumerStage()
    for _ in range(100):
        stage.append(["x" * 1000] * 10)

    def work() -> None:
        member = reader(stage, queued_max_messages_kbytes=64, max_partition_fetch_bytes=16_384)
        stage.sleep(5)
        queued = sum(len(chunk.records) for chunk in member.consumer._readers.queue)
        assert 60 < queued < 90
        member.poll(200, lambda: len(member.values) == 1000)
        assert len(member.values) == 1000

    stage.run(work)


def test_a_recreated_topic_is_read_on_at_the_old_offset() -> None:
    """As librdkafka does: the new topic's first records are skipped without a word."""
    stage = ConsumerStage()
    stage.append(range(10))

    def work() -> None:
        member = reader(stage)
        member.poll(2)
        stage.cluster.delete_topic(TOPIC)
        stage.cluster.create_topic(TOPIC)
        stage.append([f"new {number}" for number in range(15)])
        member.poll(20)
        assert member.values[10:] == [f"new {number}" for number in range(10, 15)]
        assert member.errors == []

    stage.run(work)


def test_a_recreated_topic_with_an_older_epoch_stands_still() -> None:
    """As librdkafka does: it keeps the higher leader epoch of the topic that was, and every fetch is refused."""
    stage = ConsumerStage()
    stage.cluster.elect(TOPIC, 0, 2)
    stage.append(range(10))

    def work() -> None:
        member = reader(stage)
        member.poll(2)
        stage.cluster.delete_topic(TOPIC)
        stage.cluster.create_topic(TOPIC)
        stage.append([f"new {number}" for number in range(15)])
        member.poll(60)
        assert member.values[10:] == []

    stage.run(work)


def test_a_topic_that_is_gone_is_told_once() -> None:
    stage = ConsumerStage()
    told: list[int] = []

    def work() -> None:
        member = reader(stage, error_cb=lambda error: told.append(error.code()))
        member.poll(40)
        stage.cluster.delete_topic(TOPIC)
        member.poll(40)
        assert told == [KafkaError._UNKNOWN_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART]
        assert member.errors == []

    stage.run(work)


def test_a_withdrawn_right_is_told_once_and_comes_back() -> None:
    stage = ConsumerStage()

    def work() -> None:
        member = reader(stage)
        member.poll(5)
        stage.cluster.acl.deny("topic", TOPIC, "Read")
        stage.append(["a"])
        member.poll(30)
        assert member.errors == [KafkaError.TOPIC_AUTHORIZATION_FAILED]
        stage.cluster.acl.allow("topic", TOPIC, "Read")
        member.poll(30)
        assert member.values == ["a"]

    stage.run(work)


def test_brokers_that_are_away_are_reported() -> None:
    stage = ConsumerStage()
    errors: list[int] = []

    def work() -> None:
        member = reader(stage, error_cb=lambda error: errors.append(error.code()))
        member.poll(5)
        for number in stage.cluster.brokers:
            stage.cluster.stop_broker(number)
        member.poll(120)
        assert KafkaError._ALL_BROKERS_DOWN in errors
        assert len(errors) < 300
        for number in stage.cluster.brokers:
            stage.cluster.start_broker(number)
        stage.append(["a"])
        member.poll(30)
        assert member.values == ["a"]
        assert member.errors == []

    stage.run(work)


def test_lost_answers_cost_time_and_nothing_else() -> None:
    stage = ConsumerStage(**{"socket.timeout.ms": 5_000})
    stage.append(range(5))
    stage.fates["Fetch"] = [Fate(is_answer_lost=True), Fate(is_request_lost=True)]

    def work() -> None:
        member = reader(stage)
        member.poll(30)
        assert member.values == ["0", "1", "2", "3", "4"]

    stage.run(work)


def test_bounds_and_times_are_asked_for() -> None:
    stage = ConsumerStage(2)
    log = stage.topic.partitions[0]
    log.append([NewRecord(None, b"a", (), 1_000), NewRecord(None, b"b", (), 2_000)])

    def work() -> None:
        consumer = stage.consumer()
        assert consumer.get_watermark_offsets(at(0), timeout=5) == (0, 2)
        found = consumer.offsets_for_times([at(1_500), at(3_000), at(0, 1)], timeout=5)
        assert [place.offset for place in found] == [1, -1, -1]
        mixed = consumer.offsets_for_times([at(0, 0), at(0, 9)], timeout=5)
        assert [place.error is None for place in mixed] == [True, False]
        with pytest.raises(KafkaException) as failed:
            consumer.offsets_for_times([at(0, 9)], timeout=5)
        assert failed.value.args[0].str() == "Failed to get offsets: Local: Unknown partition"
        with pytest.raises(KafkaException) as failed:
            consumer.get_watermark_offsets(TopicPartition("none", 0), timeout=5)
        assert failed.value.args[0].str() == "Failed to get watermark offsets: Local: Unknown partition"
        assert consumer.get_watermark_offsets(at(0), cached=True) == (OFFSET_INVALID, OFFSET_INVALID)
        stage.fates["ListOffsets"] = [Fate(error=KafkaError.NOT_LEADER_FOR_PARTITION)]
        assert consumer.offsets_for_times([at(0)], timeout=5)[0].error is not None
        assert list(consumer.list_topics(TOPIC, timeout=5).topics[TOPIC].partitions) == [0, 1]

    stage.run(work)


def test_the_end_begins_after_what_is_there() -> None:
    stage = ConsumerStage()
    stage.append(["old"])

    def work() -> None:
        member = reader(stage, OFFSET_END)
        member.poll(1)
        stage.append(["new"])
        member.poll(1)
        assert member.values == ["new"]

    stage.run(work)


def test_another_thread_waits_for_the_one_inside() -> None:
    stage = ConsumerStage()
    times: list[float] = []

    def work() -> None:
        consumer = reader(stage).consumer
        begun = stage.scheduler.now

        def close() -> None:
            consumer.close()
            times.append(stage.scheduler.now - begun)

        host = next(iter(stage.scheduler.hosts.values()))
        host.start(close)
        assert consumer.poll(3) is None
        stage.sleep(1)
        with pytest.raises(RuntimeError):
            consumer.poll(1)

    stage.run(work)
    assert times == [pytest.approx(3.0)]


def test_names_of_headers_that_are_not_utf8() -> None:
    stage = ConsumerStage()
    stage.topic.partitions[0].append([NewRecord(None, b"a", ((b"\xff", b"1"), ("name", b"2")))])

    def work() -> None:
        message = reader(stage).consumer.poll(5)
        assert message is not None
        with pytest.raises(SystemError):
            message.headers()
        assert message.headers() == [(b"1",), ("name", b"2")]

    stage.run(work)
