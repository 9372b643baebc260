"""The calls of one worker: together they have a limit, and one endpoint for each region."""

from __future__ import annotations

from pushrail_stream.core.worker_calls import MAX_CALLS, WorkerCalls


def test_there_is_room_below_the_limit() -> None:
    calls = WorkerCalls()
    assert calls.has_room
    calls.in_flight = MAX_CALLS - 1
    assert calls.has_room
    calls.in_flight = MAX_CALLS
    assert not calls.has_room


def test_a_region_has_one_endpoint() -> None:
    calls = WorkerCalls()
    assert calls.endpoint("us-east-1") is calls.endpoint("us-east-1")
    assert calls.endpoint("us-east-1") is not calls.endpoint("eu-west-1")
