"""The identity of an event, read with best effort: also from a value that is no canonical event.

Operators and producers search for a malformed event by the fields that can still be read. The value is scanned, not
parsed: it may be cut off, nested too deeply, or not UTF-8.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import orjson

from pushrail_stream.core.event import MAX_EVENT_TYPE, MAX_ID, Event

# Possessive: with backtracking, a string would cost a hundred times its size in memory.
_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_NUMBER: Final = rb"-?[0-9][0-9.eE+-]*+"
_NAMES: Final = b"eventType|customerExternalId|idempotencyKey|correlationId"
_TOKEN: Final = re.compile(
    rb'"(%b)"\s*+:\s*+(%b|%b)|%b|([\[{])|([\]}])' % (_NAMES, _STRING, _NUMBER, _STRING), re.DOTALL
)


class Identity(NamedTuple):
    """The fields that identify an event; None where one cannot be read."""

    event_type: str | None = None
    customer_external_id: str | None = None
    idempotency_key: str | None = None
    correlation_id: str | None = None


def identity_of(event: Event) -> Identity:
    """The identity of a decoded event."""
    return Identity(event.event_type, event.customer_external_id, event.idempotency_key, event.correlation_id)


def identify(value: bytes | None) -> Identity:
    """The identity in a JSON object, complete or not. A number stands for its digits; longer texts are cut."""
    found, level = dict[bytes, str](), 0
    for token in _TOKEN.finditer(value or b""):
        name, text, opening, closing = token.groups()
        level += bool(opening) - bool(closing)
        if name and level == 1:
            found[name] = _read(text)
        if closing and level <= 0:
            break
    return Identity(
        _cut(found.get(b"eventType"), MAX_EVENT_TYPE),
        _cut(found.get(b"customerExternalId"), MAX_ID),
        _cut(found.get(b"idempotencyKey"), MAX_ID),
        _cut(found.get(b"correlationId"), MAX_ID),
    )


def _read(text: bytes) -> str:
    if not text.startswith(b'"'):
        return text.decode()
    try:
        return str(orjson.loads(text))
    except orjson.JSONDecodeError:
        return text[1:-1].decode(errors="replace")


def _cut(text: str | None, longest: int) -> str | None:
    return text[:longest] if text else None
