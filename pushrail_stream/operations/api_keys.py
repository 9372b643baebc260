"""Changes the file of the producers' API keys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pushrail_stream.errors import UsageError
from pushrail_stream.files import reason_of
from pushrail_stream.ingest.api_keys import ApiKey, NewKey, parse_keys, with_key_revoked, with_new_key
from pushrail_stream.operations.audit import note_content
from pushrail_stream.registry.store import changing_alone, read_file, replace_file
from pushrail_stream.settings.model import Settings
from pushrail_stream.settings.values import VENDOR, check_options


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
        before = read_file(path)
        new = with_new_key(before, vendor, _now())
        note_content("api keys", str(path), before, new.content)
        replace_file(path, new.content, is_private=True)
    return new, vendor


def api_keys(settings: Settings) -> tuple[ApiKey, ...]:
    """The API keys, none when there is no file. Raises `UsageError`."""
    path = settings.ingest.keys_file
    content = read_file(path)
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
        before = read_file(path) or b""
        content = with_key_revoked(before, key_id, _now())
        note_content("api keys", str(path), before, content)
        replace_file(path, content, is_private=True)
    keys = parse_keys(content)
    vendor = next(key.vendor for key in keys if key.id == key_id)
    return None if any(key.vendor == vendor and key.revoked_at is None for key in keys) else vendor


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the file's name before an error in its content."""
    try:
        yield
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
