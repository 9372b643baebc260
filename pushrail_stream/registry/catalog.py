"""The catalog: the present destinations, while their documents are added, changed and removed.

A document changes nothing if it is invalid, claims a value of another customer, or has a sealed secret that does not
open: its last good version stays in use. Of new documents that claim the same, none is used. A document without a good
version stands for a destination without credentials: its events become dead letters, which can be replayed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple, final

from pushrail_stream.blocking import map_in_daemon_threads
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.signals import DocumentCaveat, DocumentRefused
from pushrail_stream.ports.documents import DocumentChange
from pushrail_stream.registry.directory import DocumentDestinations, is_usable
from pushrail_stream.registry.documents import NO_CREDENTIALS, Parsed, stand_in
from pushrail_stream.registry.json_document import Problem
from pushrail_stream.registry.rules import SEALED
from pushrail_stream.registry.uniqueness import UniquenessIndex, is_same
from pushrail_stream.settings.eventbridge import AccessKey

_DECRYPTERS: Final = 16
"""Threads that read documents with sealed secrets: those that KMS decrypts wait for an answer from afar."""

_SEALED: Final = SEALED.encode()

Parse = Callable[[str, bytes], Parsed | tuple[Problem, ...]]
"""From the name and content of a document to its destination, or to its problems."""
Read = tuple[DocumentChange, Parsed | tuple[Problem, ...] | None]
"""A change with its parsed content, or with its problems; None if the document is gone."""


class CatalogChange(NamedTuple):
    """The result of a change of documents."""

    put: tuple[str, ...]
    """Ids of new or changed destinations."""
    removed: tuple[str, ...]
    refusals: tuple[DocumentRefused, ...]
    caveats: tuple[DocumentCaveat, ...]


class _Taken(NamedTuple):
    """Changes that are being applied."""

    candidates: dict[str, Parsed]
    """Documents that may be used if they clash with no other."""
    gone: dict[str, Destination]
    """By destination id: the destinations of removed documents."""
    freed: list[Destination]
    """Destinations whose clashing documents were changed or removed."""
    refusals: list[DocumentRefused]
    caveats: list[DocumentCaveat]


@final
class Catalog:
    """Implements `ports.Directory`. `take` may run in another thread: lookups find the old state or the new one."""

    def __init__(self, parse: Parse) -> None:
        self._parse = parse
        self._good: dict[str, Destination] = {}
        self._refused: dict[str, Destination | None] = {}
        """Invalid documents, each with its stand-in as far as one can be read."""
        self._clashing: dict[str, Parsed] = {}
        self._waiting: dict[str, DocumentChange] = {}
        self._superseded: dict[str, DocumentChange] = {}
        """Documents that wait for a key, although their names have newer contents: these are invalid."""
        self._bad: set[str] = set()
        self._claims = UniquenessIndex()
        """Claims of the documents in use."""
        self._disputed = UniquenessIndex()
        """Claims of the clashing documents."""
        self._destinations = DocumentDestinations()

    @property
    def bad(self) -> int:
        """Documents whose present content is not in use."""
        return len(self._bad)

    @property
    def waiting(self) -> tuple[DocumentChange, ...]:
        """Documents whose sealed secrets may open later: apply them again then."""
        return (*self._waiting.values(), *self._superseded.values())

    def route(self, vendor: str, customer_external_id: str) -> Sequence[Destination]:
        """All destinations of a customer, enabled or not, usable or refused, ordered by id."""
        return self._destinations.index.route(vendor, customer_external_id)

    def get(self, destination_id: str) -> Destination | None:
        """The destination of this id, usable or refused; None if there is none."""
        return self._destinations.index.get(destination_id)

    def document_of(self, destination_id: str) -> str | None:
        """The name of this destination's document."""
        return self._destinations.index.document_of(destination_id)

    def is_refused(self, destination_id: str) -> bool:
        """Whether the destination has no credentials because its document is refused."""
        destination = self.get(destination_id)
        return destination is not None and not is_usable(destination)

    def __iter__(self) -> Iterator[Destination]:
        """The destinations in use, ordered by id."""
        return iter(self._destinations)

    def __len__(self) -> int:
        return self._destinations.usable

    def apply(self, changes: Iterable[DocumentChange]) -> CatalogChange:
        """Apply changes, all at once for lookups."""
        return self.take(self.read(changes))

    def read(self, changes: Iterable[DocumentChange]) -> list[Read]:
        """Parse changes without applying them. It may take long: secrets are decrypted."""
        changes = list(changes)
        sealed = [change for change in changes if is_sealed(change)]
        opened = dict(zip(sealed, map_in_daemon_threads(self._read, sealed, _DECRYPTERS), strict=True))
        return [(change, opened[change] if change in opened else self._read(change)) for change in changes]

    def take(self, changes: Iterable[Read]) -> CatalogChange:
        """Apply parsed changes. The cost grows only with the changes and the documents that clash with them."""
        taken = _Taken({}, {}, [], [], [])
        names: set[str] = set()
        for change, parsed in changes:
            names.add(change.name)
            if isinstance(parsed, Parsed) and change is self._superseded.get(change.name):
                self._take_superseded(change.name, parsed, taken)
            else:
                self._take_one(change, parsed, taken)
        names |= self._decide(taken)
        for name in names:
            (self._bad.add if name in self._refused or name in self._clashing else self._bad.discard)(name)
        put, removed = self._destinations.change({name: self._destination_of(name) for name in names})
        return CatalogChange(put, removed, tuple(taken.refusals), tuple(taken.caveats))

    def _take_one(self, change: DocumentChange, parsed: Parsed | tuple[Problem, ...] | None, taken: _Taken) -> None:
        name = change.name
        self._refused.pop(name, None)
        waited = self._waiting.pop(name, None) or self._superseded.pop(name, None)
        if (clash := self._clashing.pop(name, None)) is not None:
            self._disputed.remove(name, clash.destination)
            taken.freed.append(clash.destination)
        if parsed is None:
            taken.candidates.pop(name, None)
            if (was := self._drop(name)) is not None:
                taken.gone[was.id] = was
            return
        if not isinstance(parsed, Parsed):
            self._refuse(change, parsed, waited, taken)
            return
        if parsed.may_open_later:
            self._waiting[name] = change
        if parsed.locked is not None:
            self._refused[name] = None
            taken.refusals.append(DocumentRefused(name, *parsed.locked))
            if self._has_secret(name, taken.candidates):
                return
        taken.candidates[name] = parsed
        taken.caveats.extend(DocumentCaveat(name, *caveat) for caveat in parsed.caveats)

    def _refuse(
        self, change: DocumentChange, problems: tuple[Problem, ...], waited: DocumentChange | None, taken: _Taken
    ) -> None:
        """Refuse an invalid document. ``waited``: its version before, if that one waits for a key."""
        self._refused[change.name] = stand_in(change.content or b"")
        if waited is not None:
            self._superseded[change.name] = waited
        taken.refusals.extend(DocumentRefused(change.name, *found) for found in problems)

    def _take_superseded(self, name: str, parsed: Parsed, taken: _Taken) -> None:
        """Use the last good version of a document whose newer content is invalid, when its key has appeared."""
        if not parsed.may_open_later:
            del self._superseded[name]
        if parsed.locked is None or not self._has_secret(name, taken.candidates):
            taken.candidates[name] = parsed

    def _read(self, change: DocumentChange) -> Parsed | tuple[Problem, ...] | None:
        if change.content is not None:
            return self._parse(change.name, change.content)
        return (Problem("", change.problem),) if change.problem else None

    def _has_secret(self, name: str, candidates: Mapping[str, Parsed]) -> bool:
        """Whether this document has a last good version, with its secret."""
        good = candidates[name].destination if name in candidates else self._good.get(name)
        return good is not None and not (isinstance(good.bus.auth, AccessKey) and good.bus.auth.secret is None)

    def _decide(self, taken: _Taken) -> set[str]:
        """Use the documents that clash with no other. Returns the earlier ones that were decided again."""
        again = self._related(taken)
        for name, parsed in again.items():
            del self._clashing[name]
            self._disputed.remove(name, parsed.destination)
        wanted = taken.candidates | again
        # A document that is used now may have released a claim of another one, so repeat until nothing changes.
        while len(conflicts := self._use(wanted, taken.gone)) < len(wanted):
            wanted = {name: wanted[name] for name in conflicts}
        for name, parsed in wanted.items():
            self._clashing[name] = parsed
            self._disputed.add(name, parsed.destination)
        taken.refusals.extend(DocumentRefused(name, *conflicts[name]) for name in wanted if name in taken.candidates)
        return set(again)

    def _related(self, taken: _Taken) -> dict[str, Parsed]:
        """The clashing documents to decide again: they share a claim with a changed document, or with one another."""
        found: dict[str, Parsed] = {}
        sharing = [*taken.freed, *taken.gone.values()]
        for name, parsed in taken.candidates.items():
            sharing += [parsed.destination, *filter(None, [self._good.get(name)])]
        while sharing:
            for name in self._disputed.claimants(sharing.pop()) - found.keys():
                found[name] = self._clashing[name]
                sharing += [found[name].destination, *filter(None, [self._good.get(name)])]
        return found

    def _use(self, wanted: Mapping[str, Parsed], gone: Mapping[str, Destination]) -> dict[str, Problem]:
        """Use the documents that clash with no other; return the conflicts of the rest."""
        conflicts: dict[str, Problem] = {}
        everything = UniquenessIndex()
        for name, parsed in wanted.items():
            everything.add(name, parsed.destination)
        origins = {name: self._origin(name, parsed, gone) for name, parsed in wanted.items()}
        # Earlier documents first, so that a new one meets their present claims and not their former ones.
        for name in sorted(wanted, key=lambda name: origins[name] is None):
            wants, origin = wanted[name].destination, origins[name]
            if (before := self._good.get(name)) is not None:
                self._claims.remove(name, before)
            conflict = self._claims.conflict(name, wants)
            if conflict is None and (origin is None or not is_same(origin, wants)):
                # A value that several documents claim belongs to none, except to the one that had it before.
                conflict = everything.conflict(name, wants)
            if conflict is None:
                self._good[name] = wants
            else:
                conflicts[name] = conflict
            if name in self._good:
                self._claims.add(name, self._good[name])
        return conflicts

    def _origin(self, name: str, parsed: Parsed, gone: Mapping[str, Destination]) -> Destination | None:
        """The last good version of a document, or of the same destination under another name."""
        moved = gone.get(parsed.destination.id)
        return moved if moved is not None and is_same(moved, parsed.destination) else self._good.get(name)

    def _destination_of(self, name: str) -> Destination | None:
        """The destination of a document: in use, or without credentials because the document is refused."""
        if (good := self._good.get(name)) is not None:
            return good
        if (clash := self._clashing.get(name)) is not None:
            return replace(clash.destination, bus=replace(clash.destination.bus, auth=NO_CREDENTIALS))
        return self._refused.get(name)

    def _drop(self, name: str) -> Destination | None:
        before = self._good.pop(name, None)
        if before is not None:
            self._claims.remove(name, before)
        return before


def is_sealed(change: DocumentChange) -> bool:
    """Whether the document holds a sealed secret."""
    return change.content is not None and _SEALED in change.content
