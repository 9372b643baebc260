from __future__ import annotations

import io
from typing import Any

import pytest

from pushrail_stream.core.bus_status import MissingBus, Swallowed
from pushrail_stream.core.copy import Copy
from pushrail_stream.core.destination import Secret
from pushrail_stream.core.event import valid_traceparent
from pushrail_stream.core.outcome import Delivered, Retryable, Throttled
from pushrail_stream.core.record import Partition
from pushrail_stream.core.retry import RetryInMemory, Settled, Tier
from pushrail_stream.core.signals import (
    Attempted,
    Backpressure,
    BusFound,
    BusMissing,
    CommitFailed,
    CopyFailed,
    CursorClosed,
    CursorEnd,
    CursorEndangered,
    CursorOpened,
    CursorTrimmed,
    DeadLettered,
    DocumentRefused,
    KafkaTrouble,
    MovedToRetry,
    PartitionRestarted,
    PartitionsAssigned,
    PartitionsRevoked,
    RecordsTrimmed,
    RegistryChanged,
    RegistryTrouble,
    RestartReason,
    Resumed,
    Signal,
    Skipped,
    Slowed,
    Suspended,
)
from pushrail_stream.observe.attempts import AttemptsLog
from pushrail_stream.observe.fan_out import FanOut
from pushrail_stream.observe.log_observer import LogObserver
from pushrail_stream.observe.logging import open_log
from pushrail_stream.settings.eventbridge import AccessKey
from tests.support.builders import destination
from tests.support.pipeline_world import World
from tests.support.records import EVENTS, always, failed, raw, record, records
from tests.support.signals import AT_MS, attempted, changed, event_of, letter, lines
from tests.support.stopped_time import StoppedTime
from tests.support.virtual_time import in_virtual_time

P3 = Partition(EVENTS, 3)
OURS = Retryable("BaseCredentialsMissing", "no credentials of our own", is_our_fault=True)


def said(*signals: Signal, level: str = "info") -> list[dict[str, Any]]:
    stream = io.StringIO()
    observe = LogObserver(open_log(level, stream=stream, worker="w1"))
    for signal in signals:
        observe(signal)
    found = lines(stream)
    assert all(line.pop("worker") == "w1" for line in found)
    return found


@pytest.mark.parametrize(
    ("signal", "line"),
    [
        (
            PartitionsAssigned(
                (
                    (P3, 17),
                    (Partition(EVENTS, 4), None),
                    *((Partition("retry", n), 0) for n in (12, 0, 1, 2, 9, 10)),
                )
            ),
            {
                "level": "info",
                "event": "partitions_assigned",
                "partitions": f"8 partitions: {EVENTS} 3-4, retry 0-2,9-10,12",
                "uncommitted": f"1 partition: {EVENTS} 4",
            },
        ),
        (
            PartitionsAssigned(()),
            {"level": "info", "event": "partitions_assigned", "partitions": "0 partitions"},
        ),
        (
            PartitionsRevoked((P3,), lost=False, dropped=5),
            {"level": "info", "event": "partitions_revoked", "partitions": f"1 partition: {EVENTS} 3", "dropped": 5},
        ),
        (
            PartitionsRevoked((P3,), lost=True, dropped=5),
            {"level": "info", "event": "partitions_lost", "partitions": f"1 partition: {EVENTS} 3", "dropped": 5},
        ),
        (Backpressure(True, 20_000, 99), {"level": "info", "event": "consuming_paused", "events": 20_000, "bytes": 99}),
        (Backpressure(False, 10, 9), {"level": "info", "event": "consuming_resumed", "events": 10, "bytes": 9}),
        (CommitFailed("stale"), {"level": "warning", "event": "commit_failed", "problem": "stale"}),
        (KafkaTrouble("down"), {"level": "warning", "event": "kafka_trouble", "problem": "down"}),
        (
            DeadLettered(letter("blocked", "AccessDenied", "no", to="dst_acme"), None),
            {
                "level": "warning",
                "event": "dead_lettered",
                "reason": "blocked",
                "code": "AccessDenied",
                "message": "no",
                "destination": "dst_acme",
                "origin": f"{EVENTS}/0/7",
            },
        ),
        (
            CopyFailed(letter("blocked", "AccessDenied", "no"), "too few replicas", 1.5),
            {
                "level": "warning",
                "event": "copy_failed",
                "origin": f"{EVENTS}/0/7",
                "problem": "too few replicas",
                "retry_in_secs": 1.5,
            },
        ),
        (
            Suspended(destination(), "AccessDenied", "no", 30.0, first=True),
            {
                "level": "warning",
                "event": "destination_suspended",
                "destination": "dst_acme",
                "code": "AccessDenied",
                "message": "no",
                "probe_in_secs": 30,
            },
        ),
        (
            Suspended(destination(), "AccessDenied", "no", 60.0, first=False),
            {
                "level": "warning",
                "event": "probe_blocked",
                "destination": "dst_acme",
                "code": "AccessDenied",
                "message": "no",
                "probe_in_secs": 60,
            },
        ),
        (
            Resumed(destination(), 95.4),
            {
                "level": "warning",
                "event": "destination_resumed",
                "destination": "dst_acme",
                "suspended_secs": 95,
                "why": "delivered",
            },
        ),
        (
            BusMissing(destination(), MissingBus(2_000, None), None),
            {
                "level": "error",
                "event": "bus_missing",
                "destination": "dst_acme",
                "bus": destination().bus.arn,
                "last_seen": None,
                "delivered_since": 0,
            },
        ),
        (
            BusMissing(destination(), MissingBus(2_000, 1_000), Swallowed(3, 1_500, 2_001)),
            {
                "level": "error",
                "event": "bus_missing",
                "destination": "dst_acme",
                "bus": destination().bus.arn,
                "last_seen": "1970-01-01T00:00:01.000Z",
                "delivered_since": 3,
                "replay": "pushrail-stream replay events --destination dst_acme "
                "--delivered-since 1970-01-01T00:00:01.500Z --delivered-until 1970-01-01T00:00:02.001Z",
            },
        ),
        (
            BusFound(destination(), 61.0, None),
            {
                "level": "warning",
                "event": "bus_found",
                "destination": "dst_acme",
                "missing_secs": 61,
                "delivered_since": 0,
            },
        ),
        (
            DocumentRefused("a.json", "region", "must be an AWS region"),
            {
                "level": "error",
                "event": "destination_refused",
                "document": "a.json",
                "field": "region",
                "problem": "must be an AWS region",
            },
        ),
        (
            RegistryChanged(("dst_a",), tuple(f"dst_{n}" for n in range(7)), 3, 1),
            {
                "level": "info",
                "event": "destinations",
                "put": ["dst_a"],
                "removed": ["dst_0", "dst_1", "dst_2", "dst_3", "dst_4", "and 2 more"],
                "in_use": 3,
                "refused": 1,
            },
        ),
        (
            RegistryTrouble("no directory"),
            {"level": "warning", "event": "registry_trouble", "problem": "no directory"},
        ),
        (
            attempted((OURS, RetryInMemory(1, "retryable"))),
            {
                "level": "warning",
                "event": "our_own_fault",
                "code": "BaseCredentialsMissing",
                "message": "no credentials of our own",
            },
        ),
    ],
)
def test_a_change_of_state_is_one_line_of_json(signal: Signal, line: dict[str, Any]) -> None:
    assert said(signal) == [line]


def ids(key: str) -> dict[str, str | None]:
    return {"customer": "acct_acme", "idempotency_key": key, "correlation_id": None, "trace_id": None}


def test_deliveries_are_logged_at_debug() -> None:
    skipped = Skipped(event_of(record(0)), record(0).origin, None, None, "no_destination", "live", AT_MS)
    delivered = attempted((Delivered("e"), Settled()))
    assert said(delivered, skipped) == []
    assert said(skipped, level="debug") == [
        {
            "level": "debug",
            "event": "skipped",
            "reason": "no_destination",
            "origin": f"{EVENTS}/0/0",
            "destination": "-",
            **ids("0"),
        },
    ]


def test_a_call_is_one_line_with_every_id() -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    signal = attempted(
        (Delivered("e"), Settled()), (Throttled("SlowDown", ""), RetryInMemory(1, "throttled")), flush="entries"
    )
    followed = signal.deliveries[0].event._replace(
        correlation_id="req-1", traceparent=valid_traceparent(f"00-{trace}-b7ad6b7169203331-01".encode())
    )
    assert said(changed(signal, event=followed), level="debug") == [
        {
            "level": "debug",
            "event": "attempted",
            "destination": "dst_acme",
            "vendor": "acme",
            "customer": "acct_acme",
            "region": "us-east-1",
            "status": 200,
            "request_id": "request-1",
            "duration_ms": 12.3,
            "entries": 2,
            "bytes": 201,
            "flush": "entries",
            "outcomes": {"delivered": 1, "throttled": 1},
            "codes": {"SlowDown": 1},
            "attempt": 2,
            "triggers": ["live"],
            "oldest_ms": 75,
            "event_types": ["order.completed"],
            "idempotency_keys": ["0", "1"],
            "correlation_ids": ["req-1"],
            "trace_ids": [trace],
            "origins": [f"{EVENTS}/0/0", f"{EVENTS}/0/1"],
        }
    ]


def test_a_slowed_destination_is_logged_at_its_begin_and_end() -> None:
    steps = (Slowed(destination(), in_flight, 8) for in_flight in (4, 2, 3, 4, 5, 6, 7, 8))
    assert [(line["event"], line["in_flight"]) for line in said(*steps)] == [
        ("destination_slowed", 4),
        ("destination_slowed", 8),
    ]


def test_a_retry_copy_is_logged_only_at_debug() -> None:
    copy = Copy(
        record=record(7), reason="held", failed_at_ms=AT_MS, problem=None, tier=Tier("retry.10s", 10),
        destination_id="dst_acme", first_attempt_ms=AT_MS, event=event_of(record(7)),
    )  # fmt: skip
    assert said(MovedToRetry(copy, "retry.10s")) == []
    [line] = said(MovedToRetry(copy, "retry.10s"), level="debug")
    assert line == {
        "level": "debug",
        "event": "moved_to_retry",
        "topic": "retry.10s",
        "reason": "held",
        "destination": "dst_acme",
        "origin": f"{EVENTS}/0/7",
        "attempts": 0,
        **ids("7"),
    }


def test_repeated_trouble_is_counted(time: StoppedTime) -> None:
    stream = io.StringIO()
    observe = LogObserver(open_log("info", stream=stream))
    for secs in range(75):
        time.now = 1000.0 + secs
        observe(KafkaTrouble("down"))
    assert [line.get("repeated") for line in lines(stream)] == [None, 29, 29]


def test_our_own_fault_is_logged_once_per_batch(time: StoppedTime) -> None:
    assert time.now
    assert len(said(*[attempted(*[(OURS, RetryInMemory(1, "retryable"))] * 10)] * 10)) == 1


def test_dead_letters_are_sampled_by_cause(time: StoppedTime) -> None:
    assert time.now
    flood: list[Signal] = [
        DeadLettered(letter("blocked", code, f"message {n}", to=to), None)
        for n in range(100)
        for code in ("AccessDenied", "403")
        for to in ("dst_a", "dst_b")
    ]
    assert len(said(*flood)) == 4


def test_different_events_are_all_logged(time: StoppedTime) -> None:
    assert time.now
    dead = letter("blocked", "AccessDenied", "no")
    told = said(KafkaTrouble("down"), CommitFailed("down"), CopyFailed(dead, "down", 1.0))
    assert [line["event"] for line in told] == ["kafka_trouble", "commit_failed", "copy_failed"]


def dead_letters(destinations: int, each: int) -> list[Signal]:
    """By turns, as they come when many customers block at once."""
    return [
        DeadLettered(letter("blocked", "AccessDenied", f"message {n}", to=f"dst_{number}"), None)
        for n in range(each)
        for number in range(destinations)
    ]


def test_excess_destinations_share_a_line(time: StoppedTime) -> None:
    stream = io.StringIO()
    observe = LogObserver(open_log("info", stream=stream))
    for signal in dead_letters(2_000, 20):
        observe(signal)
    flood = lines(stream)
    assert len(flood) == 1_001
    observe(KafkaTrouble("down"))
    assert lines(stream)[-1]["event"] == "kafka_trouble", "a flood of one kind does not hide another"
    time.now += 31
    observe(DeadLettered(letter("blocked", "AccessDenied", "", to="dst_1999"), None))
    assert lines(stream)[-1]["destination"] == "dst_1999"
    for n in range(1_500):
        observe(DeadLettered(letter("rejected", f"code-{n}", "", to="dst_new"), None))
    later = lines(stream)[1_003:]
    assert len(later) == 1_000, "and one more, which says what the flood was"
    time.now += 31
    for signal in dead_letters(2_000, 1):
        observe(signal)
    told = [line for line in lines(stream) if line["event"] == "dead_lettered"]
    counted = sum(1 + line.get("repeated", 0) + line.get("others_left_out", 0) for line in told)
    assert counted == 40_000 + 1 + 1_500 + 2_000 - 999, "every line is said or counted, but for the last flood's rest"


def test_ever_new_problems_do_not_fill_memory(time: StoppedTime) -> None:
    stream = io.StringIO()
    observe = LogObserver(open_log("info", stream=stream))
    for n in range(100_000):
        time.now += 0.001
        observe(KafkaTrouble(f"down {n}"))
    assert len(lines(stream)) < 5_000, "a thousand in 30 s, and one line for all others"
    assert len(observe._sampling._exact) <= 1_001


@in_virtual_time
async def test_no_secret_reaches_log_attempts_or_dlq() -> None:
    secrets = ["wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "AKIAIOSFODNN7EXAMPLE", "IQoJb3JpZ2luX2VjEXAMPLETOKEN"]
    keys = AccessKey(secrets[1], Secret(secrets[0]))
    told = f"The key {secrets[1]} with secret {secrets[0]} was refused. X-Amz-Security-Token: {secrets[2]}, Signature="
    world = World(destination("keys", auth=keys), destination("role"))
    world.bus.answer(always(failed("UnrecognizedClientException", 403, told + "a" * 64)), "dst_keys")
    world.bus.answer(always(failed("InvalidClientTokenId", 403, told + "a" * 64, "AssumeRole")), "dst_role")
    stream, attempts = io.StringIO(), io.BytesIO()

    class Kept:
        def append(self, key: bytes, *values: bytes) -> None:
            attempts.write(b"".join((key, *values)))

    log = open_log("debug", stream=stream)

    def complain(signal: Signal) -> None:
        assert not isinstance(signal, Attempted), f"cannot cope with {signal}"

    async with world.worker(observe=FanOut([complain, LogObserver(log), AttemptsLog(Kept().append)], log)) as worker:
        await worker.feed_until(5, *records(range(10), "keys"), record(10, "role"), raw(11, told.encode()))
    written = "".join(str(letter.headers) for letter in world.topics.written)
    events = {line["event"] for line in lines(stream)}
    assert {"attempted", "dead_lettered", "our_own_fault", "observer_failed"} <= events
    for found in (stream.getvalue(), attempts.getvalue().decode(), written):
        assert "was refused" in found
        for secret in [*secrets, "a" * 64]:
            assert secret not in found


def test_trimmed_records_are_an_error_with_advice() -> None:
    [line] = said(RecordsTrimmed(P3, 17, 30))
    assert "retention.ms" in line.pop("advice")
    assert line == {
        "level": "error", "event": "records_trimmed", "partition": f"{EVENTS}/3", "expected": 17, "first": 30,
    }  # fmt: skip


def test_a_cursor_that_opens_and_catches_up_is_told_once_per_destination() -> None:
    opened = [CursorOpened(P3, "dst_a", 17, 250), CursorOpened(P3, "dst_a", 99, 3), CursorOpened(P3, "dst_b", 18, 4)]
    place = {"partition": f"{EVENTS}/3"}
    assert said(*opened) == [
        {"level": "info", "event": "cursor_opened", "destination": "dst_a", **place, "since": 17, "adopted": 250},
        {"level": "info", "event": "cursor_opened", "destination": "dst_b", **place, "since": 18, "adopted": 4},
    ]
    assert said(CursorClosed(P3, "dst_a", "caught_up")) == [
        {"level": "info", "event": "cursor_closed", "destination": "dst_a", **place, "why": "caught_up"}
    ]


@pytest.mark.parametrize(("why", "words"), [("recreated", "created again"), ("went_back", "cut off")])
def test_a_backlog_that_is_lost_with_its_topic_is_a_warning(why: CursorEnd, words: str) -> None:
    [line] = said(CursorClosed(P3, "dst_a", why))
    assert words in line.pop("advice")
    assert line == {
        "level": "warning", "event": "cursor_closed", "destination": "dst_a", "partition": f"{EVENTS}/3", "why": why,
    }  # fmt: skip


def test_a_backlog_near_the_start_of_the_log_is_a_warning_with_advice() -> None:
    [line] = said(CursorEndangered(P3, "dst_a", 17, 11))
    assert "retention.ms" in line.pop("advice")
    assert line == {
        "level": "warning", "event": "cursor_endangered", "destination": "dst_a", "partition": f"{EVENTS}/3",
        "lowest": 17, "first": 11,
    }  # fmt: skip


def test_a_trimmed_backlog_is_an_error_with_advice() -> None:
    [line] = said(CursorTrimmed(P3, "dst_a", 17, 30, 4))
    assert "retention.ms" in line.pop("advice")
    assert line == {
        "level": "error", "event": "cursor_trimmed", "destination": "dst_a", "partition": f"{EVENTS}/3", "start": 17,
        "end": 30, "known": 4,
    }  # fmt: skip


@pytest.mark.parametrize(("why", "words"), [("recreated", "created again"), ("went_back", "leader election")])
def test_a_restarted_partition_is_a_warning(why: RestartReason, words: str) -> None:
    [line] = said(PartitionRestarted(P3, why, 17))
    assert words in line.pop("advice")
    assert line == {"level": "warning", "event": "partition_restarted", "partition": f"{EVENTS}/3", "position": 17}
