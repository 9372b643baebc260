"""``pushrail-stream destinations put`` and ``delete``: documents written where the registry keeps them."""

from __future__ import annotations

import asyncio
import os
from typing import BinaryIO

import click

from pushrail_stream.app import document_parser, load_registry, open_store
from pushrail_stream.cli.errors import CommandError
from pushrail_stream.cli.options import Options, common_options
from pushrail_stream.cli.output import emit, say
from pushrail_stream.ports import DocumentChange
from pushrail_stream.registry import Parsed, Refusal
from pushrail_stream.settings import Settings


@click.command(epilog="Example: pushrail-stream destinations put acme-8K2zRq.json")
@click.argument("file", type=click.File("rb"))
@click.option("--dry-run", is_flag=True, help="Check the document and write nothing.")
@common_options
def put(options: Options, *, file: BinaryIO, dry_run: bool) -> None:
    """Put a destination document (FILE, or - for standard input) into the registry, new or in place of an old one.

    It is checked first, by itself and beside the others: one that would be refused is not written (exit code 2).
    Workers follow within 5 s.
    """
    settings, content = options.settings, file.read()
    parsed = document_parser(settings, os.environ)(content)
    if not isinstance(parsed, Parsed):
        raise CommandError("\n".join(str(Refusal(file.name, *problem)) for problem in parsed), 2)
    destination_id = parsed.destination.id
    catalog, _ = asyncio.run(load_registry(settings, os.environ))
    is_new = catalog.get(destination_id) is None
    name = catalog.document_of(destination_id) or new_name(settings, destination_id)
    change = catalog.apply([DocumentChange(name, content)])
    if change.refusals:
        raise CommandError("\n".join(str(refusal) for refusal in change.refusals), 2)
    if not dry_run:
        asyncio.run(write_document(settings, name, content))
    what = ("would be " if dry_run else "") + ("added" if is_new else "changed" if change.put else "unchanged")
    _tell(options, destination_id, what, name)


@click.command(epilog="Example: pushrail-stream destinations delete dst_acme_8K2zRq")
@click.argument("destination_id", metavar="ID")
@click.option("--dry-run", is_flag=True, help="Say what would be deleted.")
@common_options
def delete(options: Options, *, destination_id: str, dry_run: bool) -> None:
    """Delete a destination's document from the registry. Its waiting deliveries settle as skipped (deleted)."""
    settings = options.settings
    catalog, _ = asyncio.run(load_registry(settings, os.environ))
    name = catalog.document_of(destination_id)
    if name is None:
        raise no_such_destination(settings, destination_id)
    if not dry_run:
        asyncio.run(write_document(settings, name, None))
    _tell(options, destination_id, "would be deleted" if dry_run else "deleted", name)


def no_such_destination(settings: Settings, destination_id: str) -> CommandError:
    """What to say when there is no destination of this id."""
    where = settings.topics.destinations if settings.registry.topic else settings.registry.path
    return CommandError(f"{where}: no destination {destination_id}; `destinations list` names them")


def new_name(settings: Settings, destination_id: str) -> str:
    """What a new document will be called where the registry keeps them."""
    return destination_id if settings.registry.topic else str(settings.registry.path / f"{destination_id}.json")


async def write_document(settings: Settings, name: str, content: bytes | None) -> None:
    """Write a document into the registry, or delete it (None)."""
    async with open_store(settings) as store:
        await store.write(name, content)


def _tell(options: Options, destination_id: str, what: str, name: str) -> None:
    if options.json:
        emit({"id": destination_id, "result": what, "document": name})
    else:
        say(f"{destination_id}: {what} ({name})")
