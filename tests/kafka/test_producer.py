"""The attempts log's way into Kafka: it waits for a broker that is away, and counts what it could not write."""

from __future__ import annotations

import asyncio

import pytest
from confluent_kafka import KafkaError, Producer

from pushrail_stream.kafka.client_properties import copies_producer
from pushrail_stream.kafka.producer import KafkaLog
from pushrail_stream.kafka.scan import Scan
from pushrail_stream.settings.client import ClientProperties
from pushrail_stream.settings.model import KafkaSettings
from tests.support.kafka.breakable import ApiKey, BreakableBroker
from tests.support.workers import until


async def test_the_log_catches_up_after_a_long_outage() -> None:
    with BreakableBroker.start({"log": 2}) as broker:
        options = KafkaSettings(
            bootstrap_servers=broker.bootstrap_servers, client=ClientProperties({"reconnect.backoff.max.ms": 200})
        )
        async with KafkaLog(options, "log") as log:
            broker.set_broker_down(1)
            for number in range(100):
                log.append(b"key", str(number).encode())
            other, failed = Producer(copies_producer(options) | {"delivery.timeout.ms": 500}), list[str]()
            other.produce("log", b"other", on_delivery=lambda error, _: failed.append(str(error)))
            await asyncio.to_thread(other.flush, 30)
            assert len(failed) == 1
            broker.set_broker_up(1)
            await until(lambda: log.waiting == 0)
            assert log.lost == 0
        with Scan(options, "log") as scan:
            assert sorted(int(r.value or b"") for batch in scan for r in batch) == list(range(100))


async def test_records_are_handed_over_together() -> None:
    with BreakableBroker.start({"log": 2}) as broker:
        async with KafkaLog(KafkaSettings(bootstrap_servers=broker.bootstrap_servers), "log") as log:
            for number in range(299):
                log.append(b"key", str(number).encode())
            assert (len(log._burst), log.waiting) == (299, 299)
            log.append(b"key", b"299")
            assert (log._burst, log.waiting) == ([], 300)
            log.append(b"key", b"300")
            assert len(log._burst) == 1
            await until(lambda: not log._burst)
            log.append(b"key", b"301")  # the end does not wait for others
        assert (log.lost, log.waiting) == (0, 0)
        with Scan(KafkaSettings(bootstrap_servers=broker.bootstrap_servers), "log") as scan:
            assert sorted(int(r.value or b"") for batch in scan for r in batch) == list(range(302))


def served(log: KafkaLog) -> bool:
    """Take the errors of the lost connection, which librdkafka counts beside its records and which may come late."""
    return log._producer.poll(0) >= 0


@pytest.mark.parametrize("answers_late", [True, False], ids=["sent, no answer", "not sent"])
async def test_records_left_at_the_end_count_as_lost(monkeypatch: pytest.MonkeyPatch, *, answers_late: bool) -> None:
    monkeypatch.setattr(KafkaLog, "flush_secs", 0.5)
    with BreakableBroker.start({"log": 2}) as broker:
        async with KafkaLog(KafkaSettings(bootstrap_servers=broker.bootstrap_servers), "log") as log:
            log.append(b"key", b"first")
            await until(lambda: log.waiting == 0)
            if answers_late:
                broker.set_rtt(1, 60_000)
            else:
                broker.set_broker_down(1)
            for number in range(100):
                log.append(b"key", str(number).encode())
        assert log.lost == 100
        await until(lambda: served(log) and log.waiting == 0)


async def test_a_fatal_error_that_comes_at_the_end_reaches_no_caller() -> None:
    with BreakableBroker.start({"log": 1}) as broker:
        async with KafkaLog(KafkaSettings(bootstrap_servers=broker.bootstrap_servers), "log") as log:
            log.append(b"key", b"first")
            await until(lambda: log.waiting == 0)
            log._stopping.set()  # as at the end, so that nothing is polled any more
            await asyncio.to_thread(log._thread.join)
            broker.push_request_errors(ApiKey.PRODUCE, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER)
            log.append(b"key", b"second")
            await until(lambda: log.waiting > 1)
        assert log.lost == 1
