"""Scans: a topic read from a time or from offsets, to its present end, by somebody who leaves no trace."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import UTC, datetime

import pytest
from confluent_kafka import KafkaError, Producer

from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka import scan as module
from pushrail_stream.kafka.scan import Scan
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.settings.model import KafkaSettings
from tests.support.kafka import topics
from tests.support.kafka.breakable import ApiKey, BreakableBroker
from tests.support.kafka.fixtures import NewTopic
from tests.support.kafka.wire import write_raw

pytestmark = pytest.mark.kafka
HOUR_MS = 3_600_000
NOON_MS = int(datetime.now(UTC).timestamp()) * 1000 - 12 * HOUR_MS
"""Half a day ago: Kafka takes no records from the future, and drops old ones."""


def write(bootstrap: str, topic: str, numbers: Iterable[int], *, partition: int = 0) -> None:
    """Records of these numbers, each an hour after noon times its number."""
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0})
    for number in numbers:
        at = NOON_MS + number * HOUR_MS
        producer.produce(topic, str(number).encode(), b"k", partition, timestamp=at, headers=[("h", b"v")])
    assert producer.flush(30) == 0


def numbers(scan: Scan) -> list[int]:
    with scan:
        return sorted(int(record.value or b"") for batch in scan for record in batch)


def test_a_scan_reads_to_the_present_end(kafka_bootstrap: str, new_topic: NewTopic) -> None:
    topic = new_topic(partitions=3)
    write(kafka_bootstrap, topic, range(5), partition=0)
    write(kafka_bootstrap, topic, range(5, 8), partition=2)
    with Scan(KafkaSettings(bootstrap_servers=kafka_bootstrap), topic) as scan:
        assert scan.progress == (0, 8)
        found = [record for batch in scan for record in batch]
        assert scan.progress == (8, 8)
        assert scan.positions == {0: 5, 1: 0, 2: 3}
    assert sorted(int(record.value or b"") for record in found) == list(range(8))
    first = next(record for record in found if record.value == b"5")
    assert (first.partition, first.offset, first.key, first.headers) == (2, 0, b"k", (("h", b"v"),))
    assert first.timestamp_ms == NOON_MS + 5 * HOUR_MS


def test_an_empty_topic_ends_at_once(kafka_bootstrap: str, new_topic: NewTopic) -> None:
    assert numbers(Scan(KafkaSettings(bootstrap_servers=kafka_bootstrap), new_topic(partitions=2))) == []


@pytest.mark.parametrize(
    ("since", "start", "found"),
    [
        (None, None, range(10)),
        (4, None, range(4, 10)),
        (99, None, range(0)),
        (4, 2, range(4, 10)),
        (4, 7, range(7, 10)),
        (None, 7, range(7, 10)),
    ],
)
def test_a_scan_starts_at_a_time_or_an_offset(
    real_kafka: str, request: pytest.FixtureRequest, since: int | None, start: int | None, found: range
) -> None:
    topic = topics.unique_name("scan")
    topics.create_topic(real_kafka, topic, partitions=1)
    request.addfinalizer(lambda: topics.delete_topics(real_kafka, [topic]))
    write(real_kafka, topic, range(10))
    # Kafka's own slack is a minute; half an hour before is far outside of it.
    since_ms = None if since is None else NOON_MS + since * HOUR_MS - HOUR_MS // 2
    starts = None if start is None else {0: start}
    assert numbers(Scan(KafkaSettings(bootstrap_servers=real_kafka), topic, since_ms=since_ms, starts=starts)) == list(
        found
    )


def test_a_scan_reads_everything_where_kafka_looks_up_no_times(embedded_broker: EmbeddedBroker) -> None:
    topic, bootstrap = topics.unique_name("scan"), embedded_broker.bootstrap_servers
    embedded_broker.create_topic(topic, 2)
    write(bootstrap, topic, range(10))
    assert numbers(Scan(KafkaSettings(bootstrap_servers=bootstrap), topic, since_ms=NOON_MS)) == list(range(10))


def test_a_scan_from_1970_has_untimed_records(real_kafka: str) -> None:
    # By default Kafka deletes records of 1970 as soon as it looks for old ones.
    with topics.fresh_topic(real_kafka, "scan", config={"retention.ms": "-1"}) as topic:
        for number, at_ms in enumerate((-1, 0, 1, -1)):
            write_raw(real_kafka, topic, b"key", str(number).encode(), [], at_ms=at_ms)
        assert numbers(Scan(KafkaSettings(bootstrap_servers=real_kafka), topic, since_ms=0)) == [0, 1, 2, 3]


def test_start_offsets_are_clamped(kafka_bootstrap: str, new_topic: NewTopic) -> None:
    topic = new_topic(partitions=2)
    write(kafka_bootstrap, topic, range(5), partition=0)
    write(kafka_bootstrap, topic, range(5, 8), partition=1)
    options = KafkaSettings(bootstrap_servers=kafka_bootstrap)
    assert numbers(Scan(options, topic, starts={0: 3})) == [3, 4, 5, 6, 7]
    assert numbers(Scan(options, topic, starts={0: 99, 1: 2})) == [7]
    assert numbers(Scan(options, topic, starts={0: 5, 1: 3})) == []


def test_later_records_are_left_out(kafka_bootstrap: str, new_topic: NewTopic) -> None:
    topic = new_topic()
    write(kafka_bootstrap, topic, range(3))
    scan = Scan(KafkaSettings(bootstrap_servers=kafka_bootstrap), topic)
    write(kafka_bootstrap, topic, range(3, 6))
    assert numbers(scan) == [0, 1, 2]


def test_a_following_scan_never_ends(kafka_bootstrap: str, new_topic: NewTopic) -> None:
    topic = new_topic()
    write(kafka_bootstrap, topic, range(3))
    found: list[int] = []
    with Scan(KafkaSettings(bootstrap_servers=kafka_bootstrap), topic, follow=True) as scan:
        later = threading.Timer(0.5, write, [kafka_bootstrap, topic, range(3, 6)])
        later.start()
        for batch in scan:
            found += [int(record.value or b"") for record in batch]
            if len(found) == 6:
                break
        later.join()
    assert found == list(range(6))


def test_uncommitted_records_are_ignored(real_kafka: str, request: pytest.FixtureRequest) -> None:
    topic = topics.unique_name("scan")
    topics.create_topic(real_kafka, topic, partitions=1)
    request.addfinalizer(lambda: topics.delete_topics(real_kafka, [topic]))
    producer = Producer({"bootstrap.servers": real_kafka, "transactional.id": topic, "log_level": 0})
    producer.init_transactions(30)
    for number, commits in ((1, True), (2, False), (3, True), (4, False)):
        producer.begin_transaction()
        producer.produce(topic, str(number).encode())
        producer.flush(30)
        if commits:
            producer.commit_transaction(30)
        else:
            producer.abort_transaction(30)
    assert numbers(Scan(KafkaSettings(bootstrap_servers=real_kafka), topic)) == [1, 3]


def test_a_missing_topic_is_named(real_kafka: str) -> None:
    with pytest.raises(OperatorError, match=r"no-such-topic"):
        Scan(KafkaSettings(bootstrap_servers=real_kafka), "no-such-topic")


def test_an_unreachable_broker_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pushrail_stream.kafka.admin._TIMEOUT_SECS", 1.0)
    with pytest.raises(OperatorError, match=r"any cannot be read at 127.0.0.1:1"):
        Scan(KafkaSettings(bootstrap_servers="127.0.0.1:1"), "any")


def test_a_broker_lost_during_a_scan_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STALL_SECS", 2.0)
    with BreakableBroker.start({"scan": 1}) as broker:
        write(broker.bootstrap_servers, "scan", range(3))
        scan = Scan(KafkaSettings(bootstrap_servers=broker.bootstrap_servers), "scan")
        broker.set_broker_down(1)
        with pytest.raises(
            OperatorError, match=r"scan cannot be read at .*: nothing came for 2 s \(the last error: .+\)"
        ):
            numbers(scan)


def test_a_topic_forbidden_midway_is_named() -> None:
    with BreakableBroker.start({"scan": 1}) as broker:
        write(broker.bootstrap_servers, "scan", range(3))
        scan = Scan(KafkaSettings(bootstrap_servers=broker.bootstrap_servers), "scan")
        broker.push_request_errors(ApiKey.FETCH, *[KafkaError.TOPIC_AUTHORIZATION_FAILED] * 100)
        with pytest.raises(OperatorError, match=r"scan cannot be read at .*: .*authorization failed"):
            numbers(scan)


@pytest.mark.parametrize("follow", [True, False])
def test_a_topic_deleted_during_a_scan_is_named(real_kafka: str, *, follow: bool) -> None:
    topic = topics.unique_name("scan")
    topics.create_topic(real_kafka, topic, partitions=1)
    write(real_kafka, topic, range(3))
    with Scan(KafkaSettings(bootstrap_servers=real_kafka), topic, follow=follow) as scan:
        topics.delete_topics(real_kafka, [topic])
        with pytest.raises(
            OperatorError, match=rf"{topic} cannot be read at .*(topic does not exist|no longer available)"
        ):
            for _ in scan:
                pass
