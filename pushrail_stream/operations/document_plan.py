"""Plans changes of destination documents: each is checked by itself, and beside the others of the registry."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

from pushrail_stream.core.signals import DocumentCaveat, DocumentRefused
from pushrail_stream.documents import document_parser, open_store, registry_parser
from pushrail_stream.errors import OperatorError, UsageError
from pushrail_stream.operations.audit import note_content
from pushrail_stream.ports.documents import DocumentChange
from pushrail_stream.registry.catalog import Catalog, Read
from pushrail_stream.registry.documents import Parsed
from pushrail_stream.registry.folder import document_files, read_document
from pushrail_stream.registry.json_document import read_json
from pushrail_stream.settings.model import Settings

Effect = Literal["added", "changed", "deleted", "unchanged"]


class PlannedChange(NamedTuple):
    """A document of the registry, before and after."""

    destination_id: str
    """The document's name where it has no id."""
    name: str
    effect: Effect
    before: bytes | None
    after: bytes | None


class Plan(NamedTuple):
    """The changes that would be made, and the documents that would be refused: then none may be written."""

    changes: Sequence[PlannedChange]
    refusals: Sequence[DocumentRefused]
    caveats: Sequence[DocumentCaveat]


class Prune(NamedTuple):
    """The documents to delete, because they are not among those that are given."""

    vendor: str | None = None
    """Only this vendor's; the given documents must then be this vendor's too."""


def read_documents(paths: Sequence[Path]) -> list[DocumentChange]:
    """The documents of these files and directories.

    Raises `UsageError` for a directory that cannot be listed, or that has further directories with documents: they
    are not read, and a prune would delete what they hold. Hidden ones, as Kubernetes mounts have them, hold none.
    """
    folders = [path for path in paths if path.is_dir()]
    below = {file.parent for folder in folders for file in folder.glob("*/**/*.json") if _is_visible(file, folder)}
    if unread := below - set(folders):
        raise UsageError(*(f"{folder}: is not read with the folder above it: name it too" for folder in sorted(unread)))
    files = chain.from_iterable(document_files(path) if path.is_dir() else [path] for path in paths)
    return [read_document(file) for file in dict.fromkeys(files)]


def _is_visible(file: Path, folder: Path) -> bool:
    return not any(part.startswith(".") for part in file.relative_to(folder).parts)


def stored_documents(settings: Settings) -> Sequence[DocumentChange]:
    """Every document of the registry. Raises `OperatorError`."""

    async def read() -> Sequence[DocumentChange]:
        async with open_store(settings) as store:
            return await store.everything()

    return asyncio.run(read())


def plan_documents(
    settings: Settings,
    given: Sequence[DocumentChange],
    stored: Sequence[DocumentChange],
    *,
    prune: Prune | None = None,
    decrypt: bool = True,
) -> Plan:
    """The plan to put the ``given`` documents into a registry that has the ``stored`` ones.

    ``decrypt``: whether sealed secrets of the given documents must open, which takes the keyring.
    """
    parse = document_parser(settings, os.environ, decrypt=decrypt)
    # The secrets of the others stay sealed: they claim nothing.
    catalog = Catalog(registry_parser(settings, os.environ, decrypt=False))
    catalog.apply(stored)
    now, places = {document.name: document for document in stored}, _Places(settings, stored)
    reads = Catalog(lambda _, content: parse(content)).read(given)
    changes, misplaced = [], []
    for document, parsed in reads:
        if not isinstance(parsed, Parsed):
            continue
        destination = parsed.destination
        place = places.of(destination.id, document.name)
        if isinstance(place, DocumentRefused):
            misplaced.append(place)
            continue
        if prune and prune.vendor not in {None, destination.vendor}:
            misplaced.append(DocumentRefused(document.name, "vendor", f"is not {prune.vendor} (--vendor)"))
        before = now[place].content if place in now else None
        effect: Effect = "added" if place not in now else "unchanged" if before == document.content else "changed"
        changes.append(PlannedChange(destination.id, place, effect, before, document.content))
    if prune:
        changes += _pruned(stored, {change.name for change in changes}, prune.vendor)
    # Problems name the given documents as their author knows them, so the documents that they replace are taken out.
    replaced = {change.name for change in changes} & now.keys() - {document.name for document in given}
    leaving: list[Read] = [(DocumentChange(name, None), None) for name in replaced]
    taken = catalog.take([*leaving, *reads])
    return Plan(changes, [*misplaced, *taken.refusals], taken.caveats)


def write_plan(settings: Settings, changes: Sequence[PlannedChange]) -> None:
    """Write the changes of a plan, in its order.

    Raises `OperatorError`, and writes nothing, when another program has changed one of the documents meanwhile.
    """
    wanted = [change for change in changes if change.effect != "unchanged"]

    async def write() -> None:
        async with open_store(settings) as store:
            now = {document.name: document.content for document in await store.everything()}
            for change in wanted:
                if now.get(change.name) != change.before:
                    raise OperatorError(
                        f"{change.name}: was changed meanwhile: nothing is written; run the command again"
                    )
            for change in wanted:
                note_content("document", change.name, change.before, change.after)
                await store.write(change.name, change.after)

    if wanted:
        asyncio.run(write())


def field_of(document: DocumentChange, name: str) -> str | None:
    """A text field of a document, valid or not."""
    value = None if document.content is None else read_json(document.content)
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, str) else None


def new_name(settings: Settings, destination_id: str) -> str:
    """The name of a new document where the registry keeps them."""
    return destination_id if settings.registry.topic else str(settings.registry.path / f"{destination_id}.json")


def _pruned(stored: Sequence[DocumentChange], kept: Collection[str], vendor: str | None) -> Iterator[PlannedChange]:
    for document in stored:
        if document.name not in kept and vendor in {None, field_of(document, "vendor")}:
            destination_id = field_of(document, "id") or document.name
            yield PlannedChange(destination_id, document.name, "deleted", document.content, None)


class _Places:
    """The names under which documents are written into a registry."""

    def __init__(self, settings: Settings, stored: Sequence[DocumentChange]) -> None:
        self._settings = settings
        self._stored: Mapping[str, DocumentChange] = {document.name: document for document in stored}
        self._by_id: dict[str, list[str]] = {}
        for document in stored:
            self._by_id.setdefault(field_of(document, "id") or "", []).append(document.name)

    def of(self, destination_id: str, file: str) -> str | DocumentRefused:
        """The name for the document of this destination, or why it has none."""
        name = new_name(self._settings, destination_id)
        if self._settings.registry.topic:
            return name
        names = self._by_id.get(destination_id, [])
        if len(names) > 1:
            problem = f"is the id of several documents ({', '.join(names)}): delete one of them by its name"
            return DocumentRefused(file, "id", problem)
        if names:
            return names[0]
        there = self._stored.get(name)
        if there is not None and (there.content is None or field_of(there, "id") is not None):
            return DocumentRefused(
                name, "", f"is there already, and not the document of {destination_id}: rename it first"
            )
        return name
