"""Batches: no batch can be made that its bus would refuse as a whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.core.batch import Batch, CallLimits
from pushrail_stream.core.delivery import Delivery
from pushrail_stream.core.offsets import OffsetTracker
from tests.support.samples import DESTINATION, decode_example, delivery, example_record

LIMITS = CallLimits(10, 1_048_576)
sizes = st.integers(1, 200_000) | st.sampled_from([1, 104_857, 104_858, 524_288, 1_048_575, 1_048_576, 1_048_577])


@given(st.lists(st.tuples(sizes, st.sampled_from([DESTINATION.id] * 9 + ["dst_other"])), max_size=12))
def test_a_batch_keeps_its_limits(contents: list[tuple[int, str]]) -> None:
    deliveries = tuple(delivery(size, to=to) for size, to in contents)
    fits = (
        1 <= len(contents) <= 10
        and {to for _, to in contents} == {DESTINATION.id}
        and sum(size for size, _ in contents) <= 1_048_576
    )
    if fits:
        assert Batch(DESTINATION, deliveries, LIMITS).deliveries == deliveries
    else:
        with pytest.raises(ValueError, match=r"batch has|is not for"):
            Batch(DESTINATION, deliveries, LIMITS)


@pytest.mark.parametrize(
    ("contents", "told"),
    [
        ([], "1 to 10 deliveries, not 0"),
        ([delivery()] * 11, "1 to 10 deliveries, not 11"),
        ([delivery(), delivery(to="dst_other")], "dst_other, attempts=0.* is not for dst_acme"),
        ([delivery(1_048_576), delivery(1)], "at most 1048576 bytes, not 1048577"),
    ],
)
def test_an_invalid_batch_names_its_error(contents: list[Delivery], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Batch(DESTINATION, tuple(contents), LIMITS)


def test_the_limits_themselves_are_allowed() -> None:
    assert len(Batch(DESTINATION, tuple(delivery(104_857) for _ in range(10)), LIMITS).deliveries) == 10
    assert Batch(DESTINATION, (delivery(1_048_576),), LIMITS).deliveries[0].size == 1_048_576


def test_any_revoked_partition_revokes_a_batch() -> None:
    staying, leaving = OffsetTracker(), OffsetTracker()
    pending_records = [staying.track(1, 1, 1), leaving.track(1, 1, 1)]
    deliveries = tuple(
        Delivery(decode_example(), example_record(), DESTINATION.id, 100, pending)
        for pending in pending_records
        if pending is not None
    )
    batch = Batch(DESTINATION, deliveries, LIMITS)

    assert not batch.is_revoked()
    leaving.revoke()
    assert batch.is_revoked()
    assert not Batch(DESTINATION, deliveries[:1], LIMITS).is_revoked()
