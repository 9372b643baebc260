"""The directory of destinations: looked up by customer, never searched, changed without a copy of the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import final

from pushrail_stream.core.destination import Destination

_Customer = tuple[str, str]
"""Vendor and customerExternalId."""


@final
class DestinationIndex:
    """Destinations with the names of their documents. Implements `ports.Directory`.

    One thread may change it while others look up: a lookup finds the state before the change or after it.
    """

    __slots__ = ("_by_customer", "_by_id", "_files")

    def __init__(self, entries: Iterable[tuple[str, Destination]] = ()) -> None:
        self._files: dict[str, str] = {}
        self._by_id: dict[str, Destination] = {}
        self._by_customer: dict[_Customer, tuple[Destination, ...]] = {}
        self.change(entries, ())

    def change(self, put: Iterable[tuple[str, Destination]], gone: Iterable[str]) -> None:
        """Set destinations, each with its document's name, and remove others by id.

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
            self._files[destination.id] = name
        for customer, route in routes.items():
            self._by_customer[customer] = _ordered(route.values())
        for customer in [customer for customer, route in routes.items() if not route]:
            del self._by_customer[customer]
        for destination_id in gone:
            self._by_id.pop(destination_id, None)
            self._files.pop(destination_id, None)

    def route(self, vendor: str, customer_external_id: str) -> tuple[Destination, ...]:
        """All destinations of a customer, enabled or not, ordered by id."""
        return self._by_customer.get((vendor, customer_external_id), ())

    def get(self, destination_id: str) -> Destination | None:
        """The destination of this id; None when there is none."""
        return self._by_id.get(destination_id)

    def file_of(self, destination_id: str) -> str | None:
        """Where the document of this destination was found."""
        return self._files.get(destination_id)

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


def _customer(destination: Destination) -> _Customer:
    return destination.vendor, destination.customer_external_id


def _ordered(destinations: Iterable[Destination]) -> tuple[Destination, ...]:
    return tuple(sorted(destinations, key=lambda destination: destination.id))
