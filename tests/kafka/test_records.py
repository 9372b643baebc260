"""Records that the client library cannot read whole: its exception becomes a value."""

from __future__ import annotations

import gc

import pytest
from confluent_kafka import Message, Producer

from pushrail_stream.core.record import NOT_UTF8, Headers, Record
from pushrail_stream.kafka.records import records_of
from pushrail_stream.kafka.scan import Scan
from pushrail_stream.settings.model import KafkaSettings
from tests.support.kafka import topics
from tests.support.kafka.wire import write_raw

pytestmark = pytest.mark.kafka


def read(bootstrap: str, topic: str) -> list[Record]:
    with Scan(KafkaSettings(bootstrap_servers=bootstrap), topic) as scan:
        return [record for batch in scan for record in batch]


@pytest.mark.parametrize("name", [b"caf\xe9", b"\xed\xa0\x80", b"\xff"], ids=["latin-1", "surrogate", "no character"])
def test_only_the_bad_header_name_is_lost(real_kafka: str, name: bytes) -> None:
    with topics.fresh_topic(real_kafka, "messages") as topic:
        producer = Producer({"bootstrap.servers": real_kafka, "log_level": 0})
        producer.produce(topic, b"before", headers=[("h", b"1"), ("h", None)])
        assert producer.flush(30) == 0
        write_raw(real_kafka, topic, b"key", b"value", [(b"first", b"1"), (name, b"2"), (b"last", b"3"), (name, b"4")])
        producer.produce(topic, b"after")
        assert producer.flush(30) == 0
        before, bad, after = read(real_kafka, topic)
    assert (before.value, before.headers) == (b"before", (("h", b"1"), ("h", None)))
    assert (bad.key, bad.value) == (b"key", b"value")
    assert bad.headers == (("first", b"1"), (NOT_UTF8, b"2"), ("last", b"3"), (NOT_UTF8, b"4"))
    assert (after.value, after.headers) == (b"after", ())
    gc.collect()


def test_many_bad_header_names_are_read(real_kafka: str) -> None:
    with topics.fresh_topic(real_kafka, "messages") as topic:
        for number in range(60):
            write_raw(real_kafka, topic, b"key", b"%d" % number, [(b"\xff", b"1"), (b"h", b"2")])
        records = read(real_kafka, topic)
    assert [record.value for record in records] == [b"%d" % number for number in range(60)]
    assert {record.headers for record in records} == {((NOT_UTF8, b"1"), ("h", b"2"))}


def test_odd_headers_are_kept_unchanged(real_kafka: str) -> None:
    odd: Headers = (("", b""), ("h" * 40_000, None), ("\U0001f600\u202e", b"\xff\0"), ("h", b"x" * 500_000))
    with topics.fresh_topic(real_kafka, "messages") as topic:
        producer = Producer({"bootstrap.servers": real_kafka, "log_level": 0})
        producer.produce(topic, None, None, headers=list(odd))
        assert producer.flush(30) == 0
        [record] = read(real_kafka, topic)
    assert (record.key, record.value, record.headers) == (None, None, odd)
    assert record.leader_epoch == 0


def test_a_record_has_its_leader_epoch_if_the_broker_tells_it() -> None:
    told, untold = Message("t", 0, 1, b"k", b"v", None, leader_epoch=7), Message("t", 0, 2, b"k", b"v", None)
    assert [record.leader_epoch for record in records_of([told, untold], {})] == [7, None]


def test_a_message_without_headers_has_none() -> None:
    [record] = records_of([Message("t", 0, 1, b"k", b"v", None)], {})
    assert record.headers == ()
