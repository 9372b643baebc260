"""Writes destination documents where the registry keeps them: new ones, changed ones, sealed secrets, deletions."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

from pushrail_stream.core.destination import Secret
from pushrail_stream.core.signals import DocumentRefused
from pushrail_stream.documents import document_parser, load_registry, open_keyring, open_store
from pushrail_stream.errors import OperatorError, UsageError
from pushrail_stream.ports.documents import DocumentChange
from pushrail_stream.registry.catalog import CatalogChange
from pushrail_stream.registry.documents import Parsed
from pushrail_stream.registry.json_document import SECRET_FIELD, Problem, id_of, with_secret
from pushrail_stream.registry.keyring import Keyring
from pushrail_stream.registry.sealing import Place
from pushrail_stream.settings.model import Settings

_SEAL_NEXT: Final = (
    'a new secret: put "env:TO_BE_SEALED" there, then `destinations seal` asks for it; '
    'one that is sealed already: keep its "sealed:..." text, which `show` masks'
)


class DocumentPut(NamedTuple):
    """A document that was put into the registry."""

    destination_id: str
    name: str
    effect: Literal["added", "changed", "unchanged"]


def put_document(settings: Settings, file: str, content: bytes, *, is_dry_run: bool) -> DocumentPut:
    """Write a document, unless it would be refused by itself or beside the others. Raises `OperatorError`."""
    destination_id = _parse(settings, file, content).destination.id
    name, is_new = _place(settings, destination_id)
    change = _try_beside_others(settings, name, content)
    if not is_dry_run:
        write_document(settings, name, content)
    return DocumentPut(destination_id, name, "added" if is_new else "changed" if change.put else "unchanged")


def delete_document(settings: Settings, wanted: str, *, is_dry_run: bool) -> str:
    """Delete the document of this name or destination id; the document's name. Raises `OperatorError`."""
    name = find_document(settings, wanted).name
    if not is_dry_run:
        write_document(settings, name, None)
    return name


def seal_secret(
    settings: Settings, wanted: str, ask: Callable[[], Secret], access_key_id: str | None, *, is_dry_run: bool
) -> tuple[str, str]:
    """Seal a destination's secret into its document; the document's name, and the id of the sealing key.

    ``ask`` gives the secret, and is not called when the document has no place for it. Raises `OperatorError`.
    """
    keyring = require_keyring(settings)
    name, content, problem = find_document(settings, wanted)
    if content is None:
        raise UsageError(f"{name}: {problem}")
    _with_secret(name, content, lambda _: "", None)
    secret = ask()
    changed = _with_secret(name, content, lambda place: keyring.seal(secret, place), access_key_id)
    _replace(settings, name, content, changed, is_dry_run=is_dry_run)
    return name, keyring.primary


def require_keyring(settings: Settings) -> Keyring:
    """The keyring of the settings. Raises `UsageError` when there is none."""
    keyring = open_keyring(settings, os.environ)
    if keyring is None:
        raise UsageError("secrets.keyring: is not set: name a file there, and `keys generate` makes it")
    return keyring


def find_document(settings: Settings, wanted: str) -> DocumentChange:
    """The document of this name or destination id, also a refused one. Raises `OperatorError` when there is none."""
    documents = _all_documents(settings)
    named = [document for document in documents if wanted in {document.name, Path(document.name).name}]
    found = named or [document for document in documents if _id(document) == wanted]
    if not found:
        where = settings.topics.destinations if settings.registry.topic else settings.registry.path
        raise OperatorError(f"{where}: no destination {wanted}; `destinations list` names them")
    return _only(found, wanted)


def unusable(settings: Settings, destination_id: str) -> OperatorError:
    """The error for a destination that is not in use: its document is refused, or there is none."""
    try:
        name = find_document(settings, destination_id).name
    except OperatorError as error:
        return error
    return OperatorError(f"{name}: is refused as it stands: nothing is sent by it")


def new_name(settings: Settings, destination_id: str) -> str:
    """The name of a new document where the registry keeps them."""
    return destination_id if settings.registry.topic else str(settings.registry.path / f"{destination_id}.json")


def write_document(settings: Settings, name: str, content: bytes | None) -> None:
    """Write a document into the registry, or delete it (None)."""

    async def write() -> None:
        async with open_store(settings) as store:
            await store.write(name, content)

    asyncio.run(write())


def _all_documents(settings: Settings) -> Sequence[DocumentChange]:
    async def read() -> Sequence[DocumentChange]:
        async with open_store(settings) as store:
            return await store.everything()

    return asyncio.run(read())


def _place(settings: Settings, destination_id: str) -> tuple[str, bool]:
    """The name under which to write the document of this destination, and whether it is new."""
    documents, name = _all_documents(settings), new_name(settings, destination_id)
    there = next((document for document in documents if document.name == name), None)
    if settings.registry.topic:
        return name, there is None
    if found := [document for document in documents if _id(document) == destination_id]:
        return _only(found, destination_id).name, False
    if there is not None and (there.content is None or _id(there) is not None):
        raise UsageError(f"{name}: is there already, and not the document of {destination_id}: rename it first")
    return name, there is None


def _only(found: list[DocumentChange], wanted: str) -> DocumentChange:
    if len(found) > 1:
        names = ", ".join(document.name for document in found)
        raise UsageError(f"{wanted}: is the id of several documents ({names}): delete one of them by its name")
    return found[0]


def _id(document: DocumentChange) -> str | None:
    return None if document.content is None else id_of(document.content)


def _with_secret(name: str, content: bytes, seal_for: Callable[[Place], str], access_key_id: str | None) -> bytes:
    changed = with_secret(content, seal_for, access_key_id)
    if isinstance(changed, Problem):
        raise UsageError(str(DocumentRefused(name, *changed)))
    return changed


def _replace(settings: Settings, name: str, before: bytes, changed: bytes, *, is_dry_run: bool) -> None:
    """Replace a document, unless the new one would be refused or another program has changed the old one meanwhile."""
    _parse(settings, name, changed)
    _try_beside_others(settings, name, changed)

    async def replace() -> None:
        async with open_store(settings) as store:
            if await store.read(name) != before:
                raise OperatorError(f"{name}: was changed meanwhile: nothing is written; run the command again")
            if not is_dry_run:
                await store.write(name, changed)

    asyncio.run(replace())


def _parse(settings: Settings, file: str, content: bytes) -> Parsed:
    """Raises `UsageError` for a document that would be refused by itself."""
    parsed = document_parser(settings, os.environ)(content)
    if isinstance(parsed, Parsed):
        return parsed
    hint = [_SEAL_NEXT] if any(problem.field == SECRET_FIELD for problem in parsed) else []
    raise UsageError(*(str(DocumentRefused(file, *problem)) for problem in parsed), *hint)


def _try_beside_others(settings: Settings, name: str, content: bytes) -> CatalogChange:
    """The change that a document would make. Raises `UsageError` when it would be refused beside the others."""
    catalog, _ = asyncio.run(load_registry(settings, os.environ))
    change = catalog.apply([DocumentChange(name, content)])
    if change.refusals:
        raise UsageError(*map(str, change.refusals))
    return change
