"""Declarations of metrics, and their values in Prometheus' formats."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

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
    own = re.compile("#|process_|python_|pushrail_build_info")
    shown = [line for line in text.decode().splitlines() if not own.match(line)]
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


def test_a_process_has_what_prometheus_clients_share() -> None:
    text = Exposition(list)("")[0].decode()
    version = metadata.version("pushrail-stream")
    assert f'pushrail_build_info{{version="{version}"}} 1.0' in text
    names = {line.partition("{")[0].partition(" ")[0] for line in text.splitlines() if not line.startswith("#")}
    assert names == {
        "pushrail_build_info", "python_info", "process_cpu_seconds_total", "process_resident_memory_bytes",
        "process_virtual_memory_bytes", "process_start_time_seconds", "process_open_fds", "process_max_fds",
    }  # fmt: skip
    page = (Path(__file__).parents[2] / "deploy" / "METRICS.md").read_text()
    assert {name for name in names if f"`{name}`" not in page} == set()


def test_a_copy_of_the_sources_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert 'pushrail_build_info{version="unknown"} 1.0' in Exposition(list)("")[0].decode()
