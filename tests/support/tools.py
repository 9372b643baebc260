"""Programs that tests need and Python does not include. Without them a user gets a loud line, and CI fails."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest

UNCHECKED: Final = "what it checks is not checked"
"""With these words a test says that it is left out for want of a tool."""


def needed_tool(name: str, how_to_get_it: str) -> str:
    """The program's path; without it the test is left out with a reason, or fails where CI is set."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        unavailable(f"{name} is not installed ({how_to_get_it})")
    return found


def unavailable(why: str) -> NoReturn:
    """Leave the test out for want of a tool, with a reason that the run's end repeats; where CI is set, fail it."""
    message = f"{why}: {UNCHECKED}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def optional_package(name: str, how_to_get_it: str) -> Any:
    """A package too large to be installed for everybody; without it the test is left out, and the run's end says so."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        pytest.skip(f"{name.partition('.')[0]} is not installed ({how_to_get_it}): {UNCHECKED}")
