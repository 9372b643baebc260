"""``pushrail-stream destinations export`` and ``import``: the registry as one file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from pushrail_stream.cli.documents import carry_out, confirm_deletions
from pushrail_stream.cli.options import Options, audited, common_options, yes_option
from pushrail_stream.cli.output import as_json, emit, note, note_refused, say
from pushrail_stream.errors import OperatorError, UsageError

_STDIN: Final = Path("-")


@click.command(epilog="Example: pushrail-stream destinations export --out destinations.jsonl")
@click.option("--vendor", help="Export only documents of this vendor.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file. [default: standard output]"
)
@common_options
def export(options: Options, *, vendor: str | None, out: Path | None) -> None:
    """Write all destination documents to one file, for a backup or another registry.

    Secrets stay sealed, or names of variables: the file holds none in clear, and no keyring is needed. Keep the keyring
    itself elsewhere: sealed secrets open only with it. A document that would be refused is left out and named, because
    it may hold a secret in clear; then the command exits 1.

    The file has one JSON object a line, first a head with the number of documents and their hash. `destinations
    import` reads it.

    With --json and --out: one object with written, documents, sealingKeys (documents of each key) and refusals.
    """
    from pushrail_stream.operations.document_backup import export_documents
    from pushrail_stream.registry.store import replace_file

    options.refuse_csv()
    found = export_documents(options.settings, vendor)
    keys = dict(sorted(found.sealing_keys.items()))
    if out is None:
        click.echo(found.content, nl=False)
    else:
        replace_file(out, found.content, is_private=True)
        if options.json:
            refusals = [as_json(refusal) for refusal in found.refusals]
            emit({"written": str(out), "documents": found.documents, "sealingKeys": keys, "refusals": refusals})
        else:
            say(f"{out}: {found.documents} documents")
    if keys:
        note(f"sealed by these keys of the keyring, which the file does not have: {', '.join(keys)}")
    note_refused(found.refusals)
    if found.refusals:
        raise OperatorError("not all documents are in the export: refused ones are left out")


@click.command("import", epilog="Example: pushrail-stream destinations import destinations.jsonl --dry-run")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--prune", is_flag=True, help="Delete the documents of the registry that are not in FILE.")
@click.option("--vendor", help="Take only documents of this vendor, and delete only this vendor's.")
@click.option("--leave-sealed", is_flag=True, help="Do not check that sealed secrets open: no keyring is needed.")
@yes_option("delete")
@click.option("--dry-run", is_flag=True, help="Check the documents, show the changes, and write nothing.")
@common_options
@audited
def import_(
    options: Options, *, file: Path, prune: bool, vendor: str | None, leave_sealed: bool, yes: bool, dry_run: bool
) -> None:  # fmt: skip
    """Put the documents of an export (FILE, or - for standard input) into the registry.

    The file is checked as a whole: its head, the number of its documents, and their hash. Then each document is checked
    by itself and beside those of the registry, and every sealed secret has to open with the keyring. When one would be
    refused, its line and field are named, and nothing is written or deleted (exit code 2).

    A document that the registry has with the same values is unchanged. Deletions (--prune) come last, and are asked for
    on a terminal; elsewhere --prune needs --vendor or --yes. To edit an export, take sha256 out of its first line.

    With --json: one object with id, result and document for each document.
    """
    from pushrail_stream.operations.document_backup import plan_import, read_backup
    from pushrail_stream.operations.document_plan import Prune

    if vendor is not None and not prune:
        raise UsageError("--vendor: needs --prune")
    name, content = _read(file)
    given = read_backup(name, content)
    prune_by = Prune(vendor) if prune else None
    changes = plan_import(options.settings, given, prune_by, decrypt=not leave_sealed)
    if not dry_run:
        confirm_deletions(changes, vendor, is_answered=yes)
    carry_out(options, changes, is_dry_run=dry_run)


def _read(file: Path) -> tuple[str, bytes]:
    from pushrail_stream.registry.store import read_file

    if file == _STDIN:
        return "<stdin>", sys.stdin.buffer.read()
    content = read_file(file)
    if content is None:
        raise UsageError(f"{file}: there is no such file")
    return str(file), content
