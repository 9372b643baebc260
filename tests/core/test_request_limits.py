"""Request limits: a region's smaller limit is learnt from a refusal that it explains."""

from __future__ import annotations

import pytest

from pushrail_stream.core.request_limits import FORMER_MAX_REQUEST_BYTES, RequestLimits


def test_every_region_has_our_own_limit_until_it_refuses_a_request() -> None:
    limits = RequestLimits(1_000_000)
    assert limits.of("us-east-1") == 1_000_000
    assert limits.refused("us-east-1", FORMER_MAX_REQUEST_BYTES + 1)
    assert limits.of("us-east-1") == FORMER_MAX_REQUEST_BYTES
    assert limits.of("eu-west-1") == 1_000_000


def test_a_request_within_the_former_limit_teaches_nothing() -> None:
    limits = RequestLimits(1_000_000)
    assert not limits.refused("us-east-1", FORMER_MAX_REQUEST_BYTES)
    assert limits.of("us-east-1") == 1_000_000


@pytest.mark.parametrize("own", [1, 200_000])
def test_our_own_limit_may_be_smaller_still(own: int) -> None:
    limits = RequestLimits(own)
    limits.refused("us-east-1", 300_000)
    assert limits.of("us-east-1") == own
