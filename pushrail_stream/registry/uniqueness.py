"""Uniqueness: ids, roles and external IDs belong to one document or customer each, so that no event goes to another.

CONTRACTS.md, "The destination document", has the rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, final

from pushrail_stream.core.destination import Destination
from pushrail_stream.registry.errors import Problem
from pushrail_stream.settings.eventbridge import AssumeRole

_Key = tuple[str, ...]
"""The kind of a claim, and the claimed value."""


class _Claimant(NamedTuple):
    customer: tuple[str, str]
    external_id: str | None


@final
class UniquenessIndex:
    """The ids, roles and external IDs that documents claim. A lookup costs the same for any number of documents."""

    def __init__(self) -> None:
        self._claimants: dict[_Key, dict[str, _Claimant]] = {}

    def add(self, document: str, destination: Destination) -> None:
        """Claim all that the document names."""
        claimant = _claimant(destination)
        for key in _keys(destination):
            self._claimants.setdefault(key, {})[document] = claimant

    def remove(self, document: str, destination: Destination) -> None:
        """Release all that the document claimed."""
        for key in _keys(destination):
            claimants = self._claimants.get(key, {})
            claimants.pop(document, None)
            if not claimants:
                self._claimants.pop(key, None)

    def claimants(self, destination: Destination) -> set[str]:
        """The documents that share a claim with this destination."""
        return {document for key in _keys(destination) for document in self._claimants.get(key, ())}

    def conflict(self, document: str, destination: Destination) -> Problem | None:
        """Why the document cannot be used beside the others; None if it can."""
        own = _claimant(destination)
        for key in _keys(destination):
            for other, claimant in self._claimants.get(key, {}).items():
                if other != document and (problem := _problem(key, own, other, claimant)) is not None:
                    return problem
        return None


def is_same(one: Destination, other: Destination) -> bool:
    """Whether two documents claim the same for the same customer, so that one is a version of the other."""
    return _claimant(one) == _claimant(other) and list(_keys(one)) == list(_keys(other))


def _problem(key: _Key, own: _Claimant, other: str, claimant: _Claimant) -> Problem | None:
    match key[0]:
        case "id":
            return Problem("id", f"{key[1]} is already the id of {other}")
        case "role" if claimant.customer != own.customer and claimant.external_id != own.external_id:
            return Problem("auth.roleArn", f"is in use for another customer, with another external ID ({other})")
        case "external ID" if claimant.customer != own.customer:
            problem = f"is already another customer's ({other}): every customer needs one of their own"
            return Problem("auth.externalId", problem)
        case _:
            return None


def _keys(destination: Destination) -> Iterator[_Key]:
    yield "id", destination.id
    if isinstance(auth := destination.auth, AssumeRole):
        # Within an account a role's name is unique whatever its path and case (IAM): other spellings are the same role.
        _, partition, _, _, account, resource = auth.role_arn.split(":", 5)
        yield "role", partition, account, resource.rpartition("/")[2].casefold()
        yield "external ID", auth.external_id


def _claimant(destination: Destination) -> _Claimant:
    external_id = destination.auth.external_id if isinstance(destination.auth, AssumeRole) else None
    return _Claimant((destination.vendor, destination.customer_external_id), external_id)
