from __future__ import annotations

from tests.chaos.disturbances import Disturbances
from tests.chaos.world import SESSION_SECS


def stray_until(*, stopped: tuple[float, float], away: tuple[float, float]) -> float:
    """Until when calls of the stopped worker may be repetitions."""
    disturbances = Disturbances()
    disturbances.stopped(1, *stopped)
    disturbances.broker_gone(away[0])
    disturbances.broker_back(away[1])
    (stray,) = (loss for loss in disturbances.of(1) if loss.stray)
    return stray.until


def test_a_stopped_worker_hears_late_while_the_broker_is_away() -> None:
    stopped = (100.0, 100.0 + SESSION_SECS)
    elsewhere = stray_until(stopped=stopped, away=(500.0, 506.0))
    assert elsewhere < 500.0
    assert stray_until(stopped=stopped, away=(stopped[1], stopped[1] + 50)) > stopped[1] + 50
    assert stray_until(stopped=stopped, away=(10.0, 16.0)) == elsewhere
