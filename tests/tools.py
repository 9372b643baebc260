"""Programs that tests need and Python does not bring along: a loud line for a user without them, a failure in CI.

And a port for them to listen on.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from pathlib import Path

import pytest


def needed_tool(name: str, how_to_get_it: str) -> str:
    """The program's path; without it the test is left out with a reason, or fails where CI is set."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        message = f"{name} is not installed ({how_to_get_it}): what it checks is not checked"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has now."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])
