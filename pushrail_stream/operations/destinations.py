"""The destinations there are now: their documents, the refused ones, and a test of each destination's setup."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pushrail_stream.core.destination import Destination
from pushrail_stream.core.signals import DocumentCaveat, DocumentRefused
from pushrail_stream.documents import load_registry
from pushrail_stream.operations.document_changes import unusable
from pushrail_stream.operations.document_plan import plan_documents, read_documents, stored_documents
from pushrail_stream.registry.catalog import Catalog
from pushrail_stream.registry.directory import DestinationIndex
from pushrail_stream.settings.eventbridge import auth_of
from pushrail_stream.settings.model import Settings

if TYPE_CHECKING:
    from pushrail_stream.eventbridge.verify import Step


class Documents(NamedTuple):
    """Every document of the registry: the destinations in use, and the problems of the documents."""

    catalog: Catalog
    refusals: Sequence[DocumentRefused]
    caveats: Sequence[DocumentCaveat]

    @property
    def verdict(self) -> Verdict:
        """The result of their check."""
        refused = {refusal.document for refusal in self.refusals}
        used = {self.catalog.document_of(destination.id) for destination in self.catalog}
        return Verdict(len(used - refused), self.refusals, _of_accepted(self.caveats, refused))


class Verdict(NamedTuple):
    """The result of a check of documents. Nothing else is reported of a refused document."""

    accepted: int
    refusals: Sequence[DocumentRefused]
    caveats: Sequence[DocumentCaveat]

    @property
    def refused(self) -> int:
        """The number of refused documents."""
        return len({refusal.document for refusal in self.refusals})


def load_documents(settings: Settings, *, decrypt: bool = True) -> Documents:
    """Read all documents of the registry. Raises `OperatorError`."""
    catalog, signals = asyncio.run(load_registry(settings, os.environ, decrypt=decrypt))
    return Documents(
        catalog,
        [signal for signal in signals if isinstance(signal, DocumentRefused)],
        [signal for signal in signals if isinstance(signal, DocumentCaveat)],
    )


def destination_ids(settings: Settings, limit_secs: float) -> list[str]:
    """The ids of all destinations. Raises `OperatorError`, and `TimeoutError` when reading takes longer."""

    async def load() -> list[str]:
        async with asyncio.timeout(limit_secs):
            catalog, _ = await load_registry(settings, os.environ, decrypt=False)
        return [destination.id for destination in catalog]

    return asyncio.run(load())


def check_documents(settings: Settings, paths: Sequence[Path], *, is_alone: bool = False) -> Verdict:
    """Check the documents of these files and directories as `destinations put` does, the registry's others included.

    ``is_alone``: leave the registry out. Raises `OperatorError`.
    """
    given = read_documents(paths)
    _, refusals, caveats = plan_documents(settings, given, () if is_alone else stored_documents(settings))
    refused = {refusal.document for refusal in refusals}
    accepted = len({document.name for document in given} - refused)
    return Verdict(accepted, refusals, _of_accepted(caveats, refused))


def _of_accepted(caveats: Sequence[DocumentCaveat], refused: Collection[str]) -> list[DocumentCaveat]:
    return [caveat for caveat in caveats if caveat.document not in refused]


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationFilter:
    """Which destinations are meant; None does not matter."""

    customer: str | None = None
    vendor: str | None = None
    type: str | None = None
    mode: str | None = None
    """``auth.mode`` of the document."""
    enabled: bool | None = None

    def matches(self, destination: Destination) -> bool:
        """Whether this destination is one of them."""
        known = (
            (self.customer, destination.customer_external_id),
            (self.vendor, destination.vendor),
            (self.type, destination.bus.type),
            (self.mode, (auth_of(destination).document() or {}).get("mode")),
            (self.enabled, destination.enabled),
        )
        return all(wanted is None or wanted == found for wanted, found in known)


class KnownDestinations(NamedTuple):
    """The destinations in use, for operations that look back."""

    directory: DestinationIndex
    refused: Sequence[DocumentRefused]
    """The first problem of each document that is not in use. Its destination looks as if it had been deleted, although
    a running worker may still use the last good version."""


def known_destinations(settings: Settings) -> KnownDestinations:
    """The destinations there are now. Their secrets stay sealed. Raises `OperatorError`."""
    catalog, refusals, _ = load_documents(settings, decrypt=False)
    used = {catalog.document_of(destination.id) or "": destination for destination in catalog}
    refused: dict[str, DocumentRefused] = {}
    for refusal in refusals:
        if refusal.document not in used:
            refused.setdefault(refusal.document, refusal)
    return KnownDestinations(DestinationIndex(used.items()), tuple(refused.values()))


def find_destination(
    settings: Settings, destination_id: str, note: Callable[[str], None], *, decrypt: bool = True
) -> Destination:  # fmt: skip
    """The destination of this id, in use or disabled. ``note`` gets the problems of its document. ``decrypt``: whether
    its secret is to be opened.

    Raises `OperatorError` when the destination cannot be used.
    """
    catalog, signals = asyncio.run(load_registry(settings, os.environ, decrypt=decrypt))
    destination = catalog.get(destination_id)
    name = catalog.document_of(destination_id)
    for signal in signals:
        # A document that cannot be parsed has no id: without a document of this id, it may be any refused one.
        if isinstance(signal, DocumentRefused | DocumentCaveat) and name in {signal.document, None}:
            kind = "refused" if isinstance(signal, DocumentRefused) else "warning"
            note(f"{kind}: {signal}")
    if destination is None or catalog.is_refused(destination_id):
        raise unusable(settings, destination_id)
    return destination


def test_destination(
    settings: Settings, destination: Destination, show: Callable[[Step], None], *, is_strict: bool
) -> list[Step]:
    """Run the test; ``show`` gets each step as soon as it is done. ``is_strict``: fail as `strictly` does."""
    from pushrail_stream.eventbridge.verify import strictly, verify

    async def run() -> list[Step]:
        steps = []
        async for found in verify(destination, settings.eventbridge, settings.sts):
            step = strictly(found) if is_strict else found
            steps.append(step)
            show(step)
        return steps

    return asyncio.run(run())
