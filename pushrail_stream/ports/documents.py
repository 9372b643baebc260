"""Destination documents: where they come from, and where commands write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from pushrail_stream.ports.pipeline import Observer


class DocumentChange(NamedTuple):
    """A destination document that is new, changed or gone (content None); ``problem``: why it cannot be read."""

    name: str
    """What it is called where it lies: a file, or a key of a topic."""
    content: bytes | None
    problem: str = ""


class DocumentStore(Protocol):
    """Where destination documents are kept, for commands that change them."""

    async def everything(self) -> Sequence[DocumentChange]:
        """Every document there is."""

    async def read(self, name: str) -> bytes | None:
        """A document as it is now; None when it is gone. Only after `everything`."""

    async def write(self, name: str, content: bytes | None) -> None:
        """Write a document, or delete it (None). Readers see the old one or the new, also after a crash."""


class DocumentSource(Protocol):
    """Where destination documents come from."""

    async def changes(self) -> Sequence[DocumentChange]:
        """Every document the first time, later what has changed; waits until something has."""


class DirectoryUpdater(Protocol):
    """Keeps a directory up to date."""

    async def load(self, observe: Observer) -> None:
        """Return when everything there is has been read."""

    async def follow(self, observe: Observer) -> None:
        """Follow what changes until cancelled."""
