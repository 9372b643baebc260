"""The pace of a replay: never faster than its rate."""

from __future__ import annotations

from pushrail_stream.operations.replay_sender import Pace


def test_unused_rate_is_not_saved_up() -> None:
    pace = Pace(10)
    assert pace.wait_secs(10, 100.0) == 0, "a minute of looking for the first allows no burst"
    assert pace.wait_secs(10, 100.25) == 0.75
    assert pace.wait_secs(5, 101.0) == 1.0
    assert pace.wait_secs(5, 160.0) == 0
    assert pace.wait_secs(5, 160.0) == 0.5
    assert Pace(None).wait_secs(500, 1.0) == 0
