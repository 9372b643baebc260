from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from tests.simulation.kafka.broker import Batch
from tests.simulation.kafka.network import Fate
from tests.simulation.kafka.partition_log import NewRecord
from tests.simulation.kafka.producer import SimProducer
from tests.simulation.kafka.test_producer import Stage


def transactional(stage: Stage, **more: Any) -> SimProducer:
    producer = stage.producer(**{"transactional.id": "replay", "transaction.timeout.ms": 15_000}, **more)
    producer.init_transactions(30)
    return producer


def write(producer: SimProducer, *values: bytes) -> None:
    producer.begin_transaction()
    for value in values:
        producer.produce("events", value)
    producer.commit_transaction(30)


def test_committed_records_appear_together() -> None:
    stage = Stage()

    def work() -> None:
        producer = transactional(stage)
        producer.begin_transaction()
        producer.produce("events", b"a")
        producer.flush()
        assert stage.values() == []
        producer.produce("events", b"b")
        producer.commit_transaction(30)
        write(producer, b"c")

    stage.run(work)
    assert stage.values() == [b"a", b"b", b"c"]
    assert stage.cluster.topics["events"].partitions[0].end == 5  # with two markers


def test_aborted_records_stay_invisible() -> None:
    stage = Stage()

    def work() -> None:
        producer = transactional(stage)
        producer.begin_transaction()
        producer.produce("events", b"a")
        producer.flush()
        producer.abort_transaction(30)
        write(producer, b"b")

    stage.run(work)
    assert stage.values() == [b"b"]


def test_a_new_producer_of_the_same_name_ends_the_one_before() -> None:
    stage = Stage()

    def work() -> None:
        older = transactional(stage)
        older.begin_transaction()
        older.produce("events", b"a")
        older.flush()
        newer = transactional(stage)
        with pytest.raises(KafkaException) as fenced:
            older.commit_transaction(30)
        assert fenced.value.args[0].code() == KafkaError._FENCED
        assert fenced.value.args[0].fatal()
        write(newer, b"b")

    stage.run(work)
    assert stage.values() == [b"b"]


def test_a_failed_record_requires_an_abort() -> None:
    stage = Stage()
    stage.cluster.set_config("events", max_message_bytes="1000")

    def work() -> None:
        producer = transactional(stage, **{"message.max.bytes": 10_000})
        producer.begin_transaction()
        producer.produce("events", b"x" * 2_000)
        with pytest.raises(KafkaException) as failed:
            producer.commit_transaction(30)
        assert failed.value.args[0].txn_requires_abort()
        assert failed.value.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE
        producer.abort_transaction(30)
        write(producer, b"b")

    stage.run(work)
    assert stage.values() == [b"b"]


def test_a_commit_without_an_answer_is_repeated_and_counts_once() -> None:
    stage = Stage(socket_timeout_ms=60_000)
    lost = [Fate(is_answer_lost=True)]
    stage.cluster.network.faults = lambda api, _host, _broker: lost.pop() if api == "EndTxn" and lost else Fate()

    def work() -> None:
        producer = transactional(stage)
        producer.begin_transaction()
        producer.produce("events", b"a")
        with pytest.raises(KafkaException) as late:
            producer.commit_transaction(30)
        assert late.value.args[0].retriable()
        assert stage.values() == [b"a"]
        producer.commit_transaction(30)
        write(producer, b"b")

    stage.run(work)
    assert stage.values() == [b"a", b"b"]


def test_an_abandoned_transaction_is_aborted_in_time() -> None:
    stage = Stage()

    def work() -> None:
        producer = transactional(stage)
        producer.begin_transaction()
        producer.produce("events", b"a")
        producer.flush()

    host = stage.run(work, 5)
    host.kill()
    log = stage.cluster.topics["events"].partitions[0]
    log.append([])
    assert log.last_stable == 0
    stage.scheduler.run(stage.scheduler.now + 15)
    assert log.last_stable == log.end
    assert stage.values() == []


def test_calls_out_of_order_are_refused() -> None:
    stage = Stage()

    def code_of(call: Callable[[], object]) -> int:
        with pytest.raises(KafkaException) as refused:
            call()
        code: int = refused.value.args[0].code()
        return code

    def work() -> None:
        producer = transactional(stage)
        assert code_of(lambda: producer.produce("events", b"a")) == KafkaError._STATE
        assert code_of(lambda: producer.commit_transaction(5)) == KafkaError._STATE
        assert code_of(lambda: producer.abort_transaction(5)) == KafkaError._STATE
        producer.begin_transaction()
        assert code_of(producer.begin_transaction) == KafkaError._STATE
        assert code_of(stage.producer().begin_transaction) == KafkaError._NOT_CONFIGURED

    stage.run(work)


def test_a_record_that_was_not_delivered_requires_an_abort() -> None:
    stage = Stage()

    def work() -> None:
        producer = transactional(stage, **{"topic.metadata.propagation.max.ms": 3_000})
        producer.begin_transaction()
        producer.produce("missing", b"a")
        with pytest.raises(KafkaException) as failed:
            producer.commit_transaction(30)
        assert failed.value.args[0].code() == KafkaError._INCONSISTENT
        assert failed.value.args[0].txn_requires_abort()
        producer.abort_transaction(30)
        write(producer, b"b")

    stage.run(work)
    assert stage.values() == [b"b"]


def test_a_transaction_that_took_too_long_fences_its_producer() -> None:
    stage = Stage()

    def work() -> None:
        producer = transactional(stage)
        producer.begin_transaction()
        producer.produce("events", b"a")
        producer.flush()
        stage.sleep(20)
        producer.produce("events", b"b")
        with pytest.raises(KafkaException) as fenced:
            producer.commit_transaction(30)
        assert fenced.value.args[0].code() == KafkaError._FENCED

    stage.run(work)
    assert stage.values() == []


def test_a_commit_waits_for_brokers_that_are_away() -> None:
    stage = Stage()

    def work() -> None:
        producer = transactional(stage)
        producer.begin_transaction()
        producer.produce("events", b"a")
        producer.flush()
        for number in stage.cluster.brokers:
            stage.cluster.stop_broker(number)
        with pytest.raises(KafkaException) as late:
            producer.commit_transaction(4)
        assert late.value.args[0].code() == KafkaError._TIMED_OUT
        assert late.value.args[0].retriable()
        with pytest.raises(KafkaException) as conflict:
            producer.abort_transaction(4)
        assert conflict.value.args[0].code() == KafkaError._CONFLICT
        for number in stage.cluster.brokers:
            stage.cluster.start_broker(number)
        producer.commit_transaction(5)

    stage.run(work)
    assert stage.values() == [b"a"]


def test_a_transaction_ends_in_the_topic_that_was_created_again_within_it() -> None:
    stage = Stage()

    def work() -> None:
        producer = transactional(stage)
        producer.begin_transaction()
        producer.produce("events", b"a")
        producer.flush()
        stage.cluster.delete_topic("events")
        stage.cluster.create_topic("events")
        producer.produce("events", b"b")
        producer.commit_transaction(30)

    stage.run(work)
    log = stage.cluster.topics["events"].partitions[0]
    assert stage.values() == [b"b"]
    assert log.last_stable == log.end == 2  # with the marker


def test_the_marker_for_a_deleted_topic_is_dropped() -> None:
    stage = Stage()

    def work() -> None:
        producer = transactional(stage)
        producer.begin_transaction()
        producer.produce("events", b"a")
        producer.flush()
        stage.cluster.delete_topic("events")
        producer.commit_transaction(30)
        stage.cluster.create_topic("events")
        write(producer, b"b")

    stage.run(work)
    assert stage.values() == [b"b"]


def test_a_batch_after_the_end_of_its_transaction_is_refused() -> None:
    stage = Stage()
    transactions, log = stage.cluster.transactions, stage.cluster.topics["events"].partitions[0]
    producer = transactions.init_producer("replay", 15.0)
    assert isinstance(producer, tuple)
    batch = Batch([NewRecord(None, b"late")], producer, 0, is_transactional=True)
    assert log.leader is not None
    leader = stage.cluster.brokers[log.leader]
    assert leader.produce("events", 0, batch).error == KafkaError.INVALID_TXN_STATE
    assert transactions.add_partition("replay", producer, ("events", 0)) is None
    assert transactions.end("replay", producer, is_committed=False) is None
    assert leader.produce("events", 0, batch).error == KafkaError.NOT_ENOUGH_REPLICAS
    stage.scheduler.run(stage.scheduler.now + 1)
    assert leader.produce("events", 0, batch).error == KafkaError.INVALID_TXN_STATE
    assert transactions.add_partition("replay", producer, ("events", 0)) is None
    stage.scheduler.run(stage.scheduler.now + 20)
    assert leader.produce("events", 0, batch).error == KafkaError.INVALID_PRODUCER_EPOCH
    unknown = batch._replace(producer=(7, 0))
    assert leader.produce("events", 0, unknown).error == KafkaError.INVALID_PRODUCER_ID_MAPPING
    assert log.last_stable == log.end
