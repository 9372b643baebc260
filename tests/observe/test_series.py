"""Declarations of metrics, and their values in Prometheus' formats."""

from __future__ import annotations

import pytest

from pushrail_stream.observe.series import KAFKA_METRICS, Exposition, Histogram, Metric
from pushrail_stream.ports.kafka import ClientStatistics


def test_a_histogram_counts_up_to_its_bounds() -> None:
    histogram = Histogram((0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 7.0):
        histogram.observe(value)
    assert histogram.buckets == [("0.1", 2.0), ("1.0", 3.0), ("+Inf", 4.0)]
    assert histogram.sum == pytest.approx(7.65)


GAUGE: Metric[float] = Metric("gauge", "level", "Help.", lambda n: n)
COUNTER: Metric[float] = Metric("counter", "calls", "Help.", lambda n: n)
ONE_LABEL: Metric[float] = Metric("gauge", "level", "Help.", lambda n: {"a": n, "b": 1.0}, ("of",))
TWO_LABELS: Metric[float] = Metric("gauge", "level", "Help.", lambda n: {("a", "x"): n}, ("of", "at"))


@pytest.mark.parametrize(
    ("metric", "lines"),
    [
        (GAUGE, ["level 3.0"]),
        (COUNTER, ["calls_total 3.0"]),
        (ONE_LABEL, ['level{of="a"} 3.0', 'level{of="b"} 1.0']),
        (TWO_LABELS, ['level{at="x",of="a"} 3.0']),
    ],
    ids=["gauge", "counter", "one label", "two labels"],
)
def test_a_declaration_reads_its_values(metric: Metric[float], lines: list[str]) -> None:
    text, _ = Exposition(lambda: [metric.collect(3.0)])("")
    shown = [line for line in text.decode().splitlines() if not line.startswith("#")]
    assert shown == lines
    assert shown[0].startswith(metric.exposed_name)


def test_the_client_chooses_the_format() -> None:
    exposition = Exposition(list)
    assert exposition("application/openmetrics-text; version=1.0.0")[1].startswith("application/openmetrics-text")
    assert exposition("")[1].startswith("text/plain")
    assert exposition("application/openmetrics-text; version=next")[1].startswith("text/plain"), "an odd version"


def test_each_kafka_client_has_its_series() -> None:
    clients = {"events": ClientStatistics(brokers_up=3, errors=2), "copies": ClientStatistics(brokers_up=1)}
    text = Exposition(lambda: [metric.collect(clients) for metric in KAFKA_METRICS])("")[0].decode()
    assert 'pushrail_kafka_brokers_up{client="events"} 3.0' in text
    assert 'pushrail_kafka_brokers_up{client="copies"} 1.0' in text
    assert 'pushrail_kafka_request_errors_total{client="events"} 2.0' in text
