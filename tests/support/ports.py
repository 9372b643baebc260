"""Free ports of 127.0.0.1 for servers that tests start, from a range of this test process's own."""

from __future__ import annotations

import os
import random
import socket
from typing import Final

_FIRST: Final = 20_000
"""The lowest port. All lie below every system's range of ephemeral ports.

A client that keeps connecting to an *ephemeral* port while its server is down can be given that very port for its own
end, connect to itself, and keep the server from coming back.
"""
_PORTS_PER_PROCESS: Final = 1_000
"""Ports of each test process, so that parallel processes never take each other's, even while a server restarts."""
_RANGES: Final = 12
"""Ranges below the ephemeral ports; more parallel processes than these share ranges."""


def free_port() -> int:
    """Return a port that no process listens on now."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Return distinct ports that no process listens on now.

    The system's generator draws them, because tests seed the ordinary one alike.
    """
    draw = random.SystemRandom()
    while True:
        ports = draw.sample(_own_range(), count)
        if all(map(_is_free, ports)):
            return ports


def _own_range() -> range:
    """The ports of this process: pytest-xdist calls its worker processes gw0, gw1 and so on."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    number = int(worker) + 1 if worker.isdigit() else 0
    first = _FIRST + _PORTS_PER_PROCESS * (number % _RANGES)
    return range(first, first + _PORTS_PER_PROCESS)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
