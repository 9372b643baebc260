"""Sealed secrets: ciphertext that opens only in its own place.

A token is ``sealed:1:KEY:WRAPPED:SEALED``: the form's version, the master key's id, the secret's own data key wrapped
by the master key, and nonce, ciphertext and tag of AES-256-GCM under the data key (both base64url). Wrapping and
sealing are bound to vendor, destination and field, so a token does not open in another document.
"""

from __future__ import annotations

import json
import os
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Final, NamedTuple, Self, final

from pushrail_stream.core.destination import Secret
from pushrail_stream.ports.secrets import MasterKey
from pushrail_stream.settings.values import SEALING_KEY_ID

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
"""96 bits, random: what GCM is made for (NIST SP 800-38D, 8.2.2). A master key may wrap 2^32 data keys so."""
_TAG_BYTES: Final = 16
VERSION: Final = "sealed:1"
"""The beginning of every token."""
_KEY_ID: Final = SEALING_KEY_ID.pattern.pattern
_TOKEN: Final = re.compile(rf"{VERSION}:({_KEY_ID}):([A-Za-z0-9_-]{{16,8192}}):([A-Za-z0-9_-]{{38,2048}})")


class Place(NamedTuple):
    """The place of a secret."""

    vendor: str
    destination_id: str
    field: str
    """Dotted: ``auth.secretAccessKey``."""

    def context(self) -> dict[str, str]:
        """The place as KMS' encryption context, which CloudTrail shows in clear."""
        return {
            "pushrail:vendor": self.vendor,
            "pushrail:destination": self.destination_id,
            "pushrail:field": self.field,
        }


class Token(NamedTuple):
    """The parts of a sealed secret."""

    key_id: str
    wrapped: bytes
    sealed: bytes

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """None if the text is no token. One secret has one spelling: stray bits of base64 are not ignored."""
        found = _TOKEN.fullmatch(text)
        if found is None:
            return None
        key_id, wrapped, sealed = found.groups()
        token = cls(key_id, _decode(wrapped), _decode(sealed))
        return token if str(token) == text else None

    def __str__(self) -> str:
        return ":".join([VERSION, self.key_id, _encode(self.wrapped), _encode(self.sealed)])


def seal(secret: Secret, place: Place, key_id: str, key: MasterKey) -> Token:
    """Seal the secret under a data key of its own; raises `ports.KeyUnavailable`."""
    data_key, wrapped = key.new_data_key(place.context())
    return Token(key_id, wrapped, _encrypt(data_key, secret.reveal().encode(), _bound(key_id, place)))


def unseal(token: Token, place: Place, key: MasterKey) -> Secret | None:
    """The secret; None if it was changed, or sealed elsewhere or by another key. Raises `ports.KeyUnavailable`."""
    data_key = key.unwrap(token.wrapped, place.context())
    if data_key is None:
        return None
    plain = _decrypt(data_key, token.sealed, _bound(token.key_id, place))
    return None if plain is None else Secret(plain.decode())


@final
class LocalKey:
    """A master key of a keyring. Implements `ports.MasterKey`."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "LocalKey(***)"

    def new_data_key(self, context: Mapping[str, str]) -> tuple[bytes, bytes]:
        """A fresh data key, plain and wrapped."""
        plain = os.urandom(KEY_BYTES)
        return plain, _encrypt(self._key, plain, _canonical(context))

    def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes | None:
        """The data key; None if another key or context wrapped it."""
        return _decrypt(self._key, wrapped, _canonical(context))


def _encrypt(key: bytes, plain: bytes, bound: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, bound)


def _decrypt(key: bytes, sealed: bytes, bound: bytes) -> bytes | None:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if len(sealed) < _NONCE_BYTES + _TAG_BYTES:
        return None
    try:
        return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound)
    except InvalidTag:
        return None


def _bound(key_id: str, place: Place) -> bytes:
    return json.dumps([VERSION, key_id, *place]).encode()


def _canonical(context: Mapping[str, str]) -> bytes:
    return json.dumps(context, sort_keys=True).encode()


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def _decode(text: str) -> bytes:
    """Empty if the text has no whole number of bytes."""
    return b"" if len(text) % 4 == 1 else urlsafe_b64decode(text + "=" * (-len(text) % 4))
