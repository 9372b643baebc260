"""Metrics of ingest: requests by status, events by outcome, and the state at the moment of a scrape."""

from __future__ import annotations

from typing import Any

from pushrail_stream.core.signals import ApiKeysChanged, RequestAnswered
from pushrail_stream.ingest.metrics import IngestMetrics
from pushrail_stream.ports.kafka import ClientStatistics


def answered(status: int, **changes: Any) -> RequestAnswered:
    usual: dict[str, Any] = dict.fromkeys(RequestAnswered._fields) | {
        "status": status, "secs": 0.03, "size": 100, "accepted": 0, "rejected": 0, "failed": 0,
    }  # fmt: skip
    return RequestAnswered(**(usual | changes))


def lines(metrics: IngestMetrics) -> list[str]:
    return metrics.exposition("")[0].decode().splitlines()


def test_requests_and_events_are_counted() -> None:
    metrics = IngestMetrics()
    metrics(answered(202, accepted=3))
    metrics(answered(422, rejected=2, size=50))
    metrics(answered(503, failed=1))
    shown = lines(metrics)
    for status, count in (("202", 1.0), ("422", 1.0), ("503", 1.0), ("401", 0.0)):
        assert f'pushrail_ingest_requests_total{{status="{status}"}} {count}' in shown
    for outcome, count in (("accepted", 3.0), ("rejected", 2.0), ("failed", 1.0)):
        assert f'pushrail_ingest_events_total{{outcome="{outcome}"}} {count}' in shown
    assert "pushrail_ingest_body_bytes_total 250.0" in shown
    assert 'pushrail_ingest_request_seconds_bucket{le="0.025"} 0.0' in shown
    assert 'pushrail_ingest_request_seconds_bucket{le="0.05"} 3.0' in shown


def test_a_bad_keys_file_shows_until_it_is_repaired() -> None:
    metrics = IngestMetrics()
    assert "pushrail_ingest_keys_file_bad 0.0" in lines(metrics)
    metrics(ApiKeysChanged(0, "it is not JSON"))
    assert "pushrail_ingest_keys_file_bad 1.0" in lines(metrics)
    metrics(ApiKeysChanged(2, ""))
    assert "pushrail_ingest_keys_file_bad 0.0" in lines(metrics)


def test_a_scrape_shows_the_present_state() -> None:
    metrics = IngestMetrics()
    metrics.buffered_bytes, metrics.waiting, metrics.active_keys = (lambda: 7), (lambda: 3), (lambda: 2)
    metrics.kafka = lambda: {"ingest": ClientStatistics(brokers_up=3)}
    shown = lines(metrics)
    assert "pushrail_ingest_buffered_bytes 7.0" in shown
    assert "pushrail_ingest_unacknowledged 3.0" in shown
    assert "pushrail_ingest_api_keys 2.0" in shown
    assert 'pushrail_kafka_brokers_up{client="ingest"} 3.0' in shown
