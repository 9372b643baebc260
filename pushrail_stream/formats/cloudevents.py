"""CloudEvents 1.0 as canonical events (CONTRACTS.md, "CloudEvents").

The canonical event is put together from the CloudEvent's own bytes: `data` becomes `payload` byte for byte. The same
CloudEvent always gives the same canonical event.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec
import orjson

from pushrail_stream.core.event import (
    CLOUDEVENTS_HEADER,
    CLOUDEVENTS_MEMBER,
    MAX_ID,
    TRACEPARENT_HEADER,
    Event,
    Undecodable,
    decode,
    valid_traceparent,
)
from pushrail_stream.core.record import Headers

MEDIA_TYPE: Final = "application/cloudevents"
"""Beginning of the media types of structured mode and of batches."""
_STRUCTURED: Final = f"{MEDIA_TYPE}+json"
_PREFIX: Final = "ce_"
"""Beginning of the names of attributes in Kafka's headers (CloudEvents, "Kafka Protocol Binding")."""
_VERSION: Final = b'"1.0"'
_FIELDS: Final = {
    "eventType": "type",
    "occurredAt": "time",
    "source": "source",
    "customerExternalId": "customerexternalid",
    "idempotencyKey": "idempotencykey",
    "correlationId": "correlationid",
    "payload": "data",
}
"""Fields of the canonical event, in its order, and the attributes that they come from."""
_MEMBERS: Final = tuple((name, b'"%b":' % field.encode()) for field, name in _FIELDS.items())
"""Each attribute, and the beginning of its member of the canonical event."""
_OPTIONAL: Final = frozenset({"correlationid"})
_BINARY_DATA: Final = "data_base64"
_NO_METADATA: Final = frozenset({
    *_FIELDS.values(), CLOUDEVENTS_MEMBER, "id", "datacontenttype", _BINARY_DATA, TRACEPARENT_HEADER,
})  # fmt: skip
"""Attributes that no metadata comes from."""
_Attributes = Mapping[str, bytes]
"""By name, as JSON texts. The data are one of them."""


class Converted(NamedTuple):
    """A CloudEvent as a canonical event, whose rules have not been checked."""

    value: bytes
    traceparent: str | None

    def decode(self, headers: Headers, default_vendor: str | None) -> Event | Undecodable:
        """The event, or the first rule that it breaks, told of the CloudEvent's attribute."""
        event = decode(self.value, headers, default_vendor)
        if isinstance(event, Undecodable):
            return renamed(event)
        if event.traceparent is None and self.traceparent is not None:
            return event._replace(traceparent=self.traceparent)
        return event


def renamed(problem: Undecodable) -> Undecodable:
    """The problem of a converted event, told of the CloudEvent's attribute."""
    return problem._replace(field=_FIELDS.get(problem.field, problem.field))


def decode_cloudevent(value: bytes | None, headers: Headers, default_vendor: str | None) -> Event | Undecodable:
    """The event of a record that has a CloudEvent in either mode, or a canonical event."""
    last = dict(headers)
    media_type = (last.get("content-type") or b"").decode("latin-1").partition(";")[0].strip().lower()
    if media_type.startswith(MEDIA_TYPE):
        if media_type not in {MEDIA_TYPE, _STRUCTURED}:
            return Undecodable("content-type", f"is {media_type[:128]}, not {_STRUCTURED}: one CloudEvent in JSON")
        converted = from_structured(value or b"")
    elif CLOUDEVENTS_HEADER in last:
        converted = from_binary(value, {n.removeprefix(_PREFIX): v for n, v in last.items() if n.startswith(_PREFIX)})
    else:
        event = decode(value, headers, default_vendor)
        if isinstance(event, Event) or not _is_structured(value):
            return event
        converted = from_structured(value or b"")
    return converted if isinstance(converted, Undecodable) else converted.decode(headers, default_vendor)


def from_structured(value: bytes) -> Converted | Undecodable:
    """Convert a CloudEvent in structured mode, which is one JSON object."""
    members = _members(value)
    if isinstance(members, Undecodable):
        return members
    return _convert({name: raw for name, raw in members.items() if raw != b"null" or name == "data"})


def from_binary(data: bytes | None, attributes: Mapping[str, bytes | None]) -> Converted | Undecodable:
    """Convert a CloudEvent in binary mode: its data, and its other attributes as texts in UTF-8."""
    texts = dict[str, bytes]()
    for name, text in attributes.items():
        try:
            texts[name] = orjson.dumps((text or b"").decode())
        except UnicodeDecodeError:
            return Undecodable(name, "is not UTF-8")
    texts.pop("data", None)
    if data is None:
        return _convert(texts)
    try:
        # One value and no more: members of the canonical event could follow it.
        orjson.loads(data)
    except orjson.JSONDecodeError as error:
        return Undecodable("data", f"is not one JSON object in UTF-8: {error}")
    return _convert({**texts, "data": data})


def _is_structured(value: bytes | None) -> bool:
    """Whether a value that is no canonical event is a JSON object with the mark of a CloudEvent."""
    members = _members(value or b"")
    return not isinstance(members, Undecodable) and CLOUDEVENTS_MEMBER in members


def _members(value: bytes) -> dict[str, bytes] | Undecodable:
    """The members of a JSON object, byte for byte."""
    try:
        return {name: bytes(raw) for name, raw in msgspec.json.decode(value, type=dict[str, msgspec.Raw]).items()}
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        return Undecodable("value", f"is not one JSON object in UTF-8: {error}")


def _convert(attributes: _Attributes) -> Converted | Undecodable:
    try:
        return _converted(attributes)
    except (orjson.JSONDecodeError, TypeError) as error:  # an escape that is no character, in an attribute or its name
        return Undecodable("value", f"is not one JSON object in UTF-8: {error}")


def _converted(attributes: _Attributes) -> Converted | Undecodable:
    if attributes.get(CLOUDEVENTS_MEMBER) != _VERSION:
        return Undecodable(CLOUDEVENTS_MEMBER, "is not 1.0")
    if _BINARY_DATA in attributes:
        return Undecodable(_BINARY_DATA, "is here: data of a canonical event are a JSON object")
    key = _idempotency_key(attributes)
    if isinstance(key, Undecodable):
        return key
    members = list[bytes]()
    for name, beginning in _MEMBERS:
        raw = key if name == "idempotencykey" else attributes.get(name)
        if raw is not None:
            members.append(beginning + raw)
        elif name not in _OPTIONAL:
            return Undecodable(name, "is missing")
    more = [orjson.dumps(name) + b":" + raw for name, raw in attributes.items() if name not in _NO_METADATA]
    if more:
        members.append(b'"metadata":{' + b",".join(more) + b"}")
    parent = orjson.loads(attributes[TRACEPARENT_HEADER]) if TRACEPARENT_HEADER in attributes else None
    traceparent = valid_traceparent(parent.encode()) if isinstance(parent, str) else None
    return Converted(b"{" + b",".join(members) + b"}", traceparent)


def _idempotency_key(attributes: _Attributes) -> bytes | Undecodable:
    """The attribute `idempotencykey`, or source and id, which together are unique.

    Those that are too long for an idempotency key stand as their SHA-256.
    """
    if "idempotencykey" in attributes:
        return attributes["idempotencykey"]
    source, number = (orjson.loads(attributes.get(name, b'""')) for name in ("source", "id"))
    for name, text in (("source", source), ("id", number)):
        if not isinstance(text, str) or not text:
            return Undecodable(name, "is not a text of one character or more")
    key = f"{source} {number}"
    return orjson.dumps(key if len(key) <= MAX_ID else hashlib.sha256(key.encode()).hexdigest())
