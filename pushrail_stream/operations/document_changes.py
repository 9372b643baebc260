"""Writes destination documents where the registry keeps them: new ones, changed ones, sealed secrets, deletions."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from pushrail_stream.core.destination import Secret
from pushrail_stream.core.signals import DocumentRefused
from pushrail_stream.documents import document_parser, open_keyring, open_store
from pushrail_stream.errors import OperatorError, UsageError
from pushrail_stream.operations.audit import note_content
from pushrail_stream.operations.document_plan import (
    PlannedChange,
    Prune,
    field_of,
    plan_documents,
    stored_documents,
    write_plan,
)  # fmt: skip
from pushrail_stream.ports.documents import DocumentChange
from pushrail_stream.registry.documents import Parsed, raw_text
from pushrail_stream.registry.json_document import SECRET_FIELD, Problem, Switch, with_secret, with_switch
from pushrail_stream.registry.keyring import Keyring
from pushrail_stream.registry.sealing import Place
from pushrail_stream.settings.model import Settings

_SEAL_NEXT: Final = (
    'a new secret: put "env:TO_BE_SEALED" there, then `destinations seal` asks for it; '
    'one that is sealed already: keep its "sealed:..." text, which `show` masks'
)


def plan_put(
    settings: Settings,
    given: Sequence[DocumentChange],
    prune: Prune | None = None,
    *,
    stored: Sequence[DocumentChange] | None = None,
    decrypt: bool = True,
) -> list[PlannedChange]:
    """The changes that bring these documents into the registry; `write_plan` makes them.

    ``stored``: the registry's documents, if they have been read. ``decrypt``: whether sealed secrets must open.
    Raises `UsageError` when one of the documents would be refused by itself or beside the others.
    """
    if prune and not given:
        raise UsageError("--prune: no document is given, and all would be deleted; `destinations delete` deletes one")
    if stored is None:
        stored = stored_documents(settings)
    changes, refusals, _ = plan_documents(settings, given, stored, prune=prune, decrypt=decrypt)
    hint = [_SEAL_NEXT] if any(refusal.field == SECRET_FIELD for refusal in refusals) else []
    if refusals:
        raise UsageError(*map(str, refusals), *hint)
    return list(changes)


def delete_document(settings: Settings, wanted: str, agree: Callable[[str], None], *, is_dry_run: bool) -> str:
    """Delete the document of this name or destination id; the document's name. Raises `OperatorError`.

    ``agree`` gets the name before the document is deleted, and raises to keep it.
    """
    name = find_document(settings, wanted).name
    if not is_dry_run:
        agree(name)
        write_document(settings, name, None)
    return name


def plan_switch(settings: Settings, wanted: Iterable[str], name: Switch, *, on: bool) -> list[PlannedChange]:
    """The changes that set a switch of the documents of these names or destination ids; `write_plan` makes them.

    Nothing else changes in a document, and no keyring is needed. Raises `OperatorError`.
    """
    stored = stored_documents(settings)
    parse = document_parser(settings, os.environ, decrypt=False)
    given = []
    for document, content, problem in (find_document(settings, one, stored) for one in dict.fromkeys(wanted)):
        parsed = parse(content) if content is not None else (Problem("", problem),)
        if not isinstance(parsed, Parsed):
            raise UsageError(*(str(DocumentRefused(document, *found)) for found in parsed))
        given.append(DocumentChange(document, with_switch(content or b"", name, on=on)))
    return _plan_stored(settings, given, stored, decrypt=False)


def seal_secret(
    settings: Settings, wanted: str, ask: Callable[[], Secret], access_key_id: str | None, *, is_dry_run: bool
) -> tuple[str, str]:
    """Seal a destination's secret into its document; the document's name, and the id of the sealing key.

    ``ask`` gives the secret, and is not called when the document has no place for it. Raises `OperatorError`.
    """
    keyring = require_keyring(settings)
    stored = stored_documents(settings)
    name, content, problem = find_document(settings, wanted, stored)
    if content is None:
        raise UsageError(f"{name}: {problem}")
    _with_secret(name, content, lambda _: "", None)
    secret = ask()
    changed = _with_secret(name, content, lambda place: keyring.seal(secret, place), access_key_id)
    changes = _plan_stored(settings, [DocumentChange(name, changed)], stored)
    if not is_dry_run:
        write_plan(settings, changes)
    return name, keyring.primary


def require_keyring(settings: Settings) -> Keyring:
    """The keyring of the settings. Raises `UsageError` when there is none."""
    keyring = open_keyring(settings, os.environ)
    if keyring is None:
        raise UsageError("secrets.keyring: is not set: name a file there, and `keys generate` makes it")
    return keyring


def find_document(
    settings: Settings, wanted: str, documents: Sequence[DocumentChange] | None = None
) -> DocumentChange:  # fmt: skip
    """The document of this name or destination id, also a refused one. Raises `OperatorError` when there is none.

    ``documents``: those of the registry, if they have been read.
    """
    if documents is None:
        documents = stored_documents(settings)
    # The commands show names of files from the working directory, and people type them so.
    spelled = {wanted, str(Path(wanted).absolute())}
    named = [document for document in documents if spelled & {document.name, Path(document.name).name}]
    found = named or [document for document in documents if field_of(document, "id") == wanted]
    if not found:
        where = settings.topics.destinations if settings.registry.topic else settings.registry.path
        raise OperatorError(f"{where}: no destination {wanted}; `destinations list` names them")
    if len(found) > 1:
        names = ", ".join(document.name for document in found)
        raise UsageError(f"{wanted}: is the id of several documents ({names}): delete one of them by its name")
    return found[0]


def show_document(settings: Settings, wanted: str) -> tuple[str, str]:
    """The name of a document, and its text as it is written; a secret in clear is masked. Raises `OperatorError`."""
    name, content, problem = find_document(settings, wanted)
    text = Problem("", problem) if content is None else raw_text(content)
    if isinstance(text, Problem):
        raise UsageError(f"{DocumentRefused(name, *text)}; its text is not shown, because it may hold a secret")
    return name, text


def unusable(settings: Settings, destination_id: str) -> OperatorError:
    """The error for a destination that is not in use: its document is refused, or there is none."""
    try:
        name = find_document(settings, destination_id).name
    except OperatorError as error:
        return error
    return OperatorError(f"{name}: is refused as it stands: nothing is sent by it")


def write_document(settings: Settings, name: str, content: bytes | None) -> None:
    """Write a document into the registry, or delete it (None)."""

    async def write() -> None:
        async with open_store(settings) as store:
            note_content("document", name, await store.read(name), content)
            await store.write(name, content)

    asyncio.run(write())


def _with_secret(name: str, content: bytes, seal_for: Callable[[Place], str], access_key_id: str | None) -> bytes:
    changed = with_secret(content, seal_for, access_key_id)
    if isinstance(changed, Problem):
        raise UsageError(str(DocumentRefused(name, *changed)))
    return changed


def _plan_stored(
    settings: Settings, given: Sequence[DocumentChange], stored: Sequence[DocumentChange], *, decrypt: bool = True
) -> list[PlannedChange]:
    """The plan for new contents of stored documents. Raises `UsageError` when one would be refused."""
    changes, refusals, _ = plan_documents(settings, given, stored, decrypt=decrypt)
    if refusals:
        raise UsageError(*map(str, refusals))
    for document, change in zip(given, changes, strict=True):
        if change.name != document.name:
            raise UsageError(f"{document.name}: id: is not the record's key ({document.name})")
    return list(changes)
