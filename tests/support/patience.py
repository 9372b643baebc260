"""Limits of the waits of tests."""

from __future__ import annotations

from typing import Final

PATIENCE_SECS: Final = 120.0
"""Longest wait for a condition that must come true: enough for a machine that is many times slower, and no promise."""
