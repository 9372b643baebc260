"""Destination documents: their source, for workers, and their store, for commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class DocumentChange(NamedTuple):
    """A destination document that is new, changed or gone (content None); ``problem``: why it cannot be read."""

    name: str
    """Path of the file, or key of the record."""
    content: bytes | None
    problem: str = ""


class DocumentStore(Protocol):
    """The place of destination documents, for commands that change them."""

    async def everything(self) -> Sequence[DocumentChange]:
        """Every document."""

    async def read(self, name: str) -> bytes | None:
        """The present content of a document; None if it is gone. Call `everything` first."""

    async def write(self, name: str, content: bytes | None) -> None:
        """Write a document, or delete it (None). Readers see the old one or the new, also after a crash."""


class DocumentSource(Protocol):
    """The source of destination documents."""

    async def changes(self) -> Sequence[DocumentChange]:
        """Every document the first time, later those that have changed; waits until one has."""
