"""A pending record: it closes with its last delivery, and never twice."""

from __future__ import annotations

import pytest

from pushrail_stream.core.offsets import OffsetTracker
from pushrail_stream.core.pending import PendingRecord


def test_a_record_closes_with_its_last_delivery() -> None:
    tracker = OffsetTracker()
    pending = tracker.track(7, 10, 2)
    assert pending is not None
    pending.settle()
    assert pending.is_open
    assert tracker.open_bytes == 10
    pending.settle()
    assert not pending.is_open
    assert tracker.open_bytes == 0
    with pytest.raises(RuntimeError, match="offset 7 settled more often"):
        pending.settle()


@pytest.mark.parametrize(
    ("deliveries", "is_lost", "is_replaced", "is_left"),
    [(1, False, False, True), (2, False, False, False), (2, True, False, True), (1, True, True, False)],
)
def test_the_next_owner_gets_records_that_can_be_dropped_whole(
    deliveries: int,
    is_lost: bool,  # noqa: FBT001
    is_replaced: bool,  # noqa: FBT001
    is_left: bool,  # noqa: FBT001
) -> None:
    tracker = OffsetTracker()
    pending = PendingRecord(tracker, 7, 10, deliveries, 0)
    tracker.is_replaced = is_replaced
    tracker.revoke(is_lost=is_lost)
    assert pending.is_revoked
    assert pending.is_for_next_owner == is_left
