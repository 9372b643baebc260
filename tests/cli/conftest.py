"""Fixtures of this room."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.builders import SECRET
from tests.support.commands import Shell
from tests.support.documents import EXAMPLE, write


@pytest.fixture
def one_destination(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory with one destination, and no variable of the developer's."""
    monkeypatch.chdir(tmp_path)
    for name in ("PUSHRAIL_CONFIG", "COLUMNS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    Path("config").mkdir()
    write(Path("config/destinations"), acme=EXAMPLE)


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys, [SECRET])
