"""Entries: the content that the customer's bus gets, and its size as AWS counts it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pushrail_stream.core.batch import Batch, CallLimits
from pushrail_stream.core.delivery import Delivery
from pushrail_stream.core.event import Event, decode
from pushrail_stream.core.offsets import OffsetTracker
from pushrail_stream.eventbridge.entry import FORMER_MAX_REQUEST_BYTES, RegionLimits, entry_size, render
from tests.support.batches import render_batch
from tests.support.builders import destination
from tests.support.samples import DESTINATION, EXAMPLE, decode_example, example_record, fields, json_values, texts

short = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
changes = st.fixed_dictionaries(
    {
        "eventType": short,
        "customerExternalId": short,
        "idempotencyKey": short,
        "payload": st.dictionaries(texts, json_values, max_size=3),
    }
)


def test_the_example_of_the_seed_as_an_entry() -> None:
    decoded = decode(EXAMPLE, (), "acme")
    assert isinstance(decoded, Event)

    assert render(decoded, DESTINATION) == {
        "Time": 1779805268,
        "Source": "pushrail.acme",
        "Resources": ["acct_8K2zRq", "order_38a91f-completed"],
        "DetailType": "order.completed",
        "Detail": EXAMPLE.decode(),
        "EventBusName": "arn:aws:events:us-east-1:123456789012:event-bus/bus-acme",
    }


def test_a_valid_traceparent_is_in_the_entry() -> None:
    traced = decode_example((("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),))
    entry = render(traced, DESTINATION)
    assert entry["TraceHeader"] == "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1"


def test_no_valid_traceparent_no_trace_header() -> None:
    assert "TraceHeader" not in render(decode_example(), DESTINATION)
    assert "TraceHeader" not in render(decode_example((("traceparent", b"00-none"),)), DESTINATION)


@settings(max_examples=50)
@given(changes, st.sampled_from([None, 1, "\t"]), texts)
def test_the_detail_is_the_produced_bytes(changed: dict[str, Any], indent: Any, source: str) -> None:
    produced = json.dumps(fields(**changed), indent=indent, ensure_ascii=False).encode()
    decoded = decode(produced, (), "acme")
    assert isinstance(decoded, Event)
    assert render(decoded, destination(source=source))["Detail"].encode() == produced


@settings(max_examples=50)
@given(changes, texts)
def test_the_size_is_what_aws_counts(changed: dict[str, Any], source: str) -> None:
    sent, to = decode_example(**changed), destination(source=source)
    entry = render(sent, to)
    counted = [entry["Source"], entry["DetailType"], entry["Detail"], *entry["Resources"]]
    assert entry_size(sent, to) == 14 + sum(len(text.encode("utf-8")) for text in counted)


def test_neither_bus_nor_trace_header_counts() -> None:
    traced = decode_example((("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),))
    assert entry_size(traced, destination(bus="x" * 500)) == entry_size(decode_example(), DESTINATION)


@settings(max_examples=30)
@given(changes)
def test_an_entry_is_always_the_same(changed: dict[str, Any]) -> None:
    first = json.dumps(render(decode_example(**changed), destination()))
    assert json.dumps(render(decode_example(**changed), destination())) == first


@given(
    st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31)),  # noqa: DTZ001 - made UTC below
    st.integers(0, 999_999),
)
def test_the_time_is_the_second_it_occurred(moment: datetime, micros: int) -> None:
    second = moment.replace(microsecond=0, tzinfo=UTC)
    occurred = f"{moment.replace(microsecond=0).isoformat()}.{micros:06}Z"
    elapsed = (second - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    assert render(decode_example(occurredAt=occurred), DESTINATION)["Time"] == elapsed


@pytest.mark.parametrize(
    ("occurred", "seconds"),
    [
        ("1969-12-31T23:59:59Z", -1),
        ("1969-12-31T23:59:59.001Z", -1),
        ("1969-12-31T23:59:58.999Z", -2),
        ("1970-01-01T00:00:00.999Z", 0),
        ("1970-01-01T01:00:00+01:00", 0),
    ],
)
def test_fractions_are_cut_off_downwards(occurred: str, seconds: int) -> None:
    assert render(decode_example(occurredAt=occurred), DESTINATION)["Time"] == seconds


def test_regions_begin_with_the_full_limits() -> None:
    limits = RegionLimits()
    assert limits.of(destination()) == CallLimits(10, 1_048_576)
    assert limits.refused(destination().bus, FORMER_MAX_REQUEST_BYTES + 1)
    assert limits.of(destination()) == CallLimits(10, FORMER_MAX_REQUEST_BYTES)
    assert limits.of(destination(region="eu-west-1")) == CallLimits(10, 1_048_576)


def test_a_late_refusal_lowers_no_limit() -> None:
    limits = RegionLimits()
    assert not limits.refused(destination().bus, FORMER_MAX_REQUEST_BYTES)
    assert limits.of(destination()) == CallLimits(10, 1_048_576)


def test_entries_keep_the_deliveries_order() -> None:
    pending_records = OffsetTracker()
    deliveries = []
    for offset, key in enumerate(["first", "second", "third"]):
        pending = pending_records.track(offset, 1, 1)
        assert pending is not None
        event = decode_example(idempotencyKey=key)
        deliveries.append(Delivery(event, example_record(offset), DESTINATION.id, 100, pending))

    entries = render_batch(Batch(DESTINATION, tuple(deliveries), CallLimits(10, 1_000)))

    assert [entry["Resources"][1] for entry in entries] == ["first", "second", "third"]
