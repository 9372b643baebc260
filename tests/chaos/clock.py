"""The wall clock. Bus, broker and harness share it, so that their times can be compared."""

from __future__ import annotations

import time


def now() -> float:
    """Epoch seconds."""
    return time.time_ns() / 1e9
