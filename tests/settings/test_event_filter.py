"""Filters of documents: the event that a pattern sees, and patterns that are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pushrail_stream.core.destination import DetailFormat
from pushrail_stream.core.event import MAX_LEVELS, Event, decode
from pushrail_stream.eventbridge.entry import render
from pushrail_stream.patterns import PatternError
from pushrail_stream.settings.event_filter import MAX_FILTER, EventFilter, check_filter
from tests.support.builders import VENDOR, destination
from tests.support.samples import DESTINATION, decode_example, fields, json_bytes


def filter_of(pattern: dict[str, Any], form: DetailFormat = "canonical", source: str = "pushrail.acme") -> EventFilter:
    return EventFilter(pattern, bus_arn=DESTINATION.bus.arn, source=source, detail_format=form)


def admits(pattern: dict[str, Any], form: DetailFormat = "canonical", **changes: Any) -> bool:
    return filter_of(pattern, form).admits(decode_example(**changes))


@pytest.mark.parametrize(
    ("pattern", "passes"),
    [
        ({"source": ["pushrail.acme"]}, True),
        ({"source": [{"anything-but": "pushrail.acme"}]}, False),
        ({"detail-type": [{"prefix": "order."}]}, True),
        ({"account": ["123456789012"], "region": ["us-east-1"], "version": ["0"]}, True),
        ({"time": ["2026-05-26T14:21:08Z"]}, True),
        ({"resources": ["acct_8K2zRq"]}, True),
        ({"resources": ["acct_other"]}, False),
        ({"detail": {"eventType": ["order.completed"]}}, True),
        ({"detail": {"payload": {"amount": [{"numeric": [">", 10]}]}}}, True),
        ({"detail": {"payload": {"amount": [{"numeric": [">", 100]}]}}}, False),
        ({"detail": {"metadata": {"env": [{"exists": False}]}}}, True),
        ({"$or": [{"source": ["x"]}, {"detail": {"payload": {"amount": [50]}}}]}, True),
        ({"$or": [{"time": [{"prefix": "2025"}]}, {"$or": [{"source": ["x"]}, {"region": ["us-east-1"]}]}]}, True),
    ],
    ids=str,
)
def test_a_pattern_sees_the_event_of_the_bus(pattern: dict[str, Any], passes: bool) -> None:  # noqa: FBT001
    assert admits(pattern, payload={"amount": 50}, metadata=...) is passes


def test_a_pattern_sees_the_cloud_event() -> None:
    pattern = {"detail": {"type": ["order.completed"], "data": {"amount": [50]}}}
    assert admits(pattern, "cloudevents", payload={"amount": 50})
    assert not admits(pattern, "cloudevents", payload={"amount": 51})
    assert not admits(pattern, payload={"amount": 50})


def test_source_and_time_are_those_of_the_entry() -> None:
    event = decode_example()
    entry = render(event, DESTINATION)
    assert filter_of({"source": [entry["Source"]], "resources": [entry["Resources"][1]]}).admits(event)


def test_the_deepest_event_passes_a_filter() -> None:
    deep = b"[" * (MAX_LEVELS - 2) + b"5" + b"]" * (MAX_LEVELS - 2)
    value = json_bytes(fields(payload={"a": "A"})).replace(b'"A"', deep)
    event = decode(value, (), VENDOR)
    assert isinstance(event, Event)
    for form, name in (("canonical", "payload"), ("cloudevents", "data")):
        pattern = {"detail": {name: {"a": [5]}}}
        assert EventFilter(
            pattern, bus_arn=DESTINATION.bus.arn, source="x", detail_format=form  # type: ignore[arg-type]
        ).admits(event)  # fmt: skip


def test_filters_compare_by_value() -> None:
    one, same = filter_of({"source": ["a"]}), filter_of(json.loads('{"source": ["a"]}'))
    assert one == same
    assert hash(one) == hash(same)
    others: list[object] = [
        filter_of({"source": ["b"]}), filter_of({"source": ["a"]}, "cloudevents"),
        filter_of({"source": ["a"]}, source="other"), {"source": ["a"]},
    ]  # fmt: skip
    assert all(one != other for other in others)
    number, constant = filter_of({"detail": {"flag": [1]}}), filter_of({"detail": {"flag": [True]}})
    assert number != constant
    assert repr(one) == "EventFilter({'source': ['a']})"


def test_a_destination_takes_what_its_types_and_its_filter_take() -> None:
    event = decode_example(payload={"amount": 50})
    passing, other = filter_of({"detail": {"payload": {"amount": [50]}}}), filter_of({"source": ["x"]})
    assert destination(filter=passing, event_types=("order.*",)).wants(event)
    assert not destination(filter=passing, event_types=("invoice.*",)).wants(event)
    assert not destination(filter=other).wants(event)
    assert not destination(filter=other).wants_all
    assert destination(filter=passing).chooses_as(destination(filter=passing, enabled=False))
    assert not destination(filter=passing).chooses_as(destination(filter=other))


@pytest.mark.parametrize(
    ("pattern", "path", "problem"),
    [
        ({"id": ["x"]}, "id", "is not known before EventBridge has taken the event"),
        ({"$or": [{"source": ["x"]}, {"id": ["y"]}]}, "$or[1].id", "is not known before"),
        ({"detailtype": ["x"]}, "detailtype", "must be one of account, detail, detail-type"),
        ({"eventType": ["x"]}, "eventType", "must be one of account"),
        ({"source": ["x" * MAX_FILTER]}, "", f"must have at most {MAX_FILTER} characters"),
        ({"source": []}, "source", "must not be empty"),
        ({"detail": {"a": [10**30]}}, "", "must have finite numbers of at most 64 bits"),
        ({"detail": {"a": [{"numeric": ["<", float("inf")]}]}}, "", "must have finite numbers"),
        ({"detail": {"a": [float("nan")]}}, "", "must have finite numbers"),
        ({"detail": {"a": ["\ud800"]}}, "", "must have finite numbers of at most 64 bits, Unicode characters"),
        ({"detail": {"\ud800": "x"}}, "", "must have finite numbers"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_wrong_filter_is_refused_by_path(pattern: Any, path: str, problem: str) -> None:
    with pytest.raises(PatternError) as refused:
        check_filter(pattern)
    assert refused.value.path == path
    assert refused.value.problem.startswith(problem)
