"""The directory of destinations: looked up by customer, never searched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import final

from pushrail_stream.core.destination import Destination


@final
class FileDirectory:
    """Destinations with the names of their documents. Implements `ports.Directory`; never changes."""

    __slots__ = ("_by_customer", "_by_id", "_files")

    def __init__(self, entries: Iterable[tuple[str, Destination]] = ()) -> None:
        ordered = sorted(entries, key=lambda entry: entry[1].id)
        self._files = {destination.id: file for file, destination in ordered}
        self._by_id = {destination.id: destination for _, destination in ordered}
        by_customer: dict[tuple[str, str], tuple[Destination, ...]] = {}
        for _, destination in ordered:
            customer = (destination.vendor, destination.customer_external_id)
            by_customer[customer] = (*by_customer.get(customer, ()), destination)
        self._by_customer = by_customer

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
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)
