"""API keys of producers, each for one vendor. Only hashes are kept.

A key is ``prk_ID_SECRET``. Its secret is 256 random bits, so one SHA-256 without salt protects it. Slow hashes (argon2,
scrypt) protect passwords that can be guessed, and would cost tens of milliseconds on every request. The file is JSON,
readable by its owner only, and read again when it changes.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, NamedTuple, final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pushrail_stream.blocking import in_daemon_thread
from pushrail_stream.core.signals import ApiKeysChanged
from pushrail_stream.errors import OperatorError
from pushrail_stream.files import Answering, read_regular_file, reason_of
from pushrail_stream.ports.pipeline import Observer
from pushrail_stream.settings.values import VENDOR

_KEY: Final = re.compile(r"prk_([a-z2-7]{10})_([A-Za-z0-9_-]{43})", re.ASCII)
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"
_POLL_SECS: Final = 1.0
"""How often the file is looked at for changes."""
_NO_HASH: Final = "0" * 64


class ApiKey(BaseModel):
    """A key as it is kept: everything but the secret."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, populate_by_name=True)

    id: Annotated[str, Field(pattern=r"^[a-z2-7]{10}$")]
    vendor: Annotated[str, VENDOR]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    created_at: Annotated[datetime, Field(alias="createdAt")]
    revoked_at: Annotated[datetime | None, Field(alias="revokedAt")] = None


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    keys: tuple[ApiKey, ...]


class NewKey(NamedTuple):
    """A key that was just made. ``secret`` is the whole key, shown once; ``content`` is the file with its hash."""

    id: str
    secret: str
    content: bytes


def parse_keys(content: bytes) -> tuple[ApiKey, ...]:
    """The keys of a file; raises ``ValueError`` that names the field at fault and repeats none of its content."""
    try:
        keys = _File.model_validate_json(content).keys
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc'])) or 'file'}: {first['msg']}") from None
    ids = [key.id for key in keys]
    if len(set(ids)) != len(ids):
        raise ValueError("keys: two have one id")
    return keys


def with_new_key(content: bytes | None, vendor: str, now: datetime) -> NewKey:
    """A new key for a vendor, and the file with it added."""
    key_id = "".join(secrets.choice(_ALPHABET) for _ in range(10))
    secret = f"prk_{key_id}_{secrets.token_urlsafe(32)}"
    key = ApiKey(id=key_id, vendor=vendor, sha256=_hash(secret), created_at=now)
    return NewKey(key_id, secret, _dump((*(parse_keys(content) if content is not None else ()), key)))


def with_key_revoked(content: bytes, key_id: str, now: datetime) -> bytes:
    """The file with one key revoked; raises ``ValueError`` when there is no such key."""
    keys = parse_keys(content)
    if key_id not in {key.id for key in keys}:
        raise ValueError(f"there is no key {key_id}")
    return _dump(
        tuple(
            key.model_copy(update={"revoked_at": now}) if key.id == key_id and key.revoked_at is None else key
            for key in keys
        )
    )


@final
class ApiKeys:
    """The keys of a file, as they are now."""

    def __init__(self, path: Path) -> None:
        """Raises `OperatorError` when the file cannot be read: without keys no event could be posted."""
        self._path = path
        self._file = Answering(self._read)
        self._seen: object = None
        self._keys: Mapping[str, ApiKey] = {}
        change = self._look()
        if change is not None and change.problem:
            hint = "make one by: pushrail-stream ingest keys create --vendor NAME"
            raise OperatorError(f"ingest.keys_file: {change.problem}; {hint}")

    @property
    def active(self) -> int:
        """Number of keys that are not revoked."""
        return len(self._keys)

    def find(self, presented: str) -> ApiKey | None:
        """The presented key; None when it is unknown or revoked. Takes the same time for each."""
        match = _KEY.fullmatch(presented)
        key = self._keys.get(match[1]) if match else None
        # Compares in either case, so that the time does not tell which ids exist.
        is_right = hmac.compare_digest(_hash(presented), _NO_HASH if key is None else key.sha256)
        return key if is_right else None

    async def keep(self, observe: Observer) -> None:
        """Follow the file until cancelled. A bad file is reported, and the earlier keys stay in use."""
        while True:
            await asyncio.sleep(_POLL_SECS)
            change = await in_daemon_thread(self._look)
            if change is not None:
                observe(change)

    def _look(self) -> ApiKeysChanged | None:
        try:
            read = self._file()
            if read is None:
                return None
            seen, content = read
            keys = parse_keys(content)
        except (OSError, ValueError) as error:
            problem = f"{self._path}: {reason_of(error) if isinstance(error, OSError) else error}"
            if self._seen == problem:
                return None
            self._seen = problem
            return ApiKeysChanged(len(self._keys), problem)
        self._seen = seen
        self._keys = {key.id: key for key in keys if key.revoked_at is None}
        return ApiKeysChanged(len(self._keys))

    def _read(self) -> tuple[object, bytes] | None:
        """The file's signature and its content; None while the signature is unchanged."""
        status = self._path.stat()
        seen = (status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size)
        # The status is read before the content: a change in between is found the next time.
        return None if seen == self._seen else (seen, read_regular_file(self._path))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def _dump(keys: tuple[ApiKey, ...]) -> bytes:
    return _File(keys=keys).model_dump_json(by_alias=True, exclude_none=True, indent=2).encode() + b"\n"
