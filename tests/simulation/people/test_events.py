from __future__ import annotations

from random import Random

from pushrail_stream.core.event import Event, decode
from tests.simulation.people.events import good_event, large_event, odd_event

NOW_MS = 1_780_000_000_000
VALID = {"null_key", "large", "too_large", "aws_source", "big_integer", "unknown_field", "unknown_customer"}


def test_a_good_event_is_valid_and_names_its_story() -> None:
    dice = Random(1)
    for number in range(50):
        sent = good_event(dice, "customer-1", f"key-{number}", NOW_MS)
        event = decode(sent.value, tuple(sent.headers), None)
        assert isinstance(event, Event), event
        assert (event.vendor, event.customer_external_id) == ("acme", "customer-1")
        assert event.idempotency_key == f"key-{number}"
        assert event.occurred_at_ms == NOW_MS


def test_odd_records_are_of_every_kind_and_as_bad_as_they_say() -> None:
    dice, seen = Random(1), dict[str, bool]()
    for number in range(300):
        sent = odd_event(dice, "customer-1", f"key-{number}", NOW_MS)
        seen[sent.kind] = isinstance(decode(sent.value, tuple(sent.headers), None), Event)
    assert {kind for kind, is_valid in seen.items() if is_valid} == VALID
    assert len(seen) == 15


def test_an_event_without_vendor_takes_that_of_the_settings() -> None:
    dice = Random(1)
    sent = next(one for one in (odd_event(dice, "c", "k", NOW_MS) for _ in range(300)) if one.kind == "without_vendor")
    assert isinstance(decode(sent.value, tuple(sent.headers), "acme"), Event)


def test_a_large_event_fits_alone_into_a_call() -> None:
    sent = large_event(Random(1), "customer-1", "key-1", NOW_MS)
    event = decode(sent.value, tuple(sent.headers), None)
    assert isinstance(event, Event)
    assert 200_000 < len(sent.value or b"") < 256 * 1024
    assert (event.customer_external_id, event.idempotency_key) == ("customer-1", "key-1")
