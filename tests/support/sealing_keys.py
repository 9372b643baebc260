"""Keyrings for tests."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from pushrail_stream.core.destination import Secret
from pushrail_stream.ports.secrets import MasterKey
from pushrail_stream.registry.keyring import Keyring
from pushrail_stream.registry.sealing import Place

PLACE = Place("acme", "dst_acme_8K2zRq", "auth.secretAccessKey")


def key(name: str) -> str:
    """A key as a keyring has it, of its own for every name."""
    return b64encode(sha256(name.encode()).digest()).decode()


def ring(*names: str, kms: str | None = None) -> bytes:
    """A keyring of these keys, the first of them primary."""
    keys = {name: {"key": key(name)} if name != "cloud" else {"kms": kms} for name in names}
    return json.dumps({"primary": names[0], "keys": keys}).encode()


def no_kms(arn: str) -> MasterKey:
    raise AssertionError(arn)


def keyring(path: Path, content: bytes, kms: Callable[[str], MasterKey] = no_kms) -> Keyring:
    """The keyring of a file with this content."""
    path.write_bytes(content)
    return Keyring.open(str(path), {}, kms)


SECRET = Secret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")


FIELD = "auth.secretAccessKey"
