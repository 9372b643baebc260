"""The ends of deliveries, as the delivery log tells them."""

from __future__ import annotations

import json

from pushrail_stream.operations.attempts import Attempt, read_attempt
from pushrail_stream.sandbox.demo.observations import ends_of
from tests.support.attempt_records import said


def attempt(number: int, **changes: object) -> Attempt:
    found = read_attempt(json.dumps(said(number, **changes)).encode())
    assert found is not None
    return found


def test_ends_are_found_by_destination_and_key() -> None:
    ends = ends_of([attempt(1, status="retrying"), attempt(1), attempt(2, status="dead_lettered"), attempt(4)])
    assert {place: {key: end.get("status") for key, end in of.items()} for place, of in ends.items()} == {
        "dst_1": {"key-1": "delivered", "key-4": "delivered"},
        "dst_2": {"key-2": "dead_lettered"},
    }


def test_an_event_without_destination_ends_at_its_customer() -> None:
    ends = ends_of([attempt(1, destinationId=None, status="skipped")])
    assert list(ends) == ["acct_1"]


def test_a_record_that_is_no_event_has_no_end() -> None:
    assert ends_of([attempt(1, destinationId=None, customerExternalId=None, status="dead_lettered")]) == {}
