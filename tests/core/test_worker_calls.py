"""The calls of one worker: together they have a limit, and one endpoint for each region."""

from __future__ import annotations

from dataclasses import replace

from pushrail_stream.core.worker_calls import MAX_CALLS, WorkerCalls
from tests.support.builders import destination


def test_there_is_room_below_the_limit() -> None:
    calls = WorkerCalls()
    assert calls.has_room
    calls.in_flight = MAX_CALLS - 1
    assert calls.has_room
    calls.in_flight = MAX_CALLS
    assert not calls.has_room


def test_a_service_has_one_endpoint_in_each_region() -> None:
    """An outage of one says nothing about another."""
    calls, bus = WorkerCalls(), destination().bus
    assert calls.endpoint(bus) is calls.endpoint(destination("other").bus)
    assert calls.endpoint(bus) is not calls.endpoint(replace(bus, region="eu-west-1"))
    assert calls.endpoint(bus) is not calls.endpoint(replace(bus, type="EVENTBRIDGE_V2"))
