"""The list of stories."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from tests.simulation.parity.kit import Kit

_PROTOCOLS: Final = ("classic", "consumer")


class Story(NamedTuple):
    """A story under one group protocol."""

    name: str
    tell: Callable[[Kit], None]
    protocol: str
    is_exclusive: bool
    """Whether it stops brokers, so that no other story may run meanwhile."""
    brokers: int


STORIES: Final[dict[str, Story]] = {}
"""By name."""


def story(
    *, groups: bool = False, exclusive: bool = False, brokers: int = 1
) -> Callable[[Callable[[Kit], None]], Callable[[Kit], None]]:
    """Add a story. ``groups``: once for each group protocol. ``brokers``: 1 or 2."""

    def add(tell: Callable[[Kit], None]) -> Callable[[Kit], None]:
        for protocol in _PROTOCOLS if groups else _PROTOCOLS[:1]:
            name = f"{tell.__name__}-{protocol}" if groups else tell.__name__
            assert name not in STORIES
            STORIES[name] = Story(name, tell, protocol, exclusive, brokers)
        return tell

    return add
