"""Metrics: every signal is counted once, and a scrape shows the ledger as it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pushrail_stream.core.copy import Copy
from pushrail_stream.core.delivery import Problem, Replay
from pushrail_stream.core.flood_guard import FloodReport
from pushrail_stream.core.ledger import Ledger
from pushrail_stream.core.outcome import Blocked, Delivered, Retryable, Throttled
from pushrail_stream.core.record import Partition
from pushrail_stream.core.retry import DeadLetter, DeadReason, RetryInMemory, RetryReason, Settled, Tier
from pushrail_stream.core.signals import (
    Backpressure,
    CommitFailed,
    CopyFailed,
    CursorClosed,
    CursorEndangered,
    CursorOpened,
    CursorTrimmed,
    DeadLettered,
    Flooded,
    KafkaTrouble,
    MovedToRetry,
    PartitionRestarted,
    RecordsTrimmed,
    RegistryChanged,
    Signal,
    Skipped,
    SkipReason,
)
from pushrail_stream.observe.metrics import Metrics
from pushrail_stream.pipeline.stats import BacklogStats, DispatcherStats, PartitionStats
from pushrail_stream.ports.kafka import ClientStatistics
from pushrail_stream.ports.pipeline import SignIns
from tests.support.records import record
from tests.support.signals import AT_MS, attempted, changed, event_of, letter
from tests.support.stats import stats_of


def shown(*signals: Signal, metrics: Metrics | None = None) -> dict[tuple[Any, ...], float]:
    """Every sample by name and label values, in the alphabetical order of the labels."""
    metrics = metrics or Metrics(stats_of())
    for signal in signals:
        metrics(signal)
    body, content_type = metrics.exposition("")
    assert content_type.startswith("text/plain")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def test_entries_are_counted_by_outcome() -> None:
    good, slow = (Delivered("e"), Settled()), (Throttled("SlowDown", ""), RetryInMemory(1, "throttled"))
    samples = shown(
        attempted(good, good, slow), attempted((Blocked("AccessDenied", ""), DeadLetter("blocked", "", "")))
    )
    assert samples["pushrail_entries_total", "", "delivered"] == 2
    assert samples["pushrail_entries_total", "SlowDown", "throttled"] == 1
    assert samples["pushrail_entries_total", "AccessDenied", "blocked"] == 1
    assert samples["pushrail_put_events_seconds_count",] == 2
    assert samples["pushrail_batch_entries_bucket", "3.0"] == 2
    assert samples["pushrail_batch_entries_bucket", "1.0"] == 1
    latency = "pushrail_delivery_latency_seconds"
    assert samples[f"{latency}_count", "live"] == 2
    assert samples[f"{latency}_bucket", "0.05", "live"] == 0
    assert samples[f"{latency}_bucket", "0.1", "live"] == 2, "75 ms before the call, 12 ms of call"
    assert samples[f"{latency}_sum", "live"] == pytest.approx(0.175, abs=0.001)


def test_entries_that_their_bus_had_before_are_counted() -> None:
    samples = shown(attempted((Delivered("e"), Settled()), (Delivered("e", is_repeat=True), Settled())))
    assert samples["pushrail_entries_total", "", "delivered"] == 2
    assert samples["pushrail_repeated_entries_total",] == 1


def test_a_record_without_a_time_is_not_timed() -> None:
    signal = attempted((Delivered("e"), Settled()), (Delivered("e"), Settled()))
    without = signal.deliveries[0].record._replace(timestamp_ms=0)
    samples = shown(changed(signal, record=without))
    latency = "pushrail_delivery_latency_seconds"
    assert samples["pushrail_entries_total", "", "delivered"] == 2
    assert samples[f"{latency}_count", "live"] == 1
    assert samples[f"{latency}_sum", "live"] == pytest.approx(0.087, abs=0.001)


def test_retries_are_timed_separately() -> None:
    signal = attempted(*[(Delivered("e"), Settled())] * 3)
    record = signal.deliveries[0].record
    signal = changed(signal, 0, record=record._replace(timestamp_ms=AT_MS + 60_000))
    signal = changed(signal, 1, record=record._replace(timestamp_ms=AT_MS - 10_000), tier=1)
    signal = changed(signal, 2, replay=Replay("rp-1", 1))
    samples = shown(signal)
    latency = "pushrail_delivery_latency_seconds"
    assert (samples[f"{latency}_count", "live"], samples[f"{latency}_sum", "live"]) == (1, 0)
    assert samples[f"{latency}_sum", "retry"] == pytest.approx(10.012, abs=0.001)
    assert samples[f"{latency}_count", "replay"] == 1


def test_each_retry_topic_can_be_read_from_the_latency() -> None:
    tiers = {"retry.10s": 10, "retry.2m": 120, "retry.30m": 1_800}
    delivered = attempted((Delivered("e"), Settled()), duration_secs=0.0)
    records = [record(0)._replace(timestamp_ms=AT_MS - secs * 1000) for secs in (11, 39, 121, 1_810, 1_900)]
    signals = [changed(delivered, record=one, tier=1) for one in records]
    samples = shown(*signals, metrics=Metrics(stats_of(), tiers))

    def within(low: float, high: float) -> float:
        name = "pushrail_delivery_latency_seconds_bucket"
        return samples[name, str(float(high)), "retry"] - samples[name, str(float(low)), "retry"]

    assert [within(delay, delay + 30) for delay in tiers.values()] == [2, 1, 1]
    assert samples["pushrail_delivery_latency_seconds_bucket", "30.0", "live"] == 0, "the objective has its bound"


def test_units_of_64_kb_are_counted() -> None:
    good, bad = (Delivered("e"), Settled()), (Blocked("AccessDenied", ""), DeadLetter("blocked", "", ""))
    plain = attempted(good, good, bad)
    large = changed(changed(attempted(good, good, bad), 0, size=65_537), 2, size=200_000)
    metrics = Metrics(stats_of(), max_destinations=10)
    samples = shown(plain, large, metrics=metrics)
    name = plain.destination.id
    assert samples["pushrail_delivered_units_total",] == 2 + 3
    assert samples["pushrail_destination_delivered_units_total", name] == 5
    after = shown(RegistryChanged((), (name,), 0, 0), metrics=metrics)
    assert after["pushrail_delivered_units_total",] == 5, "a total never falls"
    assert not any(key[0] == "pushrail_destination_delivered_units_total" for key in after)
    assert not any(key[0] == "pushrail_destination_delivered_units_total" for key in shown(large))


def test_codes_are_bounded() -> None:
    made_up = (attempted((Retryable(f"code-{n}", ""), RetryInMemory(1, "retryable"))) for n in range(500))
    samples = shown(*made_up)
    codes = {key[1]: value for key, value in samples.items() if key[0] == "pushrail_entries_total" and value}
    assert len(codes) == 101
    assert codes["other"] == 400


def test_the_state_of_the_worker_is_shown() -> None:
    room: list[Signal] = [Backpressure(True, 1, 1), Backpressure(True, 1, 1)]
    begun = shown(*room, RegistryChanged((), (), 7, 2))
    assert begun["pushrail_held_back",] == 2, "events and retries"
    assert begun["pushrail_flooded",] == 0
    assert begun["pushrail_registry_documents", "good"] == 7
    assert begun["pushrail_registry_documents", "bad"] == 2
    after = shown(*room, Backpressure(False, 0, 0), Backpressure(False, 0, 0), Flooded(FloodReport(10, 9, 8, 7, 60)))
    assert after["pushrail_held_back",] == 0
    assert after["pushrail_flooded",] == 1


def test_a_scrape_shows_the_present_destinations() -> None:
    metrics = Metrics(stats_of(dispatcher=DispatcherStats(9, 3, 2, 1, 5, 77)))
    samples = shown(metrics=metrics)
    assert samples["pushrail_lanes",] == 9
    assert samples["pushrail_destinations_suspended",] == 3
    assert samples["pushrail_destinations_slowed",] == 2
    assert samples["pushrail_buses_missing",] == 1
    assert samples["pushrail_put_events_in_flight",] == 5
    assert samples["pushrail_lanes_waiting_deliveries",] == 77


def test_known_label_values_begin_at_0() -> None:
    samples = shown(metrics=Metrics(stats_of(), {"retry.10s": 10}))
    series: dict[str, tuple[str, ...]] = {
        "pushrail_dead_letters_total": get_args(DeadReason),
        "pushrail_skipped_total": get_args(SkipReason),
        "pushrail_failures_total": ("copy", "commit", "kafka", "trimmed", "own_credentials"),
    }
    for name, labels in series.items():
        assert {label: samples.get((name, label)) for label in labels} == dict.fromkeys(labels, 0)
    assert [samples["pushrail_moved_to_retry_total", reason, "retry.10s"] for reason in get_args(RetryReason)] == [
        0
    ] * 3
    assert samples["pushrail_entries_total", "", "delivered"] == 0
    assert {key[-1] for key in samples if key[0] == "pushrail_delivery_latency_seconds_count"} == {"live", "retry"}


def test_ends_and_failures_are_counted_by_reason() -> None:
    event, origin = event_of(record(0)), record(0).origin
    problem = Problem("503", "busy")
    copy = Copy(
        record=record(0), reason="held", failed_at_ms=AT_MS, problem=problem, tier=Tier("retry.10s", 10), attempts=1,
        destination_id="dst_a", first_attempt_ms=AT_MS, event=event,
    )  # fmt: skip
    ours = Retryable("BaseCredentialsMissing", "", is_our_fault=True)
    samples = shown(
        Skipped(event, origin, "dst_a", "arn", "disabled", "live", AT_MS),
        DeadLettered(letter("rejected", "MalformedDetail", ""), event),
        MovedToRetry(copy, "retry.10s"),
        CommitFailed("x"),
        CopyFailed(copy, "x", 1.0),
        KafkaTrouble("x"),
        RecordsTrimmed(Partition("pushrail.events", 3), 17, 30),
        PartitionRestarted(Partition("pushrail.events", 3), "went_back", 17),
        *[CursorOpened(Partition("pushrail.events", 3), "dst_a", 17, 250)] * 2,
        CursorTrimmed(Partition("pushrail.events", 3), "dst_a", 17, 30, 4),
        CursorEndangered(Partition("pushrail.events", 3), "dst_a", 17, 11),
        CursorClosed(Partition("pushrail.events", 3), "dst_a", "caught_up"),
        attempted((ours, RetryInMemory(1, "retryable"))),
    )
    assert samples["pushrail_skipped_total", "disabled"] == 1
    assert samples["pushrail_dead_letters_total", "rejected"] == 1
    assert samples["pushrail_moved_to_retry_total", "held", "retry.10s"] == 1
    assert {key[1]: value for key, value in samples.items() if key[0] == "pushrail_failures_total"} == {
        "copy": 1,
        "commit": 1,
        "kafka": 1,
        "trimmed": 1,
        "own_credentials": 1,
        "restarted": 1,
        "backlog_trimmed": 1,
        "backlog_endangered": 1,
    }
    assert samples["pushrail_cursors_opened_total",] == 2
    closed = {key[1]: value for key, value in samples.items() if key[0] == "pushrail_cursors_closed_total"}
    assert closed == {"caught_up": 1, "recreated": 0, "went_back": 0, "deleted": 0}
    assert samples["pushrail_own_fault_last_timestamp_seconds",] == pytest.approx(AT_MS / 1000 + 0.0123)


def test_a_scrape_shows_the_ledger() -> None:
    ledger = Ledger(begun=12, delivered=2, dead_lettered=1, moved_to_retry=3, skipped=1, put_back=2, dropped=1)
    metrics = Metrics(stats_of(ledger=ledger, attempts_lost=4, attempts_backlog=9, notices_lost=2))
    samples = shown(metrics=metrics)
    states = {key[1]: value for key, value in samples.items() if key[0] == "pushrail_deliveries_total"}
    assert states == {
        "delivered": 2, "dead_lettered": 1, "moved_to_retry": 3, "skipped": 1, "put_back": 2, "dropped": 1,
    }  # fmt: skip
    assert samples["pushrail_deliveries_begun_total",] == 12
    assert samples["pushrail_deliveries_in_flight",] == 2
    assert samples["pushrail_attempts_log_lost_total",] == 4
    assert samples["pushrail_attempts_log_backlog_records",] == 9
    assert samples["pushrail_notices_lost_total",] == 2


def test_backlogs_are_shown_by_destination_up_to_the_limit() -> None:
    backlogs = [
        BacklogStats("dst_a", 2, AT_MS - 9_000, 30, 400, AT_MS - 60_000, 5.0, 80.0),
        BacklogStats("dst_b", 1, AT_MS - 9_000, 0, 7, AT_MS - 2_000, 0.0, None),
        BacklogStats("dst_c", 3, AT_MS - 9_000, 1, 4, AT_MS - 3_000, 0.0, None),
    ]
    samples = shown(metrics=Metrics(stats_of(now_ms=AT_MS, backlogs=backlogs), max_destinations=1))
    events = {key[1]: value for key, value in samples.items() if key[0] == "pushrail_backlog_events"}
    ages = {key[1]: value for key, value in samples.items() if key[0] == "pushrail_backlog_oldest_age_seconds"}
    assert events == {"dst_a": 430, "_other": 12}
    assert ages == {"dst_a": 60, "_other": 3}
    assert (samples["pushrail_destinations_behind",], samples["pushrail_cursors_open",]) == (3, 6)


def test_a_worker_without_a_backlog_shows_zeros() -> None:
    samples = shown(metrics=Metrics(stats_of(), max_destinations=1))
    assert samples["pushrail_backlog_events", "_other"] == samples["pushrail_backlog_oldest_age_seconds", "_other"] == 0
    assert samples["pushrail_destinations_behind",] == samples["pushrail_cursors_open",] == 0


def test_openmetrics_is_served_on_request() -> None:
    body, content_type = Metrics(stats_of()).exposition("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_batches_are_measured_by_flush_reason() -> None:
    good = (Delivered("e"), Settled())
    samples = shown(attempted(good, good, flush="entries"), attempted(good, flush="retry"))
    assert samples["pushrail_flushes_total", "entries"] == 1
    assert samples["pushrail_flushes_total", "retry"] == 1
    assert samples["pushrail_flushes_total", "bytes"] == 0
    assert (samples["pushrail_batch_bytes_count",], samples["pushrail_batch_bytes_sum",]) == (2, 100 + 101 + 100)


def test_event_latency_starts_at_occurred_at() -> None:
    good, bad = (Delivered("e"), Settled()), (Blocked("AccessDenied", ""), DeadLetter("blocked", "", ""))
    signal = attempted(good, bad, good)
    event = signal.deliveries[0].event
    signal = changed(signal, 0, event=event._replace(occurred_at_ms=AT_MS - 3_600_000))
    samples = shown(changed(signal, 2, event=event._replace(occurred_at_ms=AT_MS + 3_600_000)))
    assert samples["pushrail_event_latency_seconds_count",] == 2, "of what was delivered"
    assert samples["pushrail_event_latency_seconds_sum",] == pytest.approx(3600.012, abs=0.001)


def test_destination_series_are_optional_and_capped() -> None:
    def attempt(name: str) -> Signal:
        signal = attempted((Delivered("e"), Settled()), (Throttled("SlowDown", ""), RetryInMemory(1, "throttled")))
        return signal._replace(destination=replace(signal.destination, id=name))

    signals = [attempt(name) for name in ("dst_a", "dst_b", "dst_c", "dst_a", "dst_d")]
    metrics = Metrics(stats_of(), max_destinations=2)
    samples = shown(*signals, metrics=metrics)
    series = {key[1:]: value for key, value in samples.items() if key[0] == "pushrail_destination_entries_total"}
    delivered = {("dst_a", "delivered"): 2, ("dst_b", "delivered"): 1, ("_other", "delivered"): 2}
    assert series == delivered | {(name, "failed"): value for (name, _), value in delivered.items()}
    assert not any(key[0] == "pushrail_destination_entries_total" for key in shown(*signals))
    after = shown(RegistryChanged((), ("dst_a",), 3, 0), attempt("dst_d"), metrics=metrics)
    named = {key[1] for key in after if key[0] == "pushrail_destination_entries_total"}
    assert named == {"dst_b", "dst_d", "_other"}, "who is deleted makes room"


def test_a_deleted_destination_gets_no_series() -> None:
    there = {"dst_a": "its document"}
    metrics = Metrics(stats_of(), max_destinations=1, find_destination=there.get)
    signal = attempted((Delivered("e"), Settled()))
    late = signal._replace(destination=replace(signal.destination, id="dst_a"))
    metrics(late)
    there.clear()
    samples = shown(RegistryChanged((), ("dst_a",), 0, 0), late, metrics=metrics)
    named = {key[1] for key in samples if key[0] == "pushrail_destination_entries_total"}
    assert named == {"_other"}


def test_a_scrape_shows_partitions_and_retry_tiers() -> None:
    one, two, retry = Partition("events", 0), Partition("events", 1), Partition("retry.10s", 0)
    views = {
        "events": [
            PartitionStats(one, 3, 300, AT_MS - 4_000, 10, 2.5, lag=15),
            PartitionStats(two, 0, 0, None, None, 0.0),
        ],
        "retries": [PartitionStats(retry, 1, 50, AT_MS + 9_000, 5, 0.0, lag=7)],
    }
    metrics = Metrics(
        stats_of(
            partitions=views,
            unread_secs={one: 0.0, two: 75.0},
            now_ms=AT_MS,
        ),
        {"retry.10s": 10, "retry.2m": 120},
    )
    samples = shown(metrics=metrics)
    assert {key[1:]: value for key, value in samples.items() if key[0] == "pushrail_consumer_lag_records"} == {
        ("0", "events"): 15,
        ("0", "retry.10s"): 7,
    }, "what is not known is not shown"
    oldest, stands = "pushrail_oldest_undelivered_age_seconds", "pushrail_committed_offset_age_seconds"
    assert samples[oldest, "0", "events"] == 4
    assert samples[oldest, "0", "retry.10s"] == 0, "a clock that is ahead makes nothing younger than now"
    assert samples[stands, "0", "events"] == 2.5
    unread = "pushrail_partition_unread_seconds"
    assert (samples[unread, "0", "events"], samples[unread, "1", "events"]) == (0, 75)
    assert (samples["pushrail_buffered_events", "events"], samples["pushrail_buffered_bytes", "retries"]) == (3, 50)
    assert [samples["pushrail_retry_depth_records", topic] for topic in ("retry.10s", "retry.2m")] == [7, 0]
    assert [samples["pushrail_retry_delay_seconds", topic] for topic in ("retry.10s", "retry.2m")] == [10, 120]


@pytest.mark.parametrize(("lag", "age"), [(0, 0), (7, None), (None, None)])
def test_the_age_of_unread_records_is_absent(lag: int | None, age: int | None) -> None:
    """As when a flood has stopped consuming, or the consumer is stuck: nothing is open, and the lag grows."""
    views = {"events": [PartitionStats(Partition("events", 0), 0, 0, None, 10, 0.0, lag=lag)]}
    samples = shown(metrics=Metrics(stats_of(partitions=views)))
    assert samples.get(("pushrail_oldest_undelivered_age_seconds", "0", "events")) == age


def test_a_scrape_shows_sign_ins_and_clients() -> None:
    metrics = Metrics(
        stats_of(
            sign_ins=SignIns(5, 2, 1, 9, 3),
            kafka={"events": ClientStatistics(3, 0.002, 7, 11, 4)},
            poll_ages={"events": 0.5, "retries": 90.0},
        )
    )
    samples = shown(metrics=metrics)
    refreshes = {key[1]: value for key, value in samples.items() if key[0] == "pushrail_credential_refreshes_total"}
    assert refreshes == {"refreshed": 5, "failed": 2, "kept": 1}
    calls = {key[1]: value for key, value in samples.items() if key[0] == "pushrail_sts_calls_total"}
    assert calls == {"succeeded": 6, "failed": 3}
    for name, value in (
        ("brokers_up", 3), ("rtt_seconds", 0.002), ("request_errors_total", 7), ("queued_records", 11),
        ("rebalances_total", 4),
    ):  # fmt: skip
        assert samples[f"pushrail_kafka_{name}", "events"] == value
    assert [samples["pushrail_consumer_poll_age_seconds", name] for name in ("events", "retries")] == [0.5, 90]
