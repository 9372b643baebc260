"""Problems of documents, as values."""

from __future__ import annotations

from typing import NamedTuple


class Problem(NamedTuple):
    """A problem of a document: its dotted field (empty for the whole document) and a sentence without values."""

    field: str
    problem: str


class Refusal(NamedTuple):
    """A document that is not used, and why."""

    file: str
    """Path as it was found."""
    field: str
    """Dotted field (``auth.roleArn``); empty for the whole document."""
    problem: str

    def __str__(self) -> str:
        return ": ".join(part for part in self if part)


class Caveat(NamedTuple):
    """A document that is used, with something the operator should know."""

    file: str
    field: str
    problem: str

    def __str__(self) -> str:
        return ": ".join(part for part in self if part)
