"""``pushrail-stream destinations put``, ``delete`` and ``seal``: change documents where the registry keeps them."""

from __future__ import annotations

import re
import sys
from typing import BinaryIO, Final

import click

from pushrail_stream.cli.options import Options, common_options
from pushrail_stream.cli.output import emit, say
from pushrail_stream.core.destination import Secret
from pushrail_stream.errors import UsageError
from pushrail_stream.operations.documents import delete_document, put_document, seal_secret

_SECRET: Final = re.compile(r"[!-~]{1,512}")


@click.command(epilog="Example: pushrail-stream destinations put acme-8K2zRq.json")
@click.argument("file", type=click.File("rb"))
@click.option("--dry-run", is_flag=True, help="Check the document, and write nothing.")
@common_options
def put(options: Options, *, file: BinaryIO, dry_run: bool) -> None:
    """Put a destination document (FILE, or - for standard input) into the registry, new or in place of an old one.

    The document is checked first, by itself and beside the others: one that would be refused is not written (exit code
    2). Workers follow within 5 s. A document whose secret is sealed next has "env:TO_BE_SEALED" in its place.
    """
    done = put_document(options.settings, getattr(file, "name", "-"), file.read(), is_dry_run=dry_run)
    _report(options, done.destination_id, ("would be " if dry_run else "") + done.effect, done.name)


@click.command(epilog="Example: pushrail-stream destinations delete dst_acme_8K2zRq")
@click.argument("destination_id", metavar="ID")
@click.option("--dry-run", is_flag=True, help="Name the document that would be deleted.")
@common_options
def delete(options: Options, *, destination_id: str, dry_run: bool) -> None:
    """Delete a destination's document from the registry. Its waiting deliveries settle as skipped (deleted).

    ID is the destination's id, or the name of its document, which may be a refused one.
    """
    name = delete_document(options.settings, destination_id, is_dry_run=dry_run)
    _report(options, destination_id, "would be deleted" if dry_run else "deleted", name)


@click.command(epilog="Example: pushrail-stream destinations seal dst_acme_8K2zRq < secret.txt")
@click.argument("destination_id", metavar="ID")
@click.argument("surplus", nargs=-1, metavar="", type=click.UNPROCESSED)
@click.option("--access-key-id", help="Replace the access key id as well, when it changes with the secret.")
@click.option("--dry-run", is_flag=True, help="Check everything, and write nothing.")
@common_options
def seal(
    options: Options, *, destination_id: str, surplus: tuple[str, ...], access_key_id: str | None, dry_run: bool
) -> None:  # fmt: skip
    """Seal the secret access key of a destination and write it into its document.

    The command asks for the secret or reads it from standard input; there is no option for it, so that no shell
    remembers it. The keyring's primary key encrypts it for this destination alone: in another document it does not
    open. Key id and secret change in one step; batches in flight end with the old pair.

    The document exists before: in the folder it may lack the secret, and `destinations put` takes one that has
    "env:TO_BE_SEALED" in its place.
    """
    if surplus:
        # Not quoted: it may be the secret.
        raise UsageError("takes one ID and nothing else: the secret is asked for, or read from standard input")
    name, key = seal_secret(options.settings, destination_id, _read_secret, access_key_id, is_dry_run=dry_run)
    effect = "would be sealed" if dry_run else "sealed"
    if options.json:
        emit({"id": destination_id, "result": effect, "document": name, "key": key})
    else:
        say(f"{destination_id}: {effect} by key {key} ({name})")


def _read_secret() -> Secret:
    is_person = sys.stdin.isatty()
    try:
        text: str = click.prompt("Secret access key", hide_input=True, err=True) if is_person else sys.stdin.read()
    except UnicodeDecodeError:
        text = ""
    if not _SECRET.fullmatch(text.strip()):
        raise UsageError("the secret: must be one word of 1 to 512 printable ASCII characters")
    return Secret(text.strip())


def _report(options: Options, destination_id: str, effect: str, name: str) -> None:
    if options.json:
        emit({"id": destination_id, "result": effect, "document": name})
    else:
        say(f"{destination_id}: {effect} ({name})")
