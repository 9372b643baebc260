"""The topics through which workers and commands know of each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class FleetLink(Protocol):
    """One worker's way to these topics. A failure raises `OperatorError`, and the next call tries again."""

    async def write_state(self, state: bytes | None) -> None:
        """Replace the worker's state in the topic of workers; None removes it."""

    async def write_answer(self, answer: bytes) -> None:
        """Write an answer to the topic of control."""

    def others(self) -> Sequence[bytes]:
        """The newest states of the other workers, as far as they have come since `begin`."""

    async def begin(self) -> None:
        """Find the end of the topic of control: `requests` gives what is written from now on."""

    async def requests(self) -> Sequence[bytes]:
        """The values of new records in the topic of control; waits until there are some."""
