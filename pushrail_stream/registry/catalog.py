"""The catalog: the destinations there are now, while their documents come, change and go.

A document that is wrong, or claims what is another customer's, or whose sealed secret does not open, changes nothing:
the last good one stays in use. Of those that claim the same and of which none was there before, none is used. What has
no good version stands without credentials: its events become dead letters, which can be replayed, and do not vanish.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple, final

from pushrail_stream.blocking import map_in_daemon_threads
from pushrail_stream.core.destination import AccessKey, Destination
from pushrail_stream.ports import DocumentChange
from pushrail_stream.registry.claims import Claims, is_same
from pushrail_stream.registry.directory import FileDirectory
from pushrail_stream.registry.documents import NO_CREDENTIALS, Parsed, stand_in
from pushrail_stream.registry.findings import Caveat, Problem, Refusal
from pushrail_stream.registry.rules import SEALED

_OPENERS: Final = 16
"""Threads that read documents with sealed secrets: what KMS has to open waits for an answer from afar."""

_SEALED: Final = SEALED.encode()

Parse = Callable[[str, bytes], Parsed | tuple[Problem, ...]]
"""Name and content of a document to what it stands for, or to what is wrong with it."""
Read = tuple[DocumentChange, Parsed | tuple[Problem, ...] | None]
"""A change, and what its content was read as; None: the document is gone."""


class CatalogChange(NamedTuple):
    """What a change of documents came to."""

    put: tuple[str, ...]
    """Ids of destinations that are new or changed."""
    removed: tuple[str, ...]
    refusals: tuple[Refusal, ...]
    caveats: tuple[Caveat, ...]


@final
class Catalog:
    """Implements `ports.Directory`. `take` may run in another thread: readers see the old state or the new one."""

    def __init__(self, parse: Parse) -> None:
        self._parse = parse
        self._good: dict[str, Destination] = {}
        self._refused: dict[str, Destination | None] = {}
        """Documents that are wrong, with what stands for them as far as that can be read."""
        self._clashing: dict[str, Parsed] = {}
        self._waiting: dict[str, DocumentChange] = {}
        self._claims = Claims()
        """Of what is in use."""
        self._now = FileDirectory()
        self._standing = self._now
        """What is in use, and what stands without credentials."""

    @property
    def bad(self) -> int:
        """Documents whose present content is not in use."""
        return len(self._refused.keys() | self._clashing.keys())

    @property
    def waiting(self) -> tuple[DocumentChange, ...]:
        """Documents whose sealed secrets may open later, as they are now: to be applied again then."""
        return tuple(self._waiting.values())

    def route(self, vendor: str, customer_external_id: str) -> Sequence[Destination]:
        """All destinations of a customer, enabled or not, usable or refused, ordered by id."""
        return self._standing.route(vendor, customer_external_id)

    def get(self, destination_id: str) -> Destination | None:
        """The destination of this id, usable or refused; None when there is none (any more)."""
        return self._standing.get(destination_id)

    def document_of(self, destination_id: str) -> str | None:
        """What the document of this destination is called where it lies."""
        return self._standing.file_of(destination_id)

    def is_refused(self, destination_id: str) -> bool:
        """Whether the destination stands without credentials because its document is refused."""
        return self.get(destination_id) is not None and self._now.get(destination_id) is None

    def __iter__(self) -> Iterator[Destination]:
        """Those in use."""
        return iter(self._now)

    def __len__(self) -> int:
        return len(self._now)

    def apply(self, changes: Iterable[DocumentChange]) -> CatalogChange:
        """Take changes in, all at once for those who read."""
        return self.take(self.read(changes))

    def read(self, changes: Iterable[DocumentChange]) -> list[Read]:
        """Read changes, which changes nothing yet. May take long: secrets are opened."""
        changes = list(changes)
        sealed = [change for change in changes if is_sealed(change)]
        opened = dict(zip(sealed, map_in_daemon_threads(self._read, sealed, _OPENERS), strict=True))
        return [(change, opened[change] if change in opened else self._read(change)) for change in changes]

    def take(self, changes: Iterable[Read]) -> CatalogChange:
        """Take in what was read, all at once for those who look up. Quick."""
        before = self._now
        refusals: list[Refusal] = []
        caveats: list[Caveat] = []
        candidates: dict[str, Parsed] = {}
        gone: dict[str, Destination] = {}
        for change, parsed in changes:
            name = change.name
            self._clashing.pop(name, None)
            self._refused.pop(name, None)
            self._waiting.pop(name, None)
            if parsed is None:
                candidates.pop(name, None)
                if (was := self._drop(name)) is not None:
                    gone[was.id] = was
                continue
            if not isinstance(parsed, Parsed):
                self._refused[name] = stand_in(change.content or b"")
                refusals += [Refusal(name, *found) for found in parsed]
                continue
            if parsed.may_open_later:
                self._waiting[name] = change
            if parsed.locked is not None:
                self._refused[name] = None
                refusals.append(Refusal(name, *parsed.locked))
                if self._opens(name, candidates):
                    continue
            candidates[name] = parsed
            caveats += [Caveat(name, *caveat) for caveat in parsed.caveats]
        refusals += self._decide(candidates, gone)
        self._now = FileDirectory(self._good.items())
        self._standing = self._with_stand_ins()
        put = tuple(d.id for d in self._now if before.get(d.id) != d)
        removed = tuple(d.id for d in before if self._now.get(d.id) is None)
        return CatalogChange(put, removed, tuple(refusals), tuple(caveats))

    def _read(self, change: DocumentChange) -> Parsed | tuple[Problem, ...] | None:
        if change.content is not None:
            return self._parse(change.name, change.content)
        return (Problem("", change.problem),) if change.problem else None

    def _opens(self, name: str, candidates: Mapping[str, Parsed]) -> bool:
        """Whether there is a last good document of this name, with its secret."""
        good = candidates[name].destination if name in candidates else self._good.get(name)
        return good is not None and not (isinstance(good.auth, AccessKey) and good.auth.secret is None)

    def _decide(self, candidates: dict[str, Parsed], gone: Mapping[str, Destination]) -> list[Refusal]:
        """Use what clashes with nothing; ``gone``: by id what documents stood for that are no more."""
        refusals = []
        # What clashed before may not any more, now that others have changed or gone.
        wanted = candidates | self._clashing
        self._clashing = {}
        everything = Claims()
        for name, parsed in wanted.items():
            everything.add(name, parsed.destination)
        # Those that were there first, so that a newcomer finds what they claim now, not what they claimed.
        for name in sorted(wanted, key=lambda name: self._origin(name, wanted[name], gone) is None):
            parsed = wanted[name]
            origin, before = self._origin(name, parsed, gone), self._good.get(name)
            if before is not None:
                self._claims.remove(name, before)
            conflict = self._claims.conflict(name, parsed.destination)
            if conflict is None and (origin is None or not is_same(origin, parsed.destination)):
                # What several want is nobody's; only who had it before the dispute keeps it.
                conflict = everything.conflict(name, parsed.destination)
            if conflict is None:
                self._good[name] = parsed.destination
            else:
                self._clashing[name] = parsed
                if name in candidates:
                    refusals.append(Refusal(name, *conflict))
            if name in self._good:
                self._claims.add(name, self._good[name])
        return refusals

    def _origin(self, name: str, parsed: Parsed, gone: Mapping[str, Destination]) -> Destination | None:
        """What a document has come of: its last good version, or the same destination's under another name."""
        moved = gone.get(parsed.destination.id)
        return moved if moved is not None and is_same(moved, parsed.destination) else self._good.get(name)

    def _with_stand_ins(self) -> FileDirectory:
        refused = self._refused | {name: clashing.destination for name, clashing in self._clashing.items()}
        found = {name: d for name, d in sorted(refused.items()) if d is not None and name not in self._good}
        if not found:
            return self._now
        owners: dict[str, set[tuple[str, str]]] = {}
        for destination in (*self._good.values(), *found.values()):
            owners.setdefault(destination.id, set()).add((destination.vendor, destination.customer_external_id))
        standing = {destination.id: (name, destination) for name, destination in self._good.items()}
        for name, destination in found.items():
            # An id that several customers claim will be one's: the others' dead letters must not go there then.
            is_shared = len(owners[destination.id]) > 1
            whose = f"{destination.vendor}/{destination.customer_external_id}"
            shown = f"{destination.id} of {whose}" if is_shared else destination.id
            standing.setdefault(shown, (name, replace(destination, id=shown, auth=NO_CREDENTIALS)))
        return FileDirectory(standing.values())

    def _drop(self, name: str) -> Destination | None:
        before = self._good.pop(name, None)
        if before is not None:
            self._claims.remove(name, before)
        return before


def is_sealed(change: DocumentChange) -> bool:
    """Whether the document holds what has to be opened."""
    return change.content is not None and _SEALED in change.content
