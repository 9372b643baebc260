"""A destination's states are ordered by severity."""

from __future__ import annotations

from pushrail_stream.core.destination_state import STATES, severity


def test_the_worst_state_has_the_highest_severity() -> None:
    assert sorted(STATES, key=severity) == ["ok", "retrying", "slowed", "blocked", "suspended", "gone"]
