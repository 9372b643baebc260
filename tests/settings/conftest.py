"""Fixtures of this room."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings file in the working directory, and no variable of the developer's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PUSHRAIL_CONFIG", raising=False)
