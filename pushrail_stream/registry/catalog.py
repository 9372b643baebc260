"""The catalog: the destinations there are now, while their documents come, change and go.

A document that is wrong, or claims what is another customer's, or whose sealed secret does not open, changes nothing:
the last good one stays in use. When all documents are read for the first time there is no last good one: of those that
clash none may be used, and one that does not open stands without its secret, so that its events are not skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple, final

from pushrail_stream.core.destination import AccessKey, Destination
from pushrail_stream.ports import DocumentChange
from pushrail_stream.registry.claims import Claims
from pushrail_stream.registry.directory import FileDirectory, find_clashes
from pushrail_stream.registry.documents import Parsed
from pushrail_stream.registry.findings import Caveat, Problem, Refusal
from pushrail_stream.registry.rules import SEALED

_OPENERS: Final = 16
"""Threads that read documents with sealed secrets: what KMS has to open waits for an answer from afar."""

_SEALED: Final = SEALED.encode()

Parse = Callable[[str, bytes], Parsed | tuple[Problem, ...]]
"""Name and content of a document to what it stands for, or to what is wrong with it."""


class CatalogChange(NamedTuple):
    """What a change of documents came to."""

    put: tuple[str, ...]
    """Ids of destinations that are new or changed."""
    removed: tuple[str, ...]
    refusals: tuple[Refusal, ...]
    caveats: tuple[Caveat, ...]


@final
class Catalog:
    """Implements `ports.Directory`. `apply` may run in another thread: readers see the old state or the new one."""

    def __init__(self, parse: Parse) -> None:
        self._parse = parse
        self._good: dict[str, Destination] = {}
        self._clashing: dict[str, Parsed] = {}
        self._bad: set[str] = set()
        self._waiting: dict[str, DocumentChange] = {}
        self._claims = Claims()
        self._disputed = Claims()
        self._loaded = False
        self._now = FileDirectory()

    @property
    def bad(self) -> int:
        """Documents whose present content is not in use."""
        return len(self._bad)

    @property
    def waiting(self) -> tuple[DocumentChange, ...]:
        """Documents whose sealed secrets may open later, as they are now: to be applied again then."""
        return tuple(self._waiting.values())

    def route(self, vendor: str, customer_external_id: str) -> Sequence[Destination]:
        """All destinations of a customer, enabled or not, ordered by id."""
        return self._now.route(vendor, customer_external_id)

    def get(self, destination_id: str) -> Destination | None:
        """The destination of this id; None when there is none (any more)."""
        return self._now.get(destination_id)

    def document_of(self, destination_id: str) -> str | None:
        """What the document of this destination is called where it lies."""
        return self._now.file_of(destination_id)

    def __iter__(self) -> Iterator[Destination]:
        return iter(self._now)

    def __len__(self) -> int:
        return len(self._now)

    def apply(self, changes: Iterable[DocumentChange]) -> CatalogChange:
        """Take changes in, all at once for those who read."""
        before = self._now
        refusals: list[Refusal] = []
        caveats: list[Caveat] = []
        candidates: dict[str, Parsed] = {}
        for change, parsed in self._parsed(list(changes)):
            name = change.name
            candidates.pop(name, None)
            self._settle(name)
            self._bad.discard(name)
            self._waiting.pop(name, None)
            if parsed is None:
                self._drop(name)
                continue
            if not isinstance(parsed, Parsed):
                self._bad.add(name)
                refusals += [Refusal(name, *found) for found in parsed]
                continue
            if parsed.may_open_later:
                self._waiting[name] = change
            if parsed.locked is not None:
                self._bad.add(name)
                refusals.append(Refusal(name, *parsed.locked))
                if self._opens(name):
                    continue
            candidates[name] = parsed
            caveats += [Caveat(name, *caveat) for caveat in parsed.caveats]
        refusals += self._add(candidates) if self._loaded else self._load(candidates)
        self._now = FileDirectory(self._good.items())
        put = tuple(d.id for d in self._now if before.get(d.id) != d)
        removed = tuple(d.id for d in before if self._now.get(d.id) is None)
        return CatalogChange(put, removed, tuple(refusals), tuple(caveats))

    def _parsed(
        self, changes: Sequence[DocumentChange]
    ) -> Iterable[tuple[DocumentChange, Parsed | tuple[Problem, ...] | None]]:
        sealed = [change for change in changes if change.content is not None and _SEALED in change.content]
        with ThreadPoolExecutor(_OPENERS) as threads:
            opened = dict(zip(sealed, threads.map(self._parse_change, sealed), strict=True))
        return [(change, opened[change] if change in opened else self._parse_change(change)) for change in changes]

    def _parse_change(self, change: DocumentChange) -> Parsed | tuple[Problem, ...] | None:
        """None: the document is gone."""
        if change.content is not None:
            return self._parse(change.name, change.content)
        return (Problem("", change.problem),) if change.problem else None

    def _opens(self, name: str) -> bool:
        """Whether there is a last good document of this name, with its secret."""
        good = self._good.get(name)
        return good is not None and not (isinstance(good.auth, AccessKey) and good.auth.secret is None)

    def _load(self, candidates: dict[str, Parsed]) -> list[Refusal]:
        self._loaded = True
        clashes = find_clashes((name, parsed.destination) for name, parsed in candidates.items())
        for refusal in clashes:
            if (parsed := candidates.pop(refusal.file, None)) is not None:
                self._dispute(refusal.file, parsed)
        for name, parsed in candidates.items():
            self._use(name, parsed.destination)
        return clashes

    def _add(self, candidates: dict[str, Parsed]) -> list[Refusal]:
        refusals = []
        # What clashed before may not any more, now that others have changed or gone.
        for name, parsed in (candidates | self._clashing).items():
            before = self._good.get(name)
            if before is not None:
                self._claims.remove(name, before)
            self._settle(name)
            conflict = self._conflict(name, parsed.destination, before)
            if conflict is None:
                if parsed.locked is None:
                    self._bad.discard(name)
                self._use(name, parsed.destination)
                continue
            if name in candidates:
                refusals.append(Refusal(name, *conflict))
            self._dispute(name, parsed)
            if before is not None:
                self._claims.add(name, before)
        return refusals

    def _conflict(self, name: str, destination: Destination, before: Destination | None) -> Problem | None:
        conflict = self._claims.conflict(name, destination)
        if conflict is None and (before is None or (before.id, before.auth) != (destination.id, destination.auth)):
            # What is disputed is nobody's; only who had it before the dispute keeps it.
            conflict = self._disputed.conflict(name, destination)
        return conflict

    def _dispute(self, name: str, parsed: Parsed) -> None:
        self._clashing[name] = parsed
        self._disputed.add(name, parsed.destination)
        self._bad.add(name)

    def _settle(self, name: str) -> None:
        parsed = self._clashing.pop(name, None)
        if parsed is not None:
            self._disputed.remove(name, parsed.destination)

    def _use(self, name: str, destination: Destination) -> None:
        self._good[name] = destination
        self._claims.add(name, destination)

    def _drop(self, name: str) -> None:
        before = self._good.pop(name, None)
        if before is not None:
            self._claims.remove(name, before)
