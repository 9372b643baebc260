"""``pushrail-stream destinations put`` and ``delete``: documents written where the registry keeps them."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import BinaryIO, Final

import click

from pushrail_stream.cli.options import Options, common_options
from pushrail_stream.cli.output import emit, say
from pushrail_stream.documents import document_parser, load_registry, open_store
from pushrail_stream.errors import OperatorError, UsageError
from pushrail_stream.ports.documents import DocumentChange
from pushrail_stream.registry import Parsed, Problem, Refusal
from pushrail_stream.registry.json_document import SECRET_FIELD, id_of
from pushrail_stream.settings import Settings

_SEAL_NEXT: Final = (
    'a new secret: put "env:TO_BE_SEALED" there, then `destinations seal` asks for it; '
    'one that is sealed already: keep its "sealed:..." text, which `show` masks'
)


@click.command(epilog="Example: pushrail-stream destinations put acme-8K2zRq.json")
@click.argument("file", type=click.File("rb"))
@click.option("--dry-run", is_flag=True, help="Check the document and write nothing.")
@common_options
def put(options: Options, *, file: BinaryIO, dry_run: bool) -> None:
    """Put a destination document (FILE, or - for standard input) into the registry, new or in place of an old one.

    It is checked first, by itself and beside the others: one that would be refused is not written (exit code 2).
    Workers follow within 5 s. A document whose secret is to be sealed next has "env:TO_BE_SEALED" in its place.
    """
    settings, content = options.settings, file.read()
    parsed = document_parser(settings, os.environ)(content)
    if not isinstance(parsed, Parsed):
        raise UsageError(_explain(file.name, parsed))
    destination_id = parsed.destination.id
    name, is_new = asyncio.run(_place(settings, destination_id))
    catalog, _ = asyncio.run(load_registry(settings, os.environ))
    change = catalog.apply([DocumentChange(name, content)])
    if change.refusals:
        raise UsageError("\n".join(str(refusal) for refusal in change.refusals))
    if not dry_run:
        asyncio.run(write_document(settings, name, content))
    what = ("would be " if dry_run else "") + ("added" if is_new else "changed" if change.put else "unchanged")
    _tell(options, destination_id, what, name)


@click.command(epilog="Example: pushrail-stream destinations delete dst_acme_8K2zRq")
@click.argument("destination_id", metavar="ID")
@click.option("--dry-run", is_flag=True, help="Say what would be deleted.")
@common_options
def delete(options: Options, *, destination_id: str, dry_run: bool) -> None:
    """Delete a destination's document from the registry. Its waiting deliveries settle as skipped (deleted).

    ID is the destination's, or the name of its document, also of one that is refused.
    """
    settings = options.settings
    name = asyncio.run(find_document(settings, destination_id)).name
    if not dry_run:
        asyncio.run(write_document(settings, name, None))
    _tell(options, destination_id, "would be deleted" if dry_run else "deleted", name)


async def find_document(settings: Settings, wanted: str) -> DocumentChange:
    """The document of this name, or of the destination of this id, also one that is refused; else the command ends."""
    found = _matching(await _everything(settings), wanted)
    if not found:
        where = settings.topics.destinations if settings.registry.topic else settings.registry.path
        raise OperatorError(f"{where}: no destination {wanted}; `destinations list` names them")
    return _only(found, wanted)


async def unusable(settings: Settings, destination_id: str) -> OperatorError:
    """What to say of a destination that is not in use: its document is refused, or there is none."""
    try:
        name = (await find_document(settings, destination_id)).name
    except OperatorError as error:
        return error
    return OperatorError(f"{name}: is refused as it stands: nothing is sent by it")


def new_name(settings: Settings, destination_id: str) -> str:
    """What a new document will be called where the registry keeps them."""
    return destination_id if settings.registry.topic else str(settings.registry.path / f"{destination_id}.json")


async def write_document(settings: Settings, name: str, content: bytes | None) -> None:
    """Write a document into the registry, or delete it (None)."""
    async with open_store(settings) as store:
        await store.write(name, content)


async def _everything(settings: Settings) -> list[DocumentChange]:
    async with open_store(settings) as store:
        return list(await store.everything())


async def _place(settings: Settings, destination_id: str) -> tuple[str, bool]:
    """Where to write the document of this destination, and whether there is none yet."""
    documents, name = await _everything(settings), new_name(settings, destination_id)
    there = next((document for document in documents if document.name == name), None)
    if settings.registry.topic:
        return name, there is None
    if found := [document for document in documents if _id(document) == destination_id]:
        return _only(found, destination_id).name, False
    if there is not None and (there.content is None or _id(there) is not None):
        raise UsageError(f"{name}: is there already, and not the document of {destination_id}: rename it first")
    return name, there is None


def _matching(documents: list[DocumentChange], wanted: str) -> list[DocumentChange]:
    named = [document for document in documents if wanted in {document.name, Path(document.name).name}]
    return named or [document for document in documents if _id(document) == wanted]


def _only(found: list[DocumentChange], wanted: str) -> DocumentChange:
    if len(found) > 1:
        names = ", ".join(document.name for document in found)
        raise UsageError(f"{wanted}: is the id of several documents ({names}): delete one of them by its name")
    return found[0]


def _id(document: DocumentChange) -> str | None:
    return None if document.content is None else id_of(document.content)


def _explain(file: str, problems: tuple[Problem, ...]) -> str:
    lines = [str(Refusal(file, *problem)) for problem in problems]
    return "\n".join([*lines, *([_SEAL_NEXT] if any(p.field == SECRET_FIELD for p in problems) else [])])


def _tell(options: Options, destination_id: str, what: str, name: str) -> None:
    if options.json:
        emit({"id": destination_id, "result": what, "document": name})
    else:
        say(f"{destination_id}: {what} ({name})")
