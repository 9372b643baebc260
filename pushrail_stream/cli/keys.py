"""``pushrail-stream keys``: the keys that seal customers' secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from pushrail_stream.cli.options import Options, audited, common_options
from pushrail_stream.cli.output import Column, as_json, emit, note, to_the_end
from pushrail_stream.errors import OperatorError

if TYPE_CHECKING:
    from pushrail_stream.operations.sealing_keys import Rotation
    from pushrail_stream.registry.keyring import Keyring

_EVERY: Final = 500
"""Documents between two lines of progress."""


@click.group(epilog="Example: pushrail-stream keys list")
def keys() -> None:
    """Manage the keys that seal customers' secrets.

    To rotate: `keys generate`, give the keyring to every worker (which reads it when it meets the new key), and
    `keys rotate`.
    """


@keys.command(epilog="Example: pushrail-stream keys generate --id 2026-11")
@click.option("--id", "key_id", help="The id of the new key. [default: today's date]")
@click.option("--kms", metavar="ARN", help="Use this AWS KMS key, instead of 32 random bytes.")
@click.option("--dry-run", is_flag=True, help="Show the key that would be added, and write nothing.")
@common_options
@audited
def generate(options: Options, *, key_id: str | None, kms: str | None, dry_run: bool) -> None:
    """Add a key to the keyring file (secrets.keyring) and make it the primary key. A missing file is created.

    The key itself is written to the file, which only its owner can read, and is never shown. Keep a copy of the file
    where you keep your most precious secrets: without it no secret that it sealed can be opened.
    """
    from pushrail_stream.operations.sealing_keys import generate_key

    new = generate_key(options.settings, key_id, kms, is_dry_run=dry_run)
    options.answer(
        {"id": new.id, "kind": "local" if kms is None else "kms", "keyring": str(new.path), "dryRun": dry_run},
        f"{new.id}: {'would be added' if dry_run else 'added'} to {new.path}, as the primary key",
    )
    if not dry_run and not new.is_first:
        note("next: give the keyring to every worker, then `pushrail-stream keys rotate`")


@keys.command("list", epilog="Example: pushrail-stream keys list --json")
@common_options
def list_(options: Options) -> None:
    """List the keyring's keys, and how many documents each has sealed. With --json: one object a key.

    Keys that documents need and the keyring lacks are listed as missing; then the exit code is 1.
    """
    import asyncio

    from pushrail_stream.operations.document_changes import require_keyring
    from pushrail_stream.operations.sealing_keys import is_keyring_exposed, survey_documents

    settings = options.settings
    keyring = require_keyring(settings)
    found = asyncio.run(survey_documents(settings, keyring))
    known = {fact.id for fact in keyring.facts}
    missing = sorted(key_id for key_id in found.in_use if key_id not in known)
    if is_keyring_exposed(settings):
        note(f"warning: {settings.secrets.keyring}: others than its owner may read or write the keyring: chmod 600")
    _note_problems(found)
    rows = [*keyring.facts, *((key_id, "missing", False, "") for key_id in missing)]
    options.table(
        ("id", Column("kind", drop=1), "primary", Column("created", "time", drop=2), "documents"),
        ((key_id, kind, primary, created or None, found.in_use[key_id]) for key_id, kind, primary, created in rows),
    )
    if missing:
        raise OperatorError(f"the keyring lacks {', '.join(missing)}: the secrets that they sealed cannot be opened")


@keys.command("rotate", epilog="Example: pushrail-stream keys rotate --remove-unused")
@click.option("--remove-unused", is_flag=True, help="Remove the keys from the keyring that no document needs any more.")
@click.option("--dry-run", is_flag=True, help="Show the documents that would be sealed again, and write nothing.")
@common_options
@audited
def rotate_(options: Options, *, remove_unused: bool, dry_run: bool) -> None:
    """Seal every secret again by the primary key, while workers run, and name the old keys that can go.

    Every worker must have the primary key before. One document after the other is replaced as a whole; an interrupted
    rotation goes on when it is run again. The command exits 1, and removes no key, when a secret may still be sealed
    by an old key because its document could not be read or opened. A document that cannot be parsed and holds no secret
    that an old key has sealed is left as it is, and named; this does not fail the rotation.

    With --json: one object with primary, resealed, refusals, left, documents by key, unused and removed.
    """
    import asyncio

    from pushrail_stream.operations.document_changes import require_keyring
    from pushrail_stream.operations.sealing_keys import keyring_file, remove_keys, rotate_documents

    settings = options.settings
    keyring = require_keyring(settings)
    if remove_unused:
        keyring_file(settings)  # a keyring that cannot be written is refused before any document is

    def show(done: int, total: int) -> None:
        if not options.json and done % _EVERY == 0:
            note(f"{done} of {total} documents")

    done = asyncio.run(rotate_documents(settings, keyring, show, is_dry_run=dry_run))
    unused = done.unused(keyring)
    removed = remove_keys(settings, keyring, unused) if remove_unused and not dry_run else []
    with to_the_end():
        _note_problems(done)
        if options.json:
            emit({
                "primary": keyring.primary,
                "resealed": done.resealed,
                "refusals": [as_json(problem) for problem in done.problems],
                "left": [as_json(problem) for problem in done.left],
                "documents": done.in_use,
                "unused": unused,
                "removed": removed,
                "dryRun": dry_run,
            })  # fmt: skip
        else:
            _print(options, done, keyring, unused, removed, dry_run=dry_run)
    if done.problems:
        raise OperatorError(f"{len(done.problems)} documents could not be read or opened: no key can go")


def _note_problems(found: Rotation) -> None:
    for problem in found.problems:
        note(f"refused: {problem}")


def _print(
    options: Options, done: Rotation, keyring: Keyring, unused: list[str], removed: list[str], *, dry_run: bool
) -> None:
    what = "would be sealed anew" if dry_run else "sealed anew"
    options.say(f"{len(done.resealed)} documents {what} by key {keyring.primary}")
    for key_id in sorted(key_id for key_id, count in done.in_use.items() if count and key_id != keyring.primary):
        options.say(f"{key_id}: still needed by {done.in_use[key_id]} documents")
    if done.left:
        options.table(("left as it was", Column("why", "text")), ((left.document, left.problem) for left in done.left))
    for key_id in unused:
        how = "taken off the keyring" if key_id in removed else "can go: --remove-unused takes it off the keyring"
        options.say(f"{key_id}: needed by no document, {how}")
