"""Fixtures of this room."""

from __future__ import annotations

import pytest

from tests.support.log_time import Time


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr("pushrail_stream.observe.logging.time", time)
    return time
