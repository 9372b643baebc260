"""The keys that seal secrets: changes the keyring file, and seals every secret again with the primary key.

In a rotation each document is old or new, so it opens at any moment. An interrupted rotation goes on where it stopped:
documents that the primary key has sealed are skipped.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from pushrail_stream.core.signals import DocumentRefused
from pushrail_stream.documents import open_store
from pushrail_stream.errors import UsageError
from pushrail_stream.files import read_regular_file
from pushrail_stream.operations.audit import note_content
from pushrail_stream.ports.documents import DocumentStore
from pushrail_stream.ports.secrets import KeyUnavailable
from pushrail_stream.registry.json_document import SECRET_FIELD, Problem, read_json, sealed_in, with_secret
from pushrail_stream.registry.keyring import Keyring, SealBroken, with_key, without_keys
from pushrail_stream.registry.rules import SEALED
from pushrail_stream.registry.sealing import VERSION, Token
from pushrail_stream.registry.store import changing_alone, read_file, replace_file
from pushrail_stream.settings.model import Settings
from pushrail_stream.settings.values import KMS_KEY_ARN, SEALING_KEY_ID, check_options

_OTHERS: Final = 0o077
"""Permissions of the group and of others."""


@dataclass
class Rotation:
    """The result of a rotation, and the keys that seal the documents now."""

    resealed: list[str] = field(default_factory=list)
    """Names of the documents sealed again; in a dry run, those that would be."""
    problems: list[DocumentRefused] = field(default_factory=list)
    """Documents whose secret could not be sealed again, or may not have been, with the reasons."""
    left: list[DocumentRefused] = field(default_factory=list)
    """Documents that cannot be parsed and hold nothing sealed by an old key."""
    in_use: Counter[str] = field(default_factory=Counter)
    """Number of documents that each key has sealed, by key id."""

    def unused(self, keyring: Keyring) -> list[str]:
        """Ids of the keys that no document needs; none while a document leaves that open."""
        if self.problems:
            return []
        return [fact.id for fact in keyring.facts if not fact.is_primary and not self.in_use[fact.id]]

    def refuse(self, name: str, problem: Problem, content: bytes | None, primary: str) -> None:
        """Note a document that stays as it was."""
        refused = DocumentRefused(name, *problem)
        (self.left if content is not None and _is_free(content, primary) else self.problems).append(refused)


class GeneratedKey(NamedTuple):
    """A key that was added to a keyring."""

    id: str
    path: Path
    is_first: bool
    """Whether the keyring did not exist before."""


def generate_key(settings: Settings, key_id: str | None, kms: str | None, *, is_dry_run: bool) -> GeneratedKey:
    """Add a primary key to the keyring file: 32 random bytes, or an AWS KMS key. Raises `OperatorError`."""
    path, now = keyring_file(settings), datetime.now(UTC)
    key_id = key_id or now.strftime("%Y-%m-%d")
    check_options(("--id", SEALING_KEY_ID, key_id), ("--kms", KMS_KEY_ARN, kms))
    with changing_alone(path):
        before = read_file(path)
        content = with_key(str(path), before, key_id, kms=kms, created=now.strftime("%Y-%m-%dT%H:%M:%SZ"))
        if not is_dry_run:
            note_content("keyring", str(path), before, content)
            replace_file(path, content, is_private=True)
    return GeneratedKey(key_id, path, before is None)


async def survey_documents(settings: Settings, keyring: Keyring) -> Rotation:
    """The keys that have sealed the registry's documents."""
    async with open_store(settings) as store:
        return await survey(store, keyring.primary)


async def rotate_documents(
    settings: Settings, keyring: Keyring, show: Callable[[int, int], None], *, is_dry_run: bool
) -> Rotation:
    """Seal the registry's documents again by the primary key. ``show`` gets the documents done and in all."""
    async with open_store(settings) as store:
        return await rotate(store, keyring, dry_run=is_dry_run, progress=show)


def remove_keys(settings: Settings, keyring: Keyring, unused: list[str]) -> list[str]:
    """Remove the keys from the keyring that no document needs; the ids of the removed ones."""
    path = keyring_file(settings)
    with changing_alone(path):
        # A document may have been written meanwhile, so the documents are read again.
        still_unused = asyncio.run(survey_documents(settings, keyring)).unused(keyring)
        removed = [key_id for key_id in unused if key_id in still_unused]
        if removed:
            before = read_regular_file(path)
            content = without_keys(str(path), before, frozenset(removed))
            note_content("keyring", str(path), before, content)
            replace_file(path, content, is_private=True)
    return removed


def keyring_file(settings: Settings) -> Path:
    """The keyring's file. Raises `UsageError` when the keyring is not a file."""
    where = settings.secrets.keyring
    if where is None:
        raise UsageError("secrets.keyring: is not set: name the file that the keys are to be kept in")
    if where.startswith(("env:", "aws-kms:")):
        kind = "an environment variable" if where.startswith("env:") else "a KMS key"
        hint = "name a file instead (PUSHRAIL_SECRETS__KEYRING=PATH)"
        raise UsageError(f"secrets.keyring: is {kind}, which cannot be written: {hint}")
    return Path(where)


def is_keyring_exposed(settings: Settings) -> bool:
    """Whether others than the owner may read or write the keyring's file."""
    where = settings.secrets.keyring or ""
    return not where.startswith(("env:", "aws-kms:")) and bool(Path(where).stat().st_mode & _OTHERS)


def _is_free(content: bytes, primary: str) -> bool:
    """Whether a document that cannot be parsed certainly holds no secret that an old key has sealed.

    An escape could spell anything, and so could another encoding or a compressed file.
    """
    if not isinstance(read_json(content), Problem) or b"\\" in content or not _is_plain(content):
        return False
    return content.count(SEALED.encode()) == content.count(f"{VERSION}:{primary}:".encode())


def _is_plain(content: bytes) -> bool:
    """Whether it is UTF-8. UTF-16 passes for that, but has zero bytes."""
    try:
        return "\0" not in content.decode()
    except UnicodeDecodeError:
        return False


async def survey(store: DocumentStore, primary: str) -> Rotation:
    """Find the keys that seal the documents, and change nothing."""
    survey = Rotation()
    for name, content, problem in await store.everything():
        key_id = Problem("", problem) if content is None else key_of(content, primary)
        if isinstance(key_id, Problem):
            survey.refuse(name, key_id, content, primary)
        elif key_id is not None:
            survey.in_use[key_id] += 1
    return survey


async def rotate(
    store: DocumentStore, keyring: Keyring, *, dry_run: bool, progress: Callable[[int, int], None]
) -> Rotation:  # fmt: skip
    """Seal again every secret of another key than the primary. ``progress`` gets the documents done and their total."""
    rotation = Rotation()
    documents = await store.everything()
    for number, (name, content, problem) in enumerate(documents, 1):
        found = Problem("", problem) if content is None else await _rotate_one(store, keyring, name, content, dry_run)
        if isinstance(found, Problem):
            rotation.refuse(name, found, content, keyring.primary)
            found = None if content is None else key_of(content, keyring.primary)
        elif found is not None and found != keyring.primary:
            rotation.resealed.append(name)
            found = found if dry_run else keyring.primary
        if isinstance(found, str):
            rotation.in_use[found] += 1
        progress(number, len(documents))
    return rotation


async def _rotate_one(
    store: DocumentStore, keyring: Keyring, name: str, content: bytes, dry_run: bool  # noqa: FBT001
) -> str | Problem | None:  # fmt: skip
    """The key that had sealed the document (None: it has nothing sealed), or why it is left as it was."""
    while True:
        key_id = key_of(content, keyring.primary)
        if key_id is None or isinstance(key_id, Problem) or key_id == keyring.primary:
            return key_id
        changed = _reseal(content, keyring)
        if isinstance(changed, Problem) or dry_run:
            return changed if isinstance(changed, Problem) else key_id
        now = await store.read(name)
        if now == content:
            note_content("document", name, content, changed)
            await store.write(name, changed)
            return key_id
        if now is None:
            return None
        content = now  # it was changed meanwhile: seal the new version


def key_of(content: bytes, primary: str) -> str | Problem | None:
    """Id of the key that has sealed a document's secret; None when it has none."""
    found = sealed_in(content)
    if isinstance(found, Problem):
        return found
    token = None if found is None else Token.parse(found.token)
    if found is not None and token is None:
        return Problem(found.place.field, "is not what `destinations seal` wrote: it was cut off or changed")
    key_id = None if token is None else token.key_id
    if _sealed_by_old_keys(content, primary) > (key_id not in {None, primary}):
        return Problem("", f"holds what an old key has sealed in another place than {SECRET_FIELD}")
    return key_id


def _sealed_by_old_keys(content: bytes, primary: str) -> int:
    """How many secrets of other keys than the primary stand anywhere in a document."""
    text = json.dumps(read_json(content), ensure_ascii=False)  # without escapes of ASCII characters
    return text.count(f"{VERSION}:") - text.count(f"{VERSION}:{primary}:")


def _reseal(content: bytes, keyring: Keyring) -> bytes | Problem:
    found = sealed_in(content)
    if found is None or isinstance(found, Problem):
        return found or Problem("", "has nothing sealed")
    try:
        secret = keyring.unseal(found.token, found.place)
        return with_secret(content, lambda place: keyring.seal(secret, place))
    except (SealBroken, KeyUnavailable) as error:
        return Problem(found.place.field, str(error))
