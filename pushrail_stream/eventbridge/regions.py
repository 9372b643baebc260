"""The regions that botocore's list of endpoints has: one that is not in it is new, or misspelt."""

from __future__ import annotations

from botocore.session import get_session


def known_regions() -> list[str]:
    """Every region with EventBridge, of every AWS partition."""
    session = get_session()
    found: list[str] = []
    for partition in session.get_available_partitions():
        found += session.get_available_regions("events", partition)
    return found
