"""Buses that do not exist, and workers that do not notice."""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.simulation.oracle.buses import find_swallowed
from tests.simulation.oracle.evidence import Written
from tests.simulation.oracle.told import BUS, Told

GONE: Final = "ResourceNotFoundException"


def wrong(told: Told) -> list[str]:
    return [violation.sentence.partition(" ")[2] for violation in find_swallowed(told.story)]


def world() -> tuple[Told, Written]:
    told = Told()
    told.document()
    return told, told.event(1_000.0)


def swallow(told: Told, at: float, event: Written) -> None:
    call = told.call(at, event)
    call.entries = (call.entries[0]._replace(detail=b"", fault="customer"),)


def ask(told: Told, at: float, code: str = "", **more: Any) -> None:
    told.call(
        at, api="DescribeEventBus", status=400 if code else 200, code=code, fault="customer" if code else None, **more
    )


def test_a_bus_that_is_checked_may_swallow_until_the_next_check() -> None:
    told, event = world()
    ask(told, 1_000.0)
    for number in range(12):
        swallow(told, 1_001.0 + 50 * number, event)
    ask(told, 1_600.0, GONE)
    swallow(told, 1_601.0, event)
    assert wrong(told) == []


def test_a_worker_that_was_told_stops_sending() -> None:
    told, event = world()
    ask(told, 1_000.0, GONE)
    swallow(told, 1_070.0, event)
    assert wrong(told) == [
        "goes on to send to arn:aws:events:us-east-1:123456789012:event-bus/one at 1070.000, which does not exist"
    ]


@pytest.mark.parametrize(
    ("code", "more", "is_told_otherwise"),
    [
        ("", {}, True),
        ("AccessDeniedException", {}, True),
        (GONE, {"is_garbled": True}, True),
        (GONE, {}, False),
        ("ThrottlingException", {}, False),
        ("", {"answered_at": None}, False),
    ],
)
def test_a_later_check_may_tell_otherwise(code: str, more: dict[str, Any], is_told_otherwise: bool) -> None:  # noqa: FBT001
    told, event = world()
    ask(told, 1_000.0, GONE)
    ask(told, 1_060.0, code, **more)
    swallow(told, 1_130.0, event)
    assert (wrong(told) == []) is is_told_otherwise


@pytest.mark.parametrize(
    ("change", "is_forgotten"),
    [
        ({"customerExternalId": "acct_two"}, True),
        ({"enabled": False}, True),
        ({"content": None}, True),
        ({"busArn": BUS.replace("/one", "/two")}, True),
        ({"eventTypes": ["order.*"]}, False),
    ],
)
def test_a_worker_forgets_a_bus_that_its_document_left(change: dict[str, Any], is_forgotten: bool) -> None:  # noqa: FBT001
    told, event = world()
    ask(told, 1_000.0, GONE)
    told.document(1_060.0, **change)
    told.document(1_120.0)
    swallow(told, 1_130.0, event)
    assert (wrong(told) == []) is is_forgotten


def test_a_worker_that_never_asks_is_found() -> None:
    told, event = world()
    for number in range(93):
        swallow(told, 1_001.0 + number, event)
    assert len(wrong(told)) == 1
    ask(told, 1_000.0)
    told.evidence.calls.sort(key=lambda call: call.at)
    assert wrong(told) == []


def test_the_first_check_may_fail_on_its_way_to_aws() -> None:
    told, event = world()
    for number in range(90):
        swallow(told, 1_001.0 + number, event)
    assert wrong(told) == [], "the worker asks again after 30 s, which is one more check that may fail"


@pytest.mark.parametrize(("is_asked", "due_at"), [(True, 1_600.0), (False, 1_031.0)])
def test_a_check_that_is_long_due_is_found(is_asked: bool, due_at: float) -> None:  # noqa: FBT001
    told, event = world()
    if is_asked:
        ask(told, 1_000.0)
    swallow(told, 1_001.0, event)
    swallow(told, due_at + 200, event)
    assert wrong(told) == [], "no check was due while nothing was sent"
    swallow(told, due_at + 261, event)
    assert len(wrong(told)) == 1
