"""The calculator: figures that can be checked by hand, and the limits that they break."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.eventbridge.credentials import _RENEW_FROM
from pushrail_stream.eventbridge.sts import SESSION_SECS
from pushrail_stream.observe.fan_out import _OTHER_FILES
from pushrail_stream.operations import capacity
from pushrail_stream.operations.capacity import CALL_US, EVENT_US, Figure, Load, plan_capacity
from pushrail_stream.settings.model import Settings

DEFAULTS = Settings()
MEASURED = {1.0: 222.7, 2.97: 117.7, 10.0: 57.7}
"""`make bench`, row fill, 2026-11: entries a call, and microseconds of CPU an event."""


def figures(settings: Settings = DEFAULTS, **load: Any) -> dict[str, Figure]:
    given = Load(**({"events": 1_000, "customers": 100} | load))
    found = plan_capacity(given, settings)
    assert all(one.source for one in found), "every number names its origin"
    named = {f"{one.group}: {one.name}": one for one in found}
    assert len(named) == len(found)
    return named


def values(settings: Settings = DEFAULTS, **load: Any) -> dict[str, float]:
    return {name: one.value for name, one in figures(settings, **load).items()}


@pytest.mark.parametrize("entries", MEASURED)
def test_the_model_of_cpu_is_near_the_measurement(entries: float) -> None:
    assert abs((CALL_US / entries + EVENT_US) / MEASURED[entries] - 1) < 0.12


def test_constants_are_those_of_the_parts_that_have_them() -> None:
    assert capacity._SESSION_SECS == SESSION_SECS * _RENEW_FROM
    assert capacity._OTHER_FILES == _OTHER_FILES


def test_a_small_plan_is_checked_by_hand() -> None:
    found = values(events=1_000, customers=100, size=1_000, peak=3)
    assert found["traffic: events at the peak"] == 3_000
    assert found["traffic: entries per call"] == 4, "30 a second for each destination, 3 of them within 100 ms"
    assert found["traffic: calls at the peak"] == 750
    assert found["workers: CPU at the peak"] == pytest.approx(3_000 * (190 / 4 + 45) / 1e6)
    assert found["workers: workers"] == 2
    assert found["workers: memory per worker"] == 100 + 3 + 256
    assert found["kafka: partitions"] == 8
    assert found["kafka: disk of pushrail.events"] == pytest.approx(1_000 * 1_000 * 7 * 86_400 * 3 / 2**30)
    assert found["largest customer: PutEvents calls"] == 30, "300 a second in full calls"
    assert found["sign-ins: first sign-in of all"] == 0.5
    assert found["price: PutEvents, all customers"] == pytest.approx(2_592)


def test_partitions_follow_from_the_span_of_a_commit() -> None:
    found = values(events=10_000, customers=10_000, peak=2)
    assert found["kafka: partitions"] == max(4 * found["workers: workers"], 20)
    assert values(events=100, customers=10_000, size=500_000, peak=1)["kafka: partitions"] == 30, "by bytes"


def test_the_settings_in_force_count() -> None:
    quick = Settings.model_validate({"delivery": {"flush_ms": 0}, "limits": {"max_buffered_mib": 512}})
    found = values(quick)
    assert found["traffic: entries per call"] == 1
    assert found["workers: memory per worker"] > 1_024


def test_limits_that_are_broken_are_told() -> None:
    found = figures(events=50_000, customers=5, largest=60, region="eu-north-1")
    warned = {name for name, one in found.items() if one.warning}
    assert warned == {
        "largest customer: CPU of its worker", "largest customer: calls in flight", "largest customer: PutEvents calls",
        "sign-ins: first sign-in of all",
    }  # fmt: skip
    assert "the least of all regions" in found["largest customer: PutEvents calls"].source
    assert {one.warning for one in figures().values()} == {""}
    assert figures(size=2_000_000)["traffic: entries per call"].warning.startswith("an event of this size")
    assert figures(customers=2_000_000)["sign-ins: AssumeRole calls"].warning == "more than the quota of 600"


@given(
    events=st.floats(0.01, 1e6), customers=st.integers(1, 10**6), size=st.integers(1, 10**6),
    fan_out=st.floats(0.01, 20), peak=st.floats(1, 50),
)  # fmt: skip
def test_more_load_never_needs_less(events: float, customers: int, size: int, fan_out: float, peak: float) -> None:
    def at(rate: float) -> dict[str, float]:
        return values(events=rate, customers=customers, size=size, fan_out=fan_out, peak=peak)

    less, more = at(events), at(events * 2)
    for name in ("workers: CPU at the peak", "workers: workers", "kafka: partitions"):
        assert 0 < less[name] <= more[name] * 1.000001
    assert all(value >= 0 for value in more.values())
