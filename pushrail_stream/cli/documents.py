"""The commands of ``pushrail-stream destinations`` that change documents."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from pushrail_stream.cli.options import Options, audited, can_ask, common_options, confirm, yes_option
from pushrail_stream.cli.output import Column, note
from pushrail_stream.core.destination import Secret
from pushrail_stream.errors import UsageError

if TYPE_CHECKING:
    from pushrail_stream.operations.document_plan import PlannedChange
    from pushrail_stream.ports.documents import DocumentChange

_SECRET: Final = re.compile(r"[!-~]{1,512}")
_STDIN: Final = Path("-")


@click.command(epilog="Example: pushrail-stream destinations put destinations/ --prune --vendor acme --dry-run")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--prune", is_flag=True, help="Delete the documents of the registry that are not among FILES.")
@click.option("--vendor", help="Take only documents of this vendor, and delete only this vendor's.")
@yes_option("delete")
@click.option("--dry-run", is_flag=True, help="Check the documents, show the changes, and write nothing.")
@common_options
@audited
def put(
    options: Options, *, files: tuple[Path, ...], prune: bool, vendor: str | None, yes: bool, dry_run: bool
) -> None:  # fmt: skip
    """Put destination documents (FILES, folders, or - for standard input) into the registry, new or in place of old
    ones.

    All documents are checked first, each by itself and beside the others: when one would be refused, nothing is written
    or deleted (exit code 2). Deletions come last, and are asked for on a terminal. Elsewhere, --prune needs --vendor or
    --yes. Workers follow within 5 s. A document whose secret is sealed next has "env:TO_BE_SEALED" in its place.

    With --json: one object with id, result and document for each document.
    """
    from pushrail_stream.operations.document_changes import plan_put
    from pushrail_stream.operations.document_plan import Prune

    if vendor is not None and not prune:
        raise UsageError("--vendor: needs --prune")
    changes = plan_put(options.settings, _read(files), Prune(vendor) if prune else None)
    if not dry_run:
        confirm_deletions(changes, vendor, is_answered=yes)
    carry_out(options, changes, is_dry_run=dry_run)


def confirm_deletions(changes: Sequence[PlannedChange], vendor: str | None, *, is_answered: bool) -> None:
    """Ask before documents are deleted. Raises `OperatorError` for a no, and `UsageError` where a wide one needs it."""
    deleted = [change.name for change in changes if change.effect == "deleted"]
    if not deleted:
        return
    if vendor is None and not is_answered and not can_ask():
        raise UsageError(
            f"--prune: would delete {len(deleted)} documents regardless of vendor, and there is no "
            "terminal to ask on: add --vendor or --yes"
        )
    confirm("\n".join([*deleted, f"Delete these {len(deleted)} documents?"]), is_answered=is_answered)


def _read(files: Sequence[Path]) -> list[DocumentChange]:
    from pushrail_stream.operations.document_plan import read_documents
    from pushrail_stream.ports.documents import DocumentChange

    given = read_documents([file for file in files if file != _STDIN])
    if _STDIN in files:
        given.append(DocumentChange("<stdin>", sys.stdin.buffer.read()))
    return given


@click.command(epilog="Example: pushrail-stream destinations enable dst_acme_8K2zRq")
@click.argument("destination_ids", nargs=-1, required=True, metavar="ID...")
@click.option("--dry-run", is_flag=True, help="Check the documents, show the changes, and write nothing.")
@common_options
@audited
def enable(options: Options, *, destination_ids: tuple[str, ...], dry_run: bool) -> None:
    """Enable destinations: workers deliver their events within 5 s.

    Only the value of "enabled" changes in a document, and no keyring is needed. When one of the documents would be
    refused, none is written (exit code 2). With --json: one object with id, result and document for each ID.
    """
    from pushrail_stream.operations.document_changes import plan_switch

    changes = plan_switch(options.settings, destination_ids, "enabled", on=True)
    carry_out(options, changes, is_dry_run=dry_run, changed="enabled")


@click.command(epilog="Example: pushrail-stream destinations disable dst_acme_8K2zRq")
@click.argument("destination_ids", nargs=-1, required=True, metavar="ID...")
@click.option("--dry-run", is_flag=True, help="Check the documents, show the changes, and write nothing.")
@common_options
@audited
def disable(options: Options, *, destination_ids: tuple[str, ...], dry_run: bool) -> None:
    """Disable destinations: within 5 s their events are skipped, those that wait for a retry too.

    Only the value of "enabled" changes in a document, and no keyring is needed. When one of the documents would be
    refused, none is written (exit code 2). With --json: one object with id, result and document for each ID.
    """
    from pushrail_stream.operations.document_changes import plan_switch

    changes = plan_switch(options.settings, destination_ids, "enabled", on=False)
    carry_out(options, changes, is_dry_run=dry_run, changed="disabled")


def carry_out(
    options: Options, changes: Sequence[PlannedChange], *, is_dry_run: bool, changed: str = "changed"
) -> None:  # fmt: skip
    """Write the changes unless the run is dry, and report each."""
    from pushrail_stream.operations.document_plan import write_plan

    if not is_dry_run:
        write_plan(options.settings, changes)
    would = "would be " if is_dry_run else ""
    results = [would + (changed if change.effect == "changed" else change.effect) for change in changes]
    if len(changes) == 1 and options.output != "csv":
        _report(options, changes[0].destination_id, results[0], changes[0].name)
        return
    options.table(
        ("result", "id", Column("document", drop=1)),
        [(result, change.destination_id, change.name) for result, change in zip(results, changes, strict=True)],
    )
    if not options.json:
        note(", ".join(f"{count} {result}" for result, count in Counter(results).items()))


@click.command(epilog="Example: pushrail-stream destinations delete dst_acme_8K2zRq")
@click.argument("destination_id", metavar="ID")
@yes_option("delete")
@click.option("--dry-run", is_flag=True, help="Name the document that would be deleted.")
@common_options
@audited
def delete(options: Options, *, destination_id: str, yes: bool, dry_run: bool) -> None:
    """Delete a destination's document from the registry. Its waiting deliveries settle as skipped (deleted).

    ID is the destination's id, or the name of its document, which may be a refused one. On a terminal the command asks.
    """
    from pushrail_stream.operations.document_changes import delete_document

    def agree(name: str) -> None:
        confirm(f"Delete {name}?", is_answered=yes)

    name = delete_document(options.settings, destination_id, agree, is_dry_run=dry_run)
    _report(options, destination_id, "would be deleted" if dry_run else "deleted", name)


@click.command(epilog="Example: pushrail-stream destinations seal dst_acme_8K2zRq < secret.txt")
@click.argument("destination_id", metavar="ID")
@click.argument("surplus", nargs=-1, metavar="", type=click.UNPROCESSED)
@click.option("--access-key-id", help="Replace the access key id as well, when it changes with the secret.")
@click.option("--dry-run", is_flag=True, help="Check everything, and write nothing.")
@common_options
@audited
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
    from pushrail_stream.operations.document_changes import seal_secret

    if surplus:
        # Not quoted: it may be the secret.
        raise UsageError("takes one ID and nothing else: the secret is asked for, or read from standard input")
    name, key = seal_secret(options.settings, destination_id, _read_secret, access_key_id, is_dry_run=dry_run)
    effect = "would be sealed" if dry_run else "sealed"
    options.answer(
        {"id": destination_id, "result": effect, "document": name, "key": key},
        f"{destination_id}: {effect} by key {key} ({name})",
    )


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
    options.answer({"id": destination_id, "result": effect, "document": name}, f"{destination_id}: {effect} ({name})")
