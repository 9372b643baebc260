"""Changes the files of keys: the keyring that seals secrets, and the API keys of producers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from pushrail_stream.documents import open_store
from pushrail_stream.errors import UsageError
from pushrail_stream.files import read_regular_file, reason_of
from pushrail_stream.ingest.api_keys import ApiKey, NewKey, parse_keys, with_key_revoked, with_new_key
from pushrail_stream.operations.rotation import Rotation, rotate, survey
from pushrail_stream.registry.keyring import Keyring, with_key, without_keys
from pushrail_stream.registry.store import changing_alone, replace_file
from pushrail_stream.settings.model import Settings
from pushrail_stream.settings.values import KMS_KEY_ARN, SEALING_KEY_ID, VENDOR, check_options

_KEYRING: Final = "the keyring"
_API_KEYS: Final = "the file of API keys"
_OTHERS: Final = 0o077
"""Permissions of the group and of others."""


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
        before = _read_if_there(path, _KEYRING)
        content = with_key(str(path), before, key_id, kms=kms, created=now.strftime("%Y-%m-%dT%H:%M:%SZ"))
        if not is_dry_run:
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
            replace_file(path, without_keys(str(path), read_regular_file(path), frozenset(removed)), is_private=True)
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


def create_api_key(settings: Settings, vendor: str | None) -> tuple[NewKey, str]:
    """Add an API key for a vendor, or for the setting's; the key and its vendor. Raises `OperatorError`."""
    vendor = vendor or settings.vendor
    if vendor is None:
        raise UsageError("--vendor: is missing, and so is the setting vendor")
    check_options(("--vendor", VENDOR, vendor))
    path = settings.ingest.keys_file
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path.parent}: cannot be made: {reason_of(error)}") from None
    with changing_alone(path), _naming(path):
        new = with_new_key(_read_if_there(path, _API_KEYS), vendor, _now())
        replace_file(path, new.content, is_private=True)
    return new, vendor


def api_keys(settings: Settings) -> tuple[ApiKey, ...]:
    """The API keys, none when there is no file. Raises `UsageError`."""
    path = settings.ingest.keys_file
    content = _read_if_there(path, _API_KEYS)
    if content is None:
        return ()
    with _naming(path):
        return parse_keys(content)


def revoke_api_key(settings: Settings, key_id: str) -> str | None:
    """Revoke an API key; its vendor if the vendor has no other key left. Raises `UsageError`."""
    path = settings.ingest.keys_file
    if not path.exists():
        raise UsageError(f"{path}: there is no such file, so no key {key_id}")
    with changing_alone(path), _naming(path):
        content = with_key_revoked(_read_if_there(path, _API_KEYS) or b"", key_id, _now())
        replace_file(path, content, is_private=True)
    keys = parse_keys(content)
    vendor = next(key.vendor for key in keys if key.id == key_id)
    return None if any(key.vendor == vendor and key.revoked_at is None for key in keys) else vendor


def _read_if_there(path: Path, kind: str) -> bytes | None:
    """The file's content, None when there is no file. Raises `UsageError` when it cannot be read."""
    try:
        return read_regular_file(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{path}: {kind} cannot be read: {reason_of(error)}") from None


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the file's name before an error in its content."""
    try:
        yield
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
