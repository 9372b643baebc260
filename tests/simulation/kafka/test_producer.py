from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from tests.kafka.test_partitioner import MURMUR2
from tests.simulation.kafka.client import bound_to
from tests.simulation.kafka.cluster import Cluster
from tests.simulation.kafka.network import Fate
from tests.simulation.kafka.partitioner import murmur2
from tests.simulation.kafka.producer import SimProducer
from tests.simulation.scheduler import Condition, Host, Scheduler

Report = tuple[int | None, int | None, int | None]
"""Error code, partition and offset of a delivery report."""


class Stage:
    """A cluster with one topic, and one host with a producer."""

    def __init__(self, **properties: Any) -> None:
        self.scheduler = Scheduler()
        self.cluster = Cluster(self.scheduler, random.Random(1))
        self.cluster.create_topic("events")
        self.properties = {name.replace("_", "."): value for name, value in properties.items()}
        self.reports: list[Report] = []
        self.fates: list[Fate] = []
        """Of the next Produce requests."""
        self.cluster.network.faults = self.fate_of

    def fate_of(self, api: str, _host: object, _broker: int) -> Fate:
        return self.fates.pop(0) if api == "Produce" and self.fates else Fate()

    def producer(self, **more: Any) -> SimProducer:
        return bound_to(SimProducer, self.cluster, self.scheduler)({**self.properties, **more})

    def note(self, error: Any, message: Any) -> None:
        self.reports.append((None if error is None else error.code(), message.partition(), message.offset()))

    def sleep(self, secs: float) -> None:
        Condition(self.scheduler).wait(secs)

    def run(self, function: Callable[[], object], secs: float = 1_000.0) -> Host:
        host = self.scheduler.host(f"host-{len(self.scheduler.hosts)}")
        host.start(function)
        self.scheduler.run(self.scheduler.now + secs)
        return host

    def values(self, partition: int = 0) -> list[bytes | None]:
        found = self.cluster.topics["events"].partitions[partition].read(0, committed_only=True)
        return [record.value for record in found.records]


def test_records_are_written_in_order_and_reported_once() -> None:
    stage = Stage()

    def work() -> None:
        producer = stage.producer()
        for number in range(3):
            producer.produce("events", str(number), b"key", on_delivery=stage.note)
        assert len(producer) == 3
        assert producer.flush(10) == 0
        assert producer.poll(0) == 0

    stage.run(work)
    assert stage.reports == [(None, 0, 0), (None, 0, 1), (None, 0, 2)]
    assert stage.values() == [b"0", b"1", b"2"]


def test_poll_waits_for_a_report_or_for_its_time() -> None:
    stage = Stage(linger_ms=100)
    seen: list[tuple[int, float]] = []

    def work() -> None:
        producer = stage.producer()
        producer.produce("events", b"v", on_delivery=stage.note)
        for secs in (0.05, 10.0, 2.0):
            served = producer.poll(secs)
            seen.append((served, round(stage.scheduler.now - 1_000, 2)))

    stage.run(work)
    assert seen == [(0, 0.05), (1, 0.1), (0, 2.1)]


@pytest.mark.parametrize(
    "fate",
    [Fate(is_answer_lost=True), Fate(is_request_lost=True), Fate(error=KafkaError.NOT_LEADER_FOR_PARTITION)],
    ids=["answer lost", "request lost", "refused"],
)
def test_a_failed_request_is_repeated_and_writes_once(fate: Fate) -> None:
    stage = Stage(delivery_timeout_ms=120_000, socket_timeout_ms=5_000)
    stage.fates = [fate, fate]

    def work() -> None:
        producer = stage.producer()
        producer.produce("events", b"a", on_delivery=stage.note)
        producer.poll(1.0)
        producer.produce("events", b"b", on_delivery=stage.note)
        producer.flush()

    stage.run(work)
    assert stage.values() == [b"a", b"b"]
    assert [report[0] for report in stage.reports] == [None, None]


def test_a_record_that_was_never_acknowledged_times_out_although_it_was_written() -> None:
    stage = Stage(delivery_timeout_ms=3_000)
    stage.fates = [Fate(is_answer_lost=True)]

    def work() -> None:
        producer = stage.producer()
        producer.produce("events", b"a", on_delivery=stage.note)
        producer.flush()
        assert stage.scheduler.now == pytest.approx(1_003.0, abs=0.2)
        producer.produce("events", b"b", on_delivery=stage.note)
        producer.flush()

    stage.run(work)
    assert stage.reports == [(KafkaError._MSG_TIMED_OUT, 0, None), (None, 0, 1)]
    assert stage.values() == [b"a", b"b"]


def test_records_wait_for_brokers_that_are_away() -> None:
    stage = Stage(delivery_timeout_ms=600_000)

    def work() -> None:
        producer = stage.producer()
        producer.produce("events", b"a", on_delivery=stage.note)
        producer.flush()
        for number in stage.cluster.brokers:
            stage.cluster.stop_broker(number)
        producer.produce("events", b"b", on_delivery=stage.note)
        assert producer.flush(120) == 1
        for number in stage.cluster.brokers:
            stage.cluster.start_broker(number)
        assert producer.flush(10) == 0

    stage.run(work)
    assert stage.values() == [b"a", b"b"]


def test_an_unknown_topic_fails_after_the_time_for_its_propagation() -> None:
    stage = Stage(topic_metadata_propagation_max_ms=2_000)

    def work() -> None:
        producer = stage.producer()
        producer.produce("nothing", b"a", on_delivery=stage.note)
        producer.flush()
        assert 1_002 <= stage.scheduler.now < 1_004
        with pytest.raises(KafkaException) as unknown:
            producer.produce("nothing", b"b")
        assert unknown.value.args[0].code() == KafkaError._UNKNOWN_TOPIC
        stage.cluster.create_topic("nothing")
        producer.poll(1.5)
        producer.produce("nothing", b"c", on_delivery=stage.note)
        producer.flush()

    stage.run(work)
    assert stage.reports == [(KafkaError.UNKNOWN_TOPIC_OR_PART, None, None), (None, 0, 0)]


def test_a_topic_that_is_deleted_fails_its_records_and_is_found_again() -> None:
    stage = Stage(topic_metadata_propagation_max_ms=2_000)

    def work() -> None:
        producer = stage.producer()
        producer.produce("events", b"a", b"k", on_delivery=stage.note)
        producer.flush()
        stage.sleep(3)
        stage.cluster.delete_topic("events")
        producer.produce("events", b"b", b"k", on_delivery=stage.note)
        producer.produce("events", b"c", partition=0, on_delivery=stage.note)
        producer.flush()
        stage.cluster.create_topic("events")
        stage.sleep(2)
        producer.produce("events", b"d", on_delivery=stage.note)
        producer.flush()

    stage.run(work)
    failed = sorted(str(report[0]) for report in stage.reports[1:3])
    assert failed == [str(KafkaError._UNKNOWN_PARTITION), str(KafkaError.UNKNOWN_TOPIC_OR_PART)]
    assert stage.reports[3] == (None, 0, 0)


def test_a_topic_that_may_not_be_written_fails_its_records_only() -> None:
    stage = Stage()
    stage.cluster.create_topic("other")
    stage.cluster.acl.deny("topic", "other", "Write")

    def work() -> None:
        producer = stage.producer()
        producer.produce("other", b"a", on_delivery=stage.note)
        producer.produce("events", b"b", on_delivery=stage.note)
        producer.flush()
        stage.cluster.acl.allow("topic", "other", "Write")
        producer.produce("other", b"c", on_delivery=stage.note)
        producer.flush()

    stage.run(work)
    assert sorted(str(report[0]) for report in stage.reports) == ["29", "None", "None"]


def test_a_record_above_the_topics_limit_is_refused_with_its_batch() -> None:
    stage = Stage()
    stage.cluster.set_config("events", max_message_bytes="1000")

    def work() -> None:
        producer = stage.producer(linger_ms=10)
        producer.produce("events", b"small", on_delivery=stage.note)
        producer.produce("events", b"x" * 2_000, on_delivery=stage.note)
        producer.flush()
        producer.produce("events", b"small", on_delivery=stage.note)
        producer.flush()

    stage.run(work)
    assert [report[0] for report in stage.reports] == [KafkaError.MSG_SIZE_TOO_LARGE] * 2 + [None]


def test_a_full_queue_and_an_oversized_record_raise_at_once() -> None:
    stage = Stage(queue_buffering_max_messages=1, message_max_bytes=500)

    def work() -> None:
        producer = stage.producer()
        with pytest.raises(KafkaException) as refused:
            producer.produce("events", b"x" * 1_000)
        assert refused.value.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE
        producer.produce("events", b"a")
        with pytest.raises(BufferError):
            producer.produce("events", b"b")
        producer.flush()
        with pytest.raises(KafkaException) as unknown:
            producer.produce("events", b"b", partition=7)
        assert unknown.value.args[0].code() == KafkaError._UNKNOWN_PARTITION

    stage.run(work)
    assert stage.values() == [b"a"]


def test_lost_sequence_numbers_are_a_fatal_error() -> None:
    stage = Stage()

    def work() -> None:
        producer = stage.producer()
        for value in (b"a", b"b", b"c"):
            producer.produce("events", value, on_delivery=stage.note)
            producer.flush()
        stage.cluster.elect("events", 0, leader=2, truncate_to=1)
        producer.produce("events", b"d", on_delivery=stage.note)
        assert producer.flush(0) == 1
        with pytest.raises(KafkaException) as fatal:
            producer.poll(10.0)
        assert fatal.value.args[0].fatal()
        with pytest.raises(KafkaException) as refused:
            producer.produce("events", b"e")
        assert refused.value.args[0].code() == KafkaError._FATAL
        producer.purge()
        assert producer.flush(1.0) == 0

    stage.run(work)
    assert stage.reports[3] == (KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, 0, None)


def test_purged_records_are_reported() -> None:
    stage = Stage()
    stage.fates = [Fate(is_answer_lost=True)]

    def work() -> None:
        producer = stage.producer(linger_ms=0)
        producer.produce("events", b"a", on_delivery=stage.note)
        producer.poll(1.0)
        producer.produce("events", b"b", on_delivery=stage.note)
        producer.purge()
        assert producer.flush(1.0) == 0
        producer.produce("events", b"c", on_delivery=stage.note)
        producer.flush()

    stage.run(work)
    assert [report[0] for report in stage.reports] == [KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT, None]
    assert stage.values() == [b"a", b"c"]


def test_a_producer_that_reports_errors_only_counts_what_is_on_its_way() -> None:
    stage = Stage()

    def work() -> None:
        producer = stage.producer(**{"delivery.report.only.error": True, "on_delivery": stage.note})
        producer.produce("events", b"a")
        assert len(producer) == 1
        producer.flush()
        assert len(producer) == 0

    stage.run(work)
    assert stage.reports == []
    assert stage.values() == [b"a"]


@pytest.mark.parametrize(("key", "expected"), MURMUR2.items())
def test_keys_hash_as_in_java(key: str, expected: int) -> None:
    assert murmur2(key.encode()) == expected % 2**32


def test_a_killed_host_sends_nothing_more() -> None:
    stage = Stage(linger_ms=100)

    def work() -> None:
        producer = stage.producer()
        producer.produce("events", b"a")
        producer.poll(10.0)

    host = stage.run(work, 0.05)
    host.kill()
    stage.scheduler.run(stage.scheduler.now + 10)
    assert stage.values() == []
