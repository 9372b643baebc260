"""Metrics: every signal is counted once, and a scrape shows the ledger as it is."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from pushrail_stream.core.delivery import Problem
from pushrail_stream.core.flood import FloodReport
from pushrail_stream.core.ledger import Ledger
from pushrail_stream.core.outcome import Blocked, Delivered, Retryable, Throttled
from pushrail_stream.core.retry import Again, Bury, Settle, Tier
from pushrail_stream.core.retry_copy import RetryCopy
from pushrail_stream.core.signals import (
    BusBack,
    BusGone,
    CommitFailed,
    DeadLettered,
    Flooded,
    Held,
    KafkaTrouble,
    MovedToRetry,
    RegistryChanged,
    Resumed,
    Signal,
    Skipped,
    Slowed,
    Suspended,
)
from pushrail_stream.observe.metrics import Metrics
from tests.observe.signals import AT_MS, attempted, event_of, letter
from tests.pipeline.records import destination, record


def shown(*signals: Signal, metrics: Metrics | None = None) -> dict[tuple[Any, ...], float]:
    """Every sample by name and label values, in the alphabetical order of the labels."""
    metrics = metrics or Metrics()
    for signal in signals:
        metrics(signal)
    body, content_type = metrics.exposition("")
    assert content_type.startswith("text/plain")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def test_entries_are_counted_by_outcome_and_code_and_delivered_ones_timed() -> None:
    good, slow = (Delivered("e"), Settle()), (Throttled("SlowDown", ""), Again(1, "throttled"))
    samples = shown(attempted(good, good, slow), attempted((Blocked("AccessDenied", ""), Bury("blocked", "", ""))))
    assert samples["pushrail_entries_total", "", "delivered"] == 2
    assert samples["pushrail_entries_total", "SlowDown", "throttled"] == 1
    assert samples["pushrail_entries_total", "AccessDenied", "blocked"] == 1
    assert samples["pushrail_put_events_seconds_count",] == 2
    assert samples["pushrail_batch_entries_bucket", "3.0"] == 2
    assert samples["pushrail_batch_entries_bucket", "1.0"] == 1
    assert samples["pushrail_delivery_latency_seconds_count",] == 2
    assert samples["pushrail_delivery_latency_seconds_bucket", "0.05"] == 0
    assert samples["pushrail_delivery_latency_seconds_bucket", "0.1"] == 2, "75 ms before the call, 12 ms of call"


def test_codes_are_bounded() -> None:
    made_up = (attempted((Retryable(f"code-{n}", ""), Again(1, "retryable"))) for n in range(500))
    samples = shown(*made_up)
    codes = {key[1]: value for key, value in samples.items() if key[0] == "pushrail_entries_total" and value}
    assert len(codes) == 101
    assert codes["other"] == 400


def test_the_state_of_destinations_and_of_the_worker_is_shown() -> None:
    a, b = destination("a"), destination("b")
    begun: list[Signal] = [
        Suspended(a, "AccessDenied", "no", 30.0, first=True),
        Suspended(a, "AccessDenied", "no", 60.0, first=False),
        Slowed(a, 4, 8),
        Slowed(b, 4, 8),
        BusGone(b),
        Held(True, 1, 1),
        RegistryChanged((), (), 7, 2),
    ]
    gauges = {key: value for key, value in shown(*begun).items() if value}
    assert gauges["pushrail_destinations_suspended",] == 1
    assert gauges["pushrail_destinations_slowed",] == 2
    assert gauges["pushrail_buses_gone",] == 1
    assert gauges["pushrail_held_back",] == 1
    assert gauges["pushrail_registry_documents", "good"] == 7
    assert gauges["pushrail_registry_documents", "bad"] == 2
    after = shown(*begun, Resumed(a, 1.0), Slowed(a, 8, 8), Slowed(b, 8, 8), BusBack(b, 1.0), Held(False, 0, 0))
    assert not any(after[name,] for name in GAUGES)
    flood = Flooded(FloodReport(10, 9, 8, 7, 60))
    assert shown(flood)["pushrail_flooded",] == 1


GAUGES = (
    "pushrail_destinations_suspended",
    "pushrail_destinations_slowed",
    "pushrail_buses_gone",
    "pushrail_held_back",
    "pushrail_flooded",
)


def test_ends_and_failures_are_counted_by_reason() -> None:
    event, origin = event_of(record(0)), record(0).origin
    problem = Problem("503", "busy")
    copy = RetryCopy(record(0), event, "dst_a", Tier("retry.10s", 10), "held", 1, AT_MS, AT_MS, problem)
    ours = Retryable("BaseCredentialsMissing", "", ours=True)
    samples = shown(
        Skipped(event, origin, "dst_a", "arn", "disabled", "live", AT_MS),
        DeadLettered(letter("rejected", "MalformedDetail", ""), event),
        MovedToRetry(copy),
        CommitFailed("x"),
        KafkaTrouble("x"),
        attempted((ours, Again(1, "retryable"))),
    )
    assert samples["pushrail_skipped_total", "disabled"] == 1
    assert samples["pushrail_dead_letters_total", "rejected"] == 1
    assert samples["pushrail_moved_to_retry_total", "held", "retry.10s"] == 1
    assert {key[1]: value for key, value in samples.items() if key[0] == "pushrail_failures_total"} == {
        "commit": 1,
        "kafka": 1,
        "own_credentials": 1,
    }


def test_the_ledger_is_shown_as_it_is() -> None:
    metrics, ledger = Metrics(), Ledger()
    metrics.ledger, metrics.lanes, metrics.attempts_lost = ledger, lambda: 3, lambda: 4
    ledger.begin(10)
    ledger.deliver(2)
    ledger.bury(1)
    ledger.move(3)
    ledger.skip(1)
    ledger.drop(1)
    samples = shown(metrics=metrics)
    states = {key[1]: value for key, value in samples.items() if key[0] == "pushrail_deliveries_total"}
    assert states == {"delivered": 2, "dead_lettered": 1, "moved_to_retry": 3, "skipped": 1, "dropped": 1}
    assert samples["pushrail_deliveries_begun_total",] == 10
    assert samples["pushrail_deliveries_in_flight",] == 2
    assert (samples["pushrail_lanes",], samples["pushrail_attempts_log_lost_total",]) == (3, 4)


def test_openmetrics_is_spoken_to_who_asks_for_it() -> None:
    body, content_type = Metrics().exposition("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
