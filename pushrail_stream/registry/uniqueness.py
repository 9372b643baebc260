"""Uniqueness: ids, roles and external IDs belong to one document or customer each, so that no event goes to another.

CONTRACTS.md, "The destination document", has the rule.
"""

from __future__ import annotations

from typing import final

from pushrail_stream.core.destination import Destination
from pushrail_stream.registry.json_document import Problem
from pushrail_stream.settings.eventbridge import Claim, auth_of, claims_of

_Key = tuple[str, tuple[str, ...]]
"""The field of a claim, and the claimed value."""
_Claimant = tuple[tuple[str, str], str]
"""The claiming customer, and the claim's own key."""


@final
class UniquenessIndex:
    """The ids, roles and external IDs that documents claim. A lookup costs the same for any number of documents."""

    def __init__(self) -> None:
        self._claimants: dict[_Key, dict[str, _Claimant]] = {}

    def add(self, document: str, destination: Destination) -> None:
        """Claim all that the document names."""
        for claim in _claims(destination):
            self._claimants.setdefault(claim[:2], {})[document] = destination.owner, claim.key

    def remove(self, document: str, destination: Destination) -> None:
        """Release all that the document claimed."""
        for claim in _claims(destination):
            claimants = self._claimants.get(claim[:2], {})
            claimants.pop(document, None)
            if not claimants:
                self._claimants.pop(claim[:2], None)

    def claimants(self, destination: Destination) -> set[str]:
        """The documents that share a claim with this destination."""
        return {document for claim in _claims(destination) for document in self._claimants.get(claim[:2], ())}

    def conflict(self, document: str, destination: Destination) -> Problem | None:
        """Why the document cannot be used beside the others; None if it can."""
        for claim in _claims(destination):
            for other, (owner, key) in self._claimants.get(claim[:2], {}).items():
                # An id belongs to one document, any other value to one customer.
                is_shared = claim.field != "id" and (owner == destination.owner or (key and key == claim.key))
                if other != document and not is_shared:
                    return Problem(claim.field, claim.problem.format(other))
        return None


def is_same(one: Destination, other: Destination) -> bool:
    """Whether two documents claim the same for the same customer, so that one is a version of the other."""
    return one.owner == other.owner and _claims(one) == _claims(other)


def _claims(destination: Destination) -> tuple[Claim, ...]:
    problem = f"{destination.id} is already the id of {{}}"
    return Claim("id", (destination.id,), problem), *claims_of(destination.bus), *auth_of(destination).claims()
