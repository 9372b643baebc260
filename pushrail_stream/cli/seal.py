"""``pushrail-stream destinations seal``: a customer's secret, sealed where it will lie."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Callable
from typing import Final

import click

from pushrail_stream.cli.documents import find_document
from pushrail_stream.cli.options import Options, common_options
from pushrail_stream.cli.output import emit, say
from pushrail_stream.core.destination import Secret
from pushrail_stream.documents import document_parser, load_registry, open_keyring, open_store
from pushrail_stream.errors import OperatorError, UsageError
from pushrail_stream.ports.documents import DocumentChange
from pushrail_stream.registry import Keyring, Parsed, Problem, Refusal
from pushrail_stream.registry.json_document import with_secret
from pushrail_stream.registry.sealing import Place
from pushrail_stream.settings import Settings

_SECRET: Final = re.compile(r"[!-~]{1,512}")


@click.command(epilog="Example: pushrail-stream destinations seal dst_acme_8K2zRq < secret.txt")
@click.argument("destination_id", metavar="ID")
@click.argument("surplus", nargs=-1, metavar="", type=click.UNPROCESSED)
@click.option("--access-key-id", help="The access key id that belongs to the secret, where that changes with it.")
@click.option("--dry-run", is_flag=True, help="Check everything and write nothing.")
@common_options
def seal(
    options: Options, *, destination_id: str, surplus: tuple[str, ...], access_key_id: str | None, dry_run: bool
) -> None:  # fmt: skip
    """Seal the secret access key of a destination and write it into its document.

    The secret is asked for, or read from standard input; there is no option for it, so that no shell remembers it. It
    is encrypted by the keyring's primary key for this destination alone: in another document it does not open. Key id
    and secret change in one step; batches in flight end on the old pair.

    The document is there before: in the folder it may lack the secret, and `destinations put` takes one that has
    "env:TO_BE_SEALED" in its place.
    """
    if surplus:
        # Not quoted: it may be the secret.
        raise UsageError("takes one ID and nothing else: the secret is asked for, or read from standard input")
    settings = options.settings
    keyring = require_keyring(settings)
    name, content, problem = asyncio.run(find_document(settings, destination_id))
    if content is None:
        raise UsageError(f"{name}: {problem}")
    _sealed(name, content, lambda _: "", None)  # nobody is asked for a secret that has no place
    secret = _read_secret()
    changed = _sealed(name, content, lambda place: keyring.seal(secret, place), access_key_id)
    asyncio.run(_write(settings, name, content, changed, dry_run=dry_run))
    what = "would be sealed" if dry_run else "sealed"
    if options.json:
        emit({"id": destination_id, "result": what, "document": name, "key": keyring.primary})
    else:
        say(f"{destination_id}: {what} by key {keyring.primary} ({name})")


def require_keyring(settings: Settings) -> Keyring:
    """The keyring; a command that cannot do without it ends when there is none."""
    keyring = open_keyring(settings, os.environ)
    if keyring is None:
        raise UsageError("secrets.keyring: is not set: name a file there, and `keys generate` makes it")
    return keyring


def _sealed(name: str, content: bytes, seal_for: Callable[[Place], str], access_key_id: str | None) -> bytes:
    changed = with_secret(content, seal_for, access_key_id)
    if isinstance(changed, Problem):
        raise UsageError(str(Refusal(name, *changed)))
    return changed


def _read_secret() -> Secret:
    is_person = sys.stdin.isatty()
    try:
        text: str = click.prompt("Secret access key", hide_input=True, err=True) if is_person else sys.stdin.read()
    except UnicodeDecodeError:
        text = ""
    if not _SECRET.fullmatch(text.strip()):
        raise UsageError("the secret: must be one word of 1 to 512 printable ASCII characters")
    return Secret(text.strip())


async def _write(settings: Settings, name: str, before: bytes, changed: bytes, *, dry_run: bool) -> None:
    """Write the document, unless it would be refused or somebody has changed it meanwhile."""
    parsed = document_parser(settings, os.environ)(changed)
    if not isinstance(parsed, Parsed):
        raise UsageError("\n".join(str(Refusal(name, *problem)) for problem in parsed))
    catalog, _ = await load_registry(settings, os.environ)
    if refusals := catalog.apply([DocumentChange(name, changed)]).refusals:
        raise UsageError("\n".join(str(refusal) for refusal in refusals))
    async with open_store(settings) as store:
        if await store.read(name) != before:
            raise OperatorError(f"{name}: was changed by somebody else meanwhile: nothing is written; do it again")
        if not dry_run:
            await store.write(name, changed)
