"""Keys that sign a call to AWS, checked where they come in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pushrail_stream.core.destination import Secret

_FITS_A_HEADER: Final = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys that sign a call. They are compared by identity: each sign-in makes new ones."""

    access_key_id: str
    secret: Secret
    token: Secret | None
    """Session token; None for a user's own access key."""


def checked_keys(access_key_id: object, secret: object, token: object) -> Keys | str:
    """Keys that can sign a request, or the problem with them, which repeats none of their characters."""
    if not isinstance(access_key_id, str) or not _FITS_A_HEADER.fullmatch(access_key_id):
        return f"the access key id {_problem_of(access_key_id)}"
    if not isinstance(secret, str) or not _FITS_A_HEADER.fullmatch(secret):
        return f"the secret access key {_problem_of(secret)}"
    if token is None:
        return Keys(access_key_id, Secret(secret), None)
    if not isinstance(token, str) or not _FITS_A_HEADER.fullmatch(token):
        return f"the session token {_problem_of(token)}"
    return Keys(access_key_id, Secret(secret), Secret(token))


def _problem_of(value: object) -> str:
    if not isinstance(value, str) or not value:
        return "is missing"
    if value != value.rstrip():
        return "ends with a space or a line end"
    return "has a character that cannot be sent in a header"
