"""The directory of destinations: looked up by customer, never searched, changed without a copy of the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import final

from pushrail_stream.core.destination import Destination
from pushrail_stream.registry.documents import NO_CREDENTIALS

_Customer = tuple[str, str]
"""Vendor and customerExternalId."""
_Named = dict[str, tuple[str, Destination]]
"""Ids as they are looked up, each with the name of its document and its destination."""


@final
class DestinationIndex:
    """Destinations with the names of their documents. Implements `ports.Directory`.

    One thread may change it while others look up: a lookup finds the state before the change or after it.
    """

    __slots__ = ("_by_customer", "_by_id", "_documents")

    def __init__(self, entries: Iterable[tuple[str, Destination]] = ()) -> None:
        self._documents: dict[str, str] = {}
        self._by_id: dict[str, Destination] = {}
        self._by_customer: dict[_Customer, tuple[Destination, ...]] = {}
        self.change(entries, ())

    def change(self, put: Iterable[tuple[str, Destination]], gone: Iterable[str]) -> None:
        """Set destinations, each with the name of its document, and remove others by id.

        Every customer's route changes in one step: none lacks a destination that only moves to another document.
        """
        put, gone = list(put), list(gone)
        routes: dict[_Customer, dict[str, Destination]] = {}
        for destination_id in (*gone, *(destination.id for _, destination in put)):
            if (before := self._by_id.get(destination_id)) is not None:
                self._open(routes, _customer(before)).pop(destination_id, None)
        for name, destination in put:
            self._open(routes, _customer(destination))[destination.id] = destination
            self._by_id[destination.id] = destination
            self._documents[destination.id] = name
        for customer, route in routes.items():
            self._by_customer[customer] = _ordered(route.values())
        for customer in [customer for customer, route in routes.items() if not route]:
            del self._by_customer[customer]
        for destination_id in gone:
            self._by_id.pop(destination_id, None)
            self._documents.pop(destination_id, None)

    def route(self, vendor: str, customer_external_id: str) -> tuple[Destination, ...]:
        """All destinations of a customer, enabled or not, ordered by id."""
        return self._by_customer.get((vendor, customer_external_id), ())

    def get(self, destination_id: str) -> Destination | None:
        """The destination of this id; None if there is none."""
        return self._by_id.get(destination_id)

    def document_of(self, destination_id: str) -> str | None:
        """The name of this destination's document."""
        return self._documents.get(destination_id)

    def __iter__(self) -> Iterator[Destination]:
        """Ordered by id."""
        # A list is made in one step, whatever another thread changes.
        return iter(_ordered(list(self._by_id.values())))

    def __len__(self) -> int:
        return len(self._by_id)

    def _open(self, routes: dict[_Customer, dict[str, Destination]], customer: _Customer) -> dict[str, Destination]:
        """The customer's route as a mapping that is being changed."""
        if customer not in routes:
            routes[customer] = {destination.id: destination for destination in self.route(*customer)}
        return routes[customer]


@final
class DocumentDestinations:
    """The destination of every document: usable, or without credentials because its document is refused.

    Several documents may claim one id. They form a group, and a change recomputes only the groups that it touches.
    """

    def __init__(self) -> None:
        self._by_document: dict[str, Destination] = {}
        self._claimants: dict[str, tuple[str, ...]] = {}
        """By destination id: the documents that claim it."""
        self.index = DestinationIndex()
        """The destinations as they are looked up."""
        self.usable = 0
        """Destinations in use."""

    def __iter__(self) -> Iterator[Destination]:
        """The usable ones, ordered by id."""
        return filter(is_usable, self.index)

    def change(self, documents: Mapping[str, Destination | None]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Set the destination of each document, or remove it (None); the ids put and removed of usable ones, in order.

        At most one document of an id may be usable; a destination without credentials stands for a refused document.
        """
        ids = {was.id for name in documents if (was := self._by_document.get(name)) is not None}
        ids |= {destination.id for destination in documents.values() if destination is not None}
        before = self._named(ids)
        for name, destination in documents.items():
            self._set(name, destination)
        after = self._named(ids)
        changed = [entry for key, entry in after.items() if before.get(key) != entry]
        self.index.change(changed, before.keys() - after.keys())
        used, were = _usable(after), _usable(before)
        self.usable += len(used) - len(were)
        put = sorted(key for key, destination in used.items() if were.get(key) != destination)
        return tuple(put), tuple(sorted(were.keys() - used.keys()))

    def _set(self, name: str, destination: Destination | None) -> None:
        was = self._by_document.pop(name, None)
        if was is not None:
            left = tuple(other for other in self._claimants.pop(was.id) if other != name)
            if left:
                self._claimants[was.id] = left
        if destination is not None:
            self._by_document[name] = destination
            self._claimants[destination.id] = (*self._claimants.get(destination.id, ()), name)

    def _named(self, ids: Iterable[str]) -> _Named:
        """The destinations of the documents that claim these ids, by the id of their lookup."""
        found: _Named = {}
        for destination_id in ids:
            group = {name: self._by_document[name] for name in sorted(self._claimants.get(destination_id, ()))}
            found |= {d.id: (name, d) for name, d in group.items() if is_usable(d)}
            # If several customers claim an id, one gets it later: dead letters of the others must not go there.
            is_shared = len({_customer(d) for d in group.values()}) > 1
            for name, destination in group.items():
                if not is_usable(destination):
                    customer = "/".join(_customer(destination))
                    key = f"{destination.id} of {customer}" if is_shared else destination.id
                    found.setdefault(key, (name, replace(destination, id=key)))
        return found


def is_usable(destination: Destination) -> bool:
    """Whether it is more than a stand-in for a refused document."""
    return bool(destination.bus.auth != NO_CREDENTIALS)


def _usable(named: _Named) -> dict[str, Destination]:
    return {key: destination for key, (_, destination) in named.items() if is_usable(destination)}


def _customer(destination: Destination) -> _Customer:
    return destination.vendor, destination.customer_external_id


def _ordered(destinations: Iterable[Destination]) -> tuple[Destination, ...]:
    return tuple(sorted(destinations, key=lambda destination: destination.id))
