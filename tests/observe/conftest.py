"""Fixtures of this room."""

from __future__ import annotations

import pytest

from tests.support.stopped_time import StoppedTime


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> StoppedTime:
    time = StoppedTime()
    monkeypatch.setattr("pushrail_stream.observe.logging.time", time)
    return time
