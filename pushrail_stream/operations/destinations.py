"""The destinations there are now: their documents, the refused ones, and a test of each destination's setup."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from pushrail_stream.core.destination import Destination
from pushrail_stream.core.signals import DocumentCaveat, DocumentRefused
from pushrail_stream.documents import document_parser, load_registry
from pushrail_stream.eventbridge.verify import Step, verify
from pushrail_stream.operations.document_changes import unusable
from pushrail_stream.registry.catalog import Catalog
from pushrail_stream.registry.directory import DestinationIndex
from pushrail_stream.registry.folder import document_files, read_document
from pushrail_stream.settings.model import Settings


class Documents(NamedTuple):
    """Every document of the registry: the destinations in use, and the problems of the documents."""

    catalog: Catalog
    refusals: Sequence[DocumentRefused]
    caveats: Sequence[DocumentCaveat]

    @property
    def used(self) -> set[str | None]:
        """Names of the documents in use."""
        return {self.catalog.document_of(destination.id) for destination in self.catalog}


def load_documents(settings: Settings, *, decrypt: bool = True) -> Documents:
    """Read all documents of the registry. Raises `OperatorError`."""
    catalog, signals = asyncio.run(load_registry(settings, os.environ, decrypt=decrypt))
    return Documents(
        catalog,
        [signal for signal in signals if isinstance(signal, DocumentRefused)],
        [signal for signal in signals if isinstance(signal, DocumentCaveat)],
    )


def check_documents(settings: Settings, paths: Sequence[Path]) -> Documents:
    """Check the documents of these files, and of these directories, beside each other."""
    parse = document_parser(settings, os.environ)
    catalog = Catalog(lambda _, content: parse(content))
    files = [file for path in paths for file in (document_files(path) if path.is_dir() else [path])]
    change = catalog.apply(read_document(file) for file in dict.fromkeys(files))
    return Documents(catalog, change.refusals, change.caveats)


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


def find_destination(settings: Settings, destination_id: str, note: Callable[[str], None]) -> Destination:
    """The destination of this id, in use or disabled. ``note`` gets the problems of its document.

    Raises `OperatorError` when the destination cannot be used.
    """
    catalog, signals = asyncio.run(load_registry(settings, os.environ))
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


def test_destination(settings: Settings, destination: Destination, show: Callable[[Step], None]) -> list[Step]:
    """Run the test; ``show`` gets each step as soon as it is done."""

    async def run() -> list[Step]:
        steps = []
        async for step in verify(destination, settings.eventbridge, settings.sts):
            steps.append(step)
            show(step)
        return steps

    return asyncio.run(run())
