"""Dead letters, read back from the DLQ: what they say, how they are filtered and counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from pushrail_stream.cli.progress import ProgressBar
from pushrail_stream.core.delivery import Replay
from pushrail_stream.core.event import Undecodable, decode
from pushrail_stream.core.record import Origin
from pushrail_stream.core.text import format_rfc3339
from pushrail_stream.kafka.client_properties import retries_consumer
from pushrail_stream.kafka.reach import reached_kafka
from pushrail_stream.operations.dead_letters import (
    DeadLetterFilter,
    Tally,
    count_dead_letters,
    read_waiting,
)
from pushrail_stream.operations.replay_selection import copy_of
from tests.support.attempt_log import log_of
from tests.support.dead_letters import AT, DLQ, event_record, forged, letter


@pytest.mark.parametrize("at_ms", [AT, 2**63 - 1, -(2**63), -1])
def test_a_forged_header_is_named(at_ms: int) -> None:
    found = forged(at_ms)
    assert (found.failed_at_ms, found.origin) == (at_ms, found.record.origin)
    assert found.flaw is not None
    assert found.flaw.header == "pushrail-failed-at"
    assert format_rfc3339(found.failed_at_ms)


def test_a_missing_vendor_setting_is_our_fault() -> None:
    told = decode(event_record(0).value, (), None)
    assert isinstance(told, Undecodable)
    died = letter(0, reason="undecodable", code=told.field, message=str(told), destination_id=None)
    assert died.fault == "ours"
    assert died.state is not None
    assert died.state.error_message == ("vendor: this setting is not set, and the record has no header pushrail-vendor")


def test_a_letter_reads_back_as_written() -> None:
    found = letter(0, request_id="r-1", first_attempt_ms=AT - 1000, replay=Replay("rp-1", 2))
    assert (found.record.origin, found.original()) == (Origin(DLQ, 2, 0), event_record(0)._replace(timestamp_ms=AT))
    assert (found.reason, found.fault, found.destination, found.code) == (
        "blocked",
        "customer",
        "dst_0",
        "AccessDenied",
    )
    assert (found.failed_at_ms, found.replays) == (AT, 2)
    assert found.event is not None


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        (DeadLetterFilter(), True),
        (DeadLetterFilter(destination="dst_0"), True),
        (DeadLetterFilter(destination="dst_1"), False),
        (DeadLetterFilter(customer="acct_0", vendor="acme", event_type="order.completed", code="AccessDenied"), True),
        (DeadLetterFilter(key="k"), True),
        (DeadLetterFilter(key="other"), False),
        (DeadLetterFilter(vendor="globex"), False),
        (DeadLetterFilter(event_type="order.*"), False),
        (DeadLetterFilter(reasons=frozenset({"blocked", "expired"})), True),
        (DeadLetterFilter(reasons=frozenset({"rejected"})), False),
        (DeadLetterFilter(fault="customer"), True),
        (DeadLetterFilter(fault="producer"), False),
        (DeadLetterFilter(since_ms=AT, until_ms=AT + 1), True),
        (DeadLetterFilter(until_ms=AT), False),
        (DeadLetterFilter(since_ms=AT + 1), False),
        (DeadLetterFilter(origin="pushrail.events/1/7"), True),
        (DeadLetterFilter(origin="pushrail.events/1/8"), False),
        (DeadLetterFilter(replay="rp-1"), False),
    ],
)
def test_a_filter_means_what_it_names(wanted: DeadLetterFilter, *, matches: bool) -> None:
    assert wanted.matches(letter(0)) == matches


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        (DeadLetterFilter(key="k", customer="acct_0", event_type="order.completed"), True),
        (DeadLetterFilter(key="other"), False),
        (DeadLetterFilter(customer="acct_1"), False),
        (DeadLetterFilter(vendor="acme"), False),
    ],
)
def test_a_malformed_event_is_found_by_its_fields(wanted: DeadLetterFilter, *, matches: bool) -> None:
    died = letter(0, value=event_record(0, payload="text").value, reason="undecodable", destination_id=None)
    assert died.event is None
    assert wanted.matches(died) == matches


def test_letters_are_counted_by_kind() -> None:
    letters = [letter(0), letter(0, failed_at_ms=AT + 5), letter(0, failed_at_ms=AT + 9), letter(1)]
    groups = count_dead_letters(letters, lambda one: one in letters[2:])
    assert {group.destination: tally for group, tally in groups.items()} == {
        "dst_0": Tally(2, 1, AT, AT + 5),
        "dst_1": Tally(0, 1),
    }


@pytest.mark.kafka
def test_copies_above_the_commit_wait(real_kafka: str, tmp_path: Path) -> None:
    settings, _ = log_of(real_kafka, tmp_path)
    [topic, *_] = settings.topics.retry
    producer = Producer({"bootstrap.servers": real_kafka, "log_level": 0})
    for offset in range(3):
        key, value, headers = copy_of(event_record(0, offset), "dst_0", "rp-1", 1, AT)
        producer.produce(topic, value, key, 0, headers=list(headers))
    assert producer.flush(30) == 0
    group = retries_consumer(reached_kafka(settings)).group_id
    consumer = Consumer({"bootstrap.servers": real_kafka, "group.id": group, "log_level": 0})
    consumer.commit(offsets=[TopicPartition(topic, 0, 1)], asynchronous=False)
    consumer.close()
    found = list(read_waiting(settings, ProgressBar(quiet=True)))
    assert [(one.record.offset, one.origin.offset, one.destination) for one in found] == [
        (1, 1, "dst_0"), (2, 2, "dst_0"),
    ]  # fmt: skip
