"""Units in which EventBridge bills."""

from __future__ import annotations

import pytest

from pushrail_stream.core.units import units_of


@pytest.mark.parametrize(("size", "units"), [(1, 1), (65_536, 1), (65_537, 2), (131_072, 2), (1_048_576, 16)])
def test_each_64_kb_is_a_unit(size: int, units: int) -> None:
    assert units_of(size) == units
