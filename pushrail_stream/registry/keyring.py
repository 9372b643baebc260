"""The keyring: the master keys that open sealed secrets, one of them the primary, which seals new ones.

{"primary": "2026-11", "keys": {"2026-11": {"key": "BASE64 OF 32 BYTES", "created": "2026-11-24T09:00:00Z"},
"cloud": {"kms": "arn:aws:kms:eu-west-1:111122223333:key/..."}}}
"""

from __future__ import annotations

import json
import os
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Self, final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from pushrail_stream.core.destination import Secret
from pushrail_stream.errors import UsageError
from pushrail_stream.files import Answering, read_regular_file, reason_of
from pushrail_stream.ports.secrets import KeyUnavailable, MasterKey
from pushrail_stream.registry import sealing
from pushrail_stream.registry.sealing import KEY_BYTES, LocalKey, Place, Token
from pushrail_stream.settings.problems import sentence
from pushrail_stream.settings.values import KMS_KEY_ARN, SEALING_KEY_ID

_ENV: Final = "env:"
_AWS_KMS: Final = "aws-kms:"
_CUT_OFF: Final = "is not what `destinations seal` wrote: it was cut off or changed"


class SealBroken(Exception):  # noqa: N818 - it is the sentence a person reads
    """A sealed secret does not open and never will. The message says so without quoting it."""


class KeyFacts(NamedTuple):
    """The public facts about a key."""

    id: str
    kind: Literal["local", "kms"]
    is_primary: bool
    created: str
    """RFC 3339; empty if unknown."""


def _check_key(text: str) -> str:
    try:
        if len(b64decode(text, validate=True)) == KEY_BYTES:
            return text
    except ValueError:
        pass
    raise ValueError(f"must be {KEY_BYTES} bytes in base64")


class _Key(BaseModel):
    model_config = ConfigDict(defer_build=True, strict=True, frozen=True, extra="forbid", hide_input_in_errors=True)

    key: Annotated[str, AfterValidator(_check_key)] | None = Field(default=None, repr=False)
    kms: Annotated[str, KMS_KEY_ARN] | None = None
    created: str = ""

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        if (self.key is None) == (self.kms is None):
            raise ValueError("must have either key or kms")
        return self


class _Keys(BaseModel):
    model_config = ConfigDict(defer_build=True, strict=True, frozen=True, extra="forbid", hide_input_in_errors=True)

    primary: str
    keys: dict[Annotated[str, SEALING_KEY_ID], _Key]

    @model_validator(mode="after")
    def _check_primary(self) -> Self:
        if self.primary not in self.keys:
            raise ValueError("primary must be the id of one of keys")
        return self


def unseal_without_keyring(token: str, place: Place) -> Secret:
    """Refuse to unseal, because there is no keyring. Raises `ports.KeyUnavailable`."""
    del token, place
    raise KeyUnavailable("is sealed, and there is no keyring to open it with (secrets.keyring)")


def leave_sealed(token: str, place: Place) -> Secret:
    """Check the token and return an empty secret: nothing is signed, so no key is needed. Raises `SealBroken`."""
    del place
    if Token.parse(token) is None:
        raise SealBroken(_CUT_OFF)
    return Secret("")


@final
class Keyring:
    """Seals and unseals secrets. It is read again when a key is missing, so it may change while a worker runs."""

    def __init__(self, where: str, read: Callable[[], bytes], kms: Callable[[str], MasterKey]) -> None:
        """Raises `UsageError` if the keyring cannot be read."""
        self._where = where
        self._read = read
        self._kms = kms
        self._content: bytes | None = None
        self._facts: tuple[KeyFacts, ...] = ()
        self._keys: dict[str, MasterKey] = {}
        self._clouds: dict[str, MasterKey] = {}
        """KMS keys by ARN. They outlive changes of the keyring: they remember data keys that they unwrapped."""
        self.primary = ""
        """Id of the key that seals."""
        self._load()

    @classmethod
    def open(cls, where: str, environ: Mapping[str, str], kms: Callable[[str], MasterKey]) -> Self:
        """The keyring of ``secrets.keyring``: a file's path, ``env:NAME`` or ``aws-kms:ARN``. ``kms`` reaches KMS keys.

        Raises `UsageError`, which names the problem and never a key.
        """
        if where.startswith(_AWS_KMS):
            arn = where.removeprefix(_AWS_KMS)
            key_id = arn.rpartition("/")[2]
            return cls(where, lambda: json.dumps({"primary": key_id, "keys": {key_id: {"kms": arn}}}).encode(), kms)
        if where.startswith(_ENV):
            return cls(where, lambda: environ.get(where.removeprefix(_ENV), "").encode(errors="replace"), kms)
        return cls(where, Answering(lambda: read_regular_file(Path(where))), kms)

    @property
    def facts(self) -> tuple[KeyFacts, ...]:
        """Every key, the primary first."""
        return self._facts

    @property
    def kms_keys(self) -> tuple[str, ...]:
        """The ARNs of the KMS keys that it has named until now."""
        return tuple(self._clouds)

    def seal(self, secret: Secret, place: Place) -> str:
        """A token that the primary key sealed; raises `ports.KeyUnavailable`."""
        return str(sealing.seal(secret, place, self.primary, self._keys[self.primary]))

    def unseal(self, token: str, place: Place) -> Secret:
        """The secret; raises `SealBroken` or `ports.KeyUnavailable`."""
        parsed = Token.parse(token)
        if parsed is None:
            raise SealBroken(_CUT_OFF)
        key = self._keys.get(parsed.key_id)
        secret = None if key is None else sealing.unseal(parsed, place, key)
        if secret is None and self._reload():
            key = self._keys.get(parsed.key_id)
            secret = None if key is None else sealing.unseal(parsed, place, key)
        if key is None:
            raise KeyUnavailable(f"is sealed by key {parsed.key_id}, which the keyring does not have ({self._where})")
        if secret is None:
            what = "does not open: it was changed, or sealed for another vendor, destination or key of this name"
            raise SealBroken(f"{what} (key {parsed.key_id}); seal it again with `destinations seal`")
        return secret

    def _reload(self) -> bool:
        """Whether the keyring has changed since it was read."""
        before = self._content
        try:
            self._load()
        except UsageError as error:
            raise KeyUnavailable(str(error)) from error
        return self._content != before

    def _load(self) -> None:
        try:
            content = self._read()
        except FileNotFoundError:
            hint = "`keys generate` makes it (secrets.keyring)"
            raise UsageError(f"{self._where}: there is no such keyring: {hint}") from None
        except OSError as error:
            reason = reason_of(error)
            raise UsageError(f"{self._where}: the keyring cannot be read: {reason} (secrets.keyring)") from None
        if content == self._content:
            return
        keys = _parse(self._where, content)
        known = {key_id: LocalKey(b64decode(key.key)) for key_id, key in keys.keys.items() if key.key is not None}
        clouds = {key_id: self._cloud(key.kms) for key_id, key in keys.keys.items() if key.kms is not None}
        self._keys, self._content, self.primary = {**known, **clouds}, content, keys.primary
        facts = (
            KeyFacts(key_id, "local" if key.kms is None else "kms", key_id == keys.primary, key.created)
            for key_id, key in keys.keys.items()
        )
        self._facts = tuple(sorted(facts, key=lambda fact: (not fact.is_primary, fact.id)))

    def _cloud(self, arn: str) -> MasterKey:
        if arn not in self._clouds:
            self._clouds[arn] = self._kms(arn)
        return self._clouds[arn]


def with_key(where: str, content: bytes | None, key_id: str, *, kms: str | None, created: str) -> bytes:
    """A keyring with one more key, which becomes its primary; a new keyring if there is none (None).

    Raises `UsageError` when the keyring cannot be used or has a key of this id.
    """
    keys = _parse(where, content).model_dump(exclude_none=True)["keys"] if content is not None else {}
    if key_id in keys:
        raise UsageError(f"{where}: there is a key {key_id} already: name another with --id")
    new = {"key": b64encode(os.urandom(KEY_BYTES)).decode()} if kms is None else {"kms": kms}
    return _dump(where, {"primary": key_id, "keys": {**keys, key_id: {**new, "created": created}}})


def without_keys(where: str, content: bytes, gone: frozenset[str]) -> bytes:
    """The keyring without these keys. Raises `UsageError` when it cannot be used, or the primary would go."""
    keys = _parse(where, content)
    kept = {key_id: key for key_id, key in keys.model_dump(exclude_none=True)["keys"].items() if key_id not in gone}
    return _dump(where, {"primary": keys.primary, "keys": kept})


def _dump(where: str, keyring: dict[str, Any]) -> bytes:
    content = (json.dumps(keyring, indent=2) + "\n").encode()
    _parse(where, content)
    return content


def _parse(where: str, content: bytes) -> _Keys:
    """Raises `UsageError` without quoting anything: most of it is secret."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        raise UsageError(f"{where}: the keyring is not valid JSON, or empty (secrets.keyring)") from None
    try:
        return _Keys.model_validate(value)
    except ValidationError as error:
        problem = error.errors()[0]
        is_unknown = problem["type"] == "extra_forbidden"
        path = problem["loc"][:-1] if is_unknown else problem["loc"]
        field = ".".join(str(part) for part in path if part != "[key]" and SEALING_KEY_ID.pattern.fullmatch(str(part)))
        what = ": ".join(part for part in (field, "has an unknown field" if is_unknown else sentence(problem)) if part)
        raise UsageError(f"{where}: {what} (secrets.keyring)") from None
