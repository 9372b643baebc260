"""Fixtures of this room."""

from __future__ import annotations

from pathlib import Path

import pytest

from pushrail_stream.registry import folder
from pushrail_stream.registry.keyring import Keyring
from tests.support.sealing_keys import keyring, ring


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "LOOK_SECS", 0.01)


@pytest.fixture
def keys(tmp_path: Path) -> Keyring:
    return keyring(tmp_path / "keyring.json", ring("k"))
