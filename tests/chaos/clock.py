"""The wall clock, which bus, broker and harness have in common: they are compared with each other."""

from __future__ import annotations

import time


def now() -> float:
    """Epoch seconds."""
    return time.time_ns() / 1e9
