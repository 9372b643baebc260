"""Destinations of documents: those in use, and those without credentials that stand in for refused documents.

Several documents may claim one id. They form a group, and a change recomputes only the groups that it touches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple, final

from pushrail_stream.core.destination import Destination
from pushrail_stream.registry.directory import DestinationIndex
from pushrail_stream.registry.documents import NO_CREDENTIALS

_Shown = dict[str, tuple[str, Destination]]
"""Ids as they are looked up, each with its document's name and its destination."""


class Difference(NamedTuple):
    """Ids of usable destinations, in order."""

    put: tuple[str, ...]
    """New or changed."""
    removed: tuple[str, ...]


@final
class Standing:
    """Every document's destination; `directory` is what is looked up."""

    def __init__(self) -> None:
        self._by_document: dict[str, Destination] = {}
        self._documents: dict[str, tuple[str, ...]] = {}
        """By destination id: the documents that claim it."""
        self.directory = DestinationIndex()
        self.usable = 0
        """Destinations in use."""

    def __iter__(self) -> Iterator[Destination]:
        """The usable ones, ordered by id."""
        return (destination for destination in self.directory if is_usable(destination))

    def change(self, documents: Mapping[str, Destination | None]) -> Difference:
        """Let each document stand for a destination, or for none.

        At most one document of an id may be usable; a destination without credentials stands for a refused document.
        """
        ids = {was.id for name in documents if (was := self._by_document.get(name)) is not None}
        ids |= {destination.id for destination in documents.values() if destination is not None}
        before = {key: entry for destination_id in ids for key, entry in self._shown(destination_id).items()}
        for name, destination in documents.items():
            self._set(name, destination)
        after = {key: entry for destination_id in ids for key, entry in self._shown(destination_id).items()}
        self.directory.change(
            [entry for key, entry in after.items() if before.get(key) != entry],
            [key for key in before if key not in after],
        )
        used = {key: destination for key, (_, destination) in after.items() if is_usable(destination)}
        were = {key: destination for key, (_, destination) in before.items() if is_usable(destination)}
        self.usable += len(used) - len(were)
        put = sorted(key for key, destination in used.items() if were.get(key) != destination)
        return Difference(tuple(put), tuple(sorted(were.keys() - used.keys())))

    def _set(self, name: str, destination: Destination | None) -> None:
        was = self._by_document.pop(name, None)
        if was is not None:
            left = tuple(other for other in self._documents.pop(was.id) if other != name)
            if left:
                self._documents[was.id] = left
        if destination is not None:
            self._by_document[name] = destination
            self._documents[destination.id] = (*self._documents.get(destination.id, ()), name)

    def _shown(self, destination_id: str) -> _Shown:
        """The destination that stands for the documents of this id."""
        group = {name: self._by_document[name] for name in sorted(self._documents.get(destination_id, ()))}
        shown = {d.id: (name, d) for name, d in group.items() if is_usable(d)}
        # An id that several customers claim will be one's: the others' dead letters must not go there then.
        is_shared = len({(d.vendor, d.customer_external_id) for d in group.values()}) > 1
        for name, destination in group.items():
            if not is_usable(destination):
                whose = f"{destination.vendor}/{destination.customer_external_id}"
                key = f"{destination.id} of {whose}" if is_shared else destination.id
                shown.setdefault(key, (name, replace(destination, id=key)))
        return shown


def is_usable(destination: Destination) -> bool:
    """Whether it is more than a stand-in for a document that is refused."""
    return bool(destination.auth != NO_CREDENTIALS)
