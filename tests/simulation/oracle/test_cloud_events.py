"""CloudEvents, found again as the events that they were made of."""

from __future__ import annotations

import json

import pytest

from pushrail_stream.core.event import Event, decode
from pushrail_stream.core.record import Record
from pushrail_stream.settings.cloud_event import cloud_event
from tests.simulation.oracle.cloud_events import CloudEvents
from tests.support.builders import event

TRACE = ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
VALUE = event(correlationId="corr-1")


def record(value: bytes | None) -> Record:
    return Record("pushrail.events", 0, 0, b"key", value, (TRACE,), 0)


def made(value: bytes = VALUE) -> bytes:
    decoded = decode(value, (TRACE,), "acme")
    assert isinstance(decoded, Event)
    return cloud_event(decoded)


def test_a_cloud_event_is_its_event() -> None:
    known = CloudEvents([record(None), record(b"[]"), record(b"no JSON"), record(event(number=1)), record(VALUE)])
    assert known.value_of(made()) == (VALUE, True)
    assert known.value_of(VALUE) == (VALUE, False)


@pytest.mark.parametrize("change", ["id", "time", "source", "traceparent", "data"])
def test_another_cloud_event_is_no_event(change: str) -> None:
    wrong = json.dumps({**json.loads(made()), change: "other"}, separators=(",", ":")).encode()
    assert CloudEvents([record(VALUE)]).value_of(wrong) == (wrong, True)
