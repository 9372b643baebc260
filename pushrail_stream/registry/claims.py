"""Claims: what each document says is its own, so that a newcomer cannot take what is another customer's."""

from __future__ import annotations

from typing import final

from pushrail_stream.core.destination import AssumeRole, Destination
from pushrail_stream.registry.findings import Problem

_Customer = tuple[str, str]


@final
class Claims:
    """Ids, roles and external IDs of the documents in use. Every question is O(1), however many there are."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}
        self._roles: dict[str, dict[str, tuple[_Customer, str]]] = {}
        self._external_ids: dict[str, dict[str, _Customer]] = {}

    def add(self, document: str, destination: Destination) -> None:
        """The document is in use now."""
        self._ids[destination.id] = document
        if isinstance(auth := destination.auth, AssumeRole):
            owner = _customer(destination)
            self._roles.setdefault(auth.role_arn, {})[document] = (owner, auth.external_id)
            self._external_ids.setdefault(auth.external_id, {})[document] = owner

    def remove(self, document: str, destination: Destination) -> None:
        """The document is not in use any more."""
        if self._ids.get(destination.id) == document:
            del self._ids[destination.id]
        if isinstance(auth := destination.auth, AssumeRole):
            for claims, key in ((self._roles, auth.role_arn), (self._external_ids, auth.external_id)):
                claimants: dict[str, object] = claims.get(key, {})  # type: ignore[assignment]
                claimants.pop(document, None)
                if not claimants:
                    claims.pop(key, None)

    def conflict(self, document: str, destination: Destination) -> Problem | None:
        """Why a document cannot be used beside those that are; None when it can."""
        holder = self._ids.get(destination.id, document)
        if holder != document:
            return Problem("id", f"{destination.id} is already the id of {holder}")
        if not isinstance(auth := destination.auth, AssumeRole):
            return None
        owner = _customer(destination)
        for other, (customer, external_id) in self._roles.get(auth.role_arn, {}).items():
            if customer != owner and external_id != auth.external_id:
                return Problem("auth.roleArn", f"is in use for another customer, with another external ID ({other})")
        for other, customer in self._external_ids.get(auth.external_id, {}).items():
            if customer != owner:
                problem = f"is already another customer's ({other}): every customer needs one of their own"
                return Problem("auth.externalId", problem)
        return None


def _customer(destination: Destination) -> _Customer:
    return destination.vendor, destination.customer_external_id
