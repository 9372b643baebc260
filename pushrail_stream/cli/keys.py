"""``pushrail-stream keys``: the keys that seal customers' secrets."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from pushrail_stream.cli.files import read_if_there
from pushrail_stream.cli.options import Options, common_options
from pushrail_stream.cli.output import emit, note, say, table, to_the_end
from pushrail_stream.documents import open_store
from pushrail_stream.errors import OperatorError, UsageError
from pushrail_stream.files import read_regular_file
from pushrail_stream.operations.documents import require_keyring
from pushrail_stream.operations.rotation import Rotation, rotate, survey
from pushrail_stream.registry import Keyring
from pushrail_stream.registry.keyring import with_key, without_keys
from pushrail_stream.registry.store import changing_alone, replace_file
from pushrail_stream.settings import Settings
from pushrail_stream.settings.values import KMS_KEY_ARN, SEALING_KEY_ID, check_options

_EVERY: Final = 500
"""Documents between two lines of progress."""
_OTHERS: Final = 0o077
"""Rights of group and others."""


@click.group(epilog="Example: pushrail-stream keys list")
def keys() -> None:
    """The keys that seal customers' secrets.

    To rotate: `keys generate`, give the keyring to every worker (it is read when they meet the new key), `keys rotate`.
    """


@keys.command(epilog="Example: pushrail-stream keys generate --id 2026-11")
@click.option("--id", "key_id", help="Name of the new key. [default: today's date]")
@click.option("--kms", metavar="ARN", help="Let this AWS KMS key be the new key, instead of 32 random bytes.")
@click.option("--dry-run", is_flag=True, help="Say what would be added, and write nothing.")
@common_options
def generate(options: Options, *, key_id: str | None, kms: str | None, dry_run: bool) -> None:
    """Add a key to the keyring file (secrets.keyring), which is made when there is none. It becomes the primary.

    The key itself is written to the file, for its owner alone to read, and never shown. Keep a copy of the file where
    you keep your most precious secrets: without it nothing that it sealed opens any more.
    """
    path = _keyring_file(options.settings)
    now = datetime.now(UTC)
    key_id = key_id or now.strftime("%Y-%m-%d")
    check_options(("--id", SEALING_KEY_ID, key_id), ("--kms", KMS_KEY_ARN, kms))
    with changing_alone(path):
        before = read_if_there(path, "the keyring")
        content = with_key(str(path), before, key_id, kms=kms, created=now.strftime("%Y-%m-%dT%H:%M:%SZ"))
        if not dry_run:
            replace_file(path, content, is_private=True)
    if options.json:
        emit({"id": key_id, "kind": "local" if kms is None else "kms", "keyring": str(path), "dryRun": dry_run})
    else:
        say(f"{key_id}: {'would be added' if dry_run else 'added'} to {path}, as the primary key")
    if not dry_run and before is not None:
        note("next: give the keyring to every worker, then `pushrail-stream keys rotate`")


@keys.command("list", epilog="Example: pushrail-stream keys list --json")
@common_options
def list_(options: Options) -> None:
    """List the keyring's keys, and how many documents each has sealed. With --json: one object a key.

    Keys that documents need and the keyring lacks are listed too, as missing; then the exit code is 1.
    """
    settings = options.settings
    keyring = require_keyring(settings)
    found = asyncio.run(_survey(settings, keyring))
    known = {fact.id for fact in keyring.facts}
    missing = sorted(key_id for key_id in found.in_use if key_id not in known)
    _warn_of_rights(settings)
    _tell_problems(found)
    rows: list[tuple[str, str, bool, str]] = [(*fact,) for fact in keyring.facts]
    rows += [(key_id, "missing", False, "") for key_id in missing]
    if options.json:
        for key_id, kind, is_primary, created in rows:
            emit({
                "id": key_id,
                "kind": kind,
                "primary": is_primary,
                "created": created or None,
                "documents": found.in_use[key_id],
            })  # fmt: skip
    else:
        shown = (
            (key_id, kind, "yes" if is_primary else "no", created, str(found.in_use[key_id]))
            for key_id, kind, is_primary, created in rows
        )
        table(("id", "kind", "primary", "created", "documents"), shown)
    if missing:
        raise OperatorError(f"the keyring lacks {', '.join(missing)}: what they sealed does not open")


@keys.command("rotate", epilog="Example: pushrail-stream keys rotate --remove-unused")
@click.option("--remove-unused", is_flag=True, help="Take the keys that no document needs any more off the keyring.")
@click.option("--dry-run", is_flag=True, help="Say what would be sealed anew, and write nothing.")
@common_options
def rotate_(options: Options, *, remove_unused: bool, dry_run: bool) -> None:
    """Seal every secret anew by the primary key, while workers run, and say which old keys can go.

    Every worker must have the primary key before. One document after the other is replaced as a whole; a rotation that
    was interrupted is taken up by running it again. Exits 1, and removes no key, when a secret may still be sealed by
    an old key because its document could not be read or opened. A document that cannot be parsed and holds no secret
    that an old key has sealed is left as it is, and named; this does not fail the rotation.

    With --json: one object with primary, resealed, refusals, left, documents by key, unused and removed.
    """
    settings = options.settings
    keyring = require_keyring(settings)
    path = _keyring_file(settings) if remove_unused else None
    done = asyncio.run(_rotate(settings, keyring, dry_run=dry_run, quiet=options.json))
    unused = done.unused(keyring)
    removed = _remove(path, unused, settings, keyring) if path is not None and not dry_run else []
    with to_the_end():
        _tell_problems(done)
        if options.json:
            emit({
                "primary": keyring.primary,
                "resealed": done.resealed,
                "refusals": [problem._asdict() for problem in done.problems],
                "left": [problem._asdict() for problem in done.left],
                "documents": dict(done.in_use),
                "unused": unused,
                "removed": removed,
                "dryRun": dry_run,
            })  # fmt: skip
        else:
            _print(done, keyring, unused, removed, dry_run=dry_run)
    if done.problems:
        raise OperatorError(f"{len(done.problems)} documents could not be read or opened: no key can go")


def _remove(path: Path, unused: list[str], settings: Settings, keyring: Keyring) -> list[str]:
    """Take keys off the keyring; which of them have gone."""
    with changing_alone(path):
        # Somebody may have written a document meanwhile: what is there now decides.
        still_unused = asyncio.run(_survey(settings, keyring)).unused(keyring)
        removed = [key_id for key_id in unused if key_id in still_unused]
        if removed:
            replace_file(path, without_keys(str(path), read_regular_file(path), frozenset(removed)), is_private=True)
    return removed


def _keyring_file(settings: Settings) -> Path:
    where = settings.secrets.keyring
    if where is None:
        raise UsageError("secrets.keyring: is not set: name the file that the keys are to be kept in")
    if where.startswith(("env:", "aws-kms:")):
        kind = "an environment variable" if where.startswith("env:") else "a KMS key"
        hint = "name a file instead (PUSHRAIL_SECRETS__KEYRING=PATH)"
        raise UsageError(f"secrets.keyring: is {kind}, which cannot be written: {hint}")
    return Path(where)


def _warn_of_rights(settings: Settings) -> None:
    where = settings.secrets.keyring or ""
    if not where.startswith(("env:", "aws-kms:")) and Path(where).stat().st_mode & _OTHERS:
        note(f"warning: {where}: others than its owner may read or write the keyring: chmod 600")


async def _survey(settings: Settings, keyring: Keyring) -> Rotation:
    async with open_store(settings) as store:
        return await survey(store, keyring.primary)


async def _rotate(settings: Settings, keyring: Keyring, *, dry_run: bool, quiet: bool) -> Rotation:
    def progress(done: int, total: int) -> None:
        if not quiet and done % _EVERY == 0:
            note(f"{done} of {total} documents")

    async with open_store(settings) as store:
        return await rotate(store, keyring, dry_run=dry_run, progress=progress)


def _tell_problems(found: Rotation) -> None:
    for problem in found.problems:
        note(f"refused: {problem}")


def _print(done: Rotation, keyring: Keyring, unused: list[str], removed: list[str], *, dry_run: bool) -> None:
    what = "would be sealed anew" if dry_run else "sealed anew"
    say(f"{len(done.resealed)} documents {what} by key {keyring.primary}")
    for key_id in sorted(key_id for key_id, count in done.in_use.items() if count and key_id != keyring.primary):
        say(f"{key_id}: still needed by {done.in_use[key_id]} documents")
    if done.left:
        table(("left as it was", "why"), ((left.file, left.problem) for left in done.left))
    for key_id in unused:
        how = "taken off the keyring" if key_id in removed else "can go: --remove-unused takes it off the keyring"
        say(f"{key_id}: needed by no document, {how}")
