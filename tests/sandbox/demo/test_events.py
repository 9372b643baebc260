"""The records that the demo produces."""

from __future__ import annotations

from pushrail_stream.sandbox.demo.events import plan_events
from tests.sandbox.demo.test_report import customer


def test_the_plan_has_every_kind_of_record() -> None:
    first, again = (plan_events(200, [customer()]) for _ in range(2))
    assert first == again
    assert len(first) == 200
    assert sum(record.customer is None for record in first) == 3
    assert sum(len(record.value) > 1_000_000 for record in first) == 1
    assert any(not record.value.isascii() for record in first)
    keys = [record.key for record in first if record.customer is not None]
    assert len(keys) == len(set(keys))
