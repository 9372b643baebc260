"""Documents of partner event sources, whose calls our own credentials sign.

Such a document names its type and nothing to sign in with. It is refused unless the settings allow the event source, so
that no document makes us use our own identity by mistake.
"""

from __future__ import annotations

from typing import Final, TypeVar

from pydantic import ValidationInfo
from pydantic.config import JsonDict
from pydantic_core import PydanticKnownError

from pushrail_stream.registry.json_document import Problem
from pushrail_stream.settings.eventbridge import CLASSIC, FLAVOURS, PARTNER
from pushrail_stream.settings.values import Arn

_Auth = TypeVar("_Auth")
AUTH_BY_TYPE: Final[JsonDict] = {
    "if": {"required": ["type"], "properties": {"type": {"const": PARTNER.type}}},
    "then": {"properties": {"auth": {"type": "null"}, "sourceNamespace": {"type": "null"}}},
    "else": {"required": ["auth"], "properties": {"auth": {"type": "object"}}},
}
"""The same rules in the JSON Schema of a document."""


def check_auth(auth: _Auth | None, info: ValidationInfo) -> _Auth | None:
    """Check that ``auth`` is there exactly when the document's type needs it. Behind a field ``type``."""
    # A wrong type has a problem of its own.
    if not FLAVOURS[info.data.get("type", CLASSIC.type)].signs_as_us:
        if auth is None:
            raise PydanticKnownError("missing")
    elif auth is not None:
        raise ValueError("must be left out: our own credentials sign calls for this type")
    return auth


def partner_problem(bus_arn: str, source_namespace: str | None, namespace: str | None) -> Problem | None:
    """Why a document of this type cannot be used. ``namespace``: that of the settings."""
    if namespace is None:
        setting = "eventbridge.partner_namespace"
        return Problem("type", f"{PARTNER.type} is not enabled: it signs with our own credentials (set {setting})")
    if not Arn.of(bus_arn).name.startswith(f"{namespace}/"):
        return Problem("busArn", f"must name an event source of ours: {namespace}/... (eventbridge.partner_namespace)")
    if source_namespace is not None:
        return Problem("sourceNamespace", "must be left out: the name of the bus is the source of its events")
    return None
