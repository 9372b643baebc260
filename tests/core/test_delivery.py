"""Deliveries: each settles exactly once."""

from __future__ import annotations

import pytest

from pushrail_stream.core.delivery import Delivery
from pushrail_stream.core.offsets import OffsetTracker
from tests.support.samples import SAMPLE_EVENT, delivery, example_record


def test_the_last_delivery_settles_its_record() -> None:
    tracker = OffsetTracker()
    pending = tracker.track(7, 100, 2)
    assert pending is not None
    first, second = (Delivery(SAMPLE_EVENT, example_record(7), to, 100, pending) for to in ("dst_a", "dst_b"))

    first.settle()
    assert (first.settled, second.settled, pending.is_open) == (True, False, True)
    second.settle()
    assert not pending.is_open


def test_a_second_settlement_raises() -> None:
    tracker = OffsetTracker()
    pending = tracker.track(7, 100, 2)
    assert pending is not None
    one = Delivery(SAMPLE_EVENT, example_record(7), "dst_a", 100, pending)
    one.settle()

    with pytest.raises(RuntimeError, match=r"pushrail\.events/3/7 to dst_a settled twice"):
        one.settle()

    assert pending.is_open


def test_a_delivery_begins_without_attempts() -> None:
    new = delivery(size=321)
    assert (new.attempts, new.first_attempt_ms, new.settled, new.size) == (0, None, False, 321)


def test_a_delivery_shows_origin_and_target() -> None:
    assert repr(delivery()) == "Delivery(pushrail.events/3/7 to dst_acme, attempts=0)"
