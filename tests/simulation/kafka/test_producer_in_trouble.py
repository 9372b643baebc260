"""The simulated producer amid random faults keeps the promises of an idempotent one."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from tests.simulation.kafka.network import Fate
from tests.simulation.kafka.producer import SimProducer
from tests.simulation.kafka.test_producer import Stage

PARTITIONS = 3
RECORDS = 150
ERRORS = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.NOT_ENOUGH_REPLICAS,
    KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    KafkaError.REQUEST_TIMED_OUT,
)


class Trouble(Stage):
    """A stage with three partitions, on which requests fail and brokers are away."""

    def __init__(self, seed: int, *, timeout_ms: int) -> None:
        super().__init__(delivery_timeout_ms=timeout_ms, socket_timeout_ms=2_000, linger_ms=5)
        self.cluster.add_partitions("events", PARTITIONS)
        self.dice = random.Random(seed)
        self.reported: Counter[bytes] = Counter()
        self.acknowledged: dict[bytes, tuple[int, int]] = {}
        self.cluster.network.faults = self.any_fate

    def any_fate(self, _api: str, _host: object, _broker: int) -> Fate:
        dice = self.dice
        way = dice.choice((0.001, 0.01, 0.5))
        fates = (
            Fate(is_request_lost=True),
            Fate(is_answer_lost=True),
            Fate(error=dice.choice(ERRORS)),
            Fate(throttle_secs=1.0),
        )
        return dice.choice(fates) if dice.random() < 0.3 else Fate(way, way)

    def disturb(self) -> None:
        number = self.dice.choice(list(self.cluster.brokers))
        down = [broker for broker in self.cluster.brokers if not self.cluster.is_up(broker)]
        if down:
            self.cluster.start_broker(down[0])
        elif self.dice.random() < 0.5:
            self.cluster.stop_broker(number)
        else:
            log = self.dice.choice(self.cluster.topics["events"].partitions)
            self.cluster.elect("events", log.number, self.dice.choice(list(self.cluster.brokers)))

    def produce(self, producer: SimProducer, number: int) -> None:
        value = f"{number}".encode()

        def report(error: Any, message: Any) -> None:
            self.reported[value] += 1
            if error is None:
                self.acknowledged[value] = (message.partition(), message.offset())

        producer.produce("events", value, str(self.dice.random()), on_delivery=report)

    def work(self) -> None:
        producer = self.producer()
        for number in range(RECORDS):
            self.produce(producer, number)
            producer.poll(self.dice.choice((0, 0.01, 0.5)))
            if self.dice.random() < 0.1:
                self.disturb()
        for number in self.cluster.brokers:
            self.cluster.start_broker(number)
        assert producer.flush(900) == 0

    def in_log(self) -> dict[tuple[int, int], bytes]:
        logs = self.cluster.topics["events"].partitions
        return {(log.number, record.offset): record.value or b"" for log in logs for record in log.records}


@pytest.mark.parametrize("seed", range(12))
def test_patience_writes_everything_once_and_in_order(seed: int) -> None:
    stage = Trouble(seed, timeout_ms=800_000)
    stage.run(stage.work, 2_000)
    found = stage.in_log()
    assert set(stage.reported.values()) == {1}
    assert len(stage.acknowledged) == RECORDS
    assert {value: place for place, value in found.items()} == stage.acknowledged
    assert len(found) == RECORDS
    for partition in range(PARTITIONS):
        numbers = [int(value) for (number, _), value in sorted(found.items()) if number == partition]
        assert numbers == sorted(numbers)


@pytest.mark.parametrize("seed", range(12))
def test_impatience_reports_each_record_once_and_loses_no_acknowledged_one(seed: int) -> None:
    stage = Trouble(seed, timeout_ms=3_000)
    stage.run(stage.work, 2_000)
    found = stage.in_log()
    assert set(stage.reported.values()) == {1}
    assert len(stage.reported) == RECORDS
    assert 0 < len(stage.acknowledged) < RECORDS
    for value, place in stage.acknowledged.items():
        assert found[place] == value


class Transactions(Trouble):
    """Transactions of three records each, one after another, by producers that are replaced when one fails."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, timeout_ms=15_000)
        self.committed: dict[str, None] = {}
        self.unknown: dict[str, None] = {}
        """Transactions of which the commit's result is not known."""

    def any_fate(self, api: str, host: object, broker: int) -> Fate:
        fate = super().any_fate(api, host, broker)
        if fate.error is None or api == "Produce":
            return fate
        return Fate(error=self.dice.choice((KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS)))

    def work(self) -> None:
        producer = None
        for number in range(30):
            producer = self.write(producer or self.new_producer(), f"{number}")
            if self.dice.random() < 0.3:
                self.disturb()
        for broker in self.cluster.brokers:
            self.cluster.start_broker(broker)

    def new_producer(self) -> SimProducer:
        producer = self.producer(**{"transactional.id": "t", "transaction.timeout.ms": 15_000})
        producer.init_transactions(300)
        return producer

    def write(self, producer: SimProducer, name: str) -> SimProducer | None:
        producer.begin_transaction()
        for index in range(3):
            producer.produce("events", name, f"{index}")
        try:
            producer.commit_transaction(15)
        except KafkaException as error:
            if not error.args[0].txn_requires_abort():
                self.unknown[name] = None
            return None
        self.committed[name] = None
        return producer


@pytest.mark.parametrize("seed", range(12))
def test_transactions_are_whole_or_not_there(seed: int) -> None:
    stage = Transactions(seed)
    stage.run(stage.work, 5_000)
    logs = stage.cluster.topics["events"].partitions
    assert all(log.last_stable == log.end for log in logs)
    visible = Counter(
        (record.value or b"").decode()
        for log in logs
        for record in log.read(0, committed_only=True, max_bytes=2**30).records
    )
    assert stage.committed
    assert set(visible.values()) == {3}
    assert set(stage.committed) <= set(visible) <= {*stage.committed, *stage.unknown}
