"""The canonical event: a customer's fact, decoded from a record's value and kept byte for byte.

CONTRACTS.md, "The canonical event", has the rules. Unknown fields travel on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import orjson

from pushrail_stream.core.framing import foreign_format
from pushrail_stream.core.record import NOT_UTF8, Headers
from pushrail_stream.core.text import parse_rfc3339

VENDOR_HEADER: Final = "pushrail-vendor"
VENDOR_SETTING: Final = "vendor"
"""The setting that names the vendor of records without that header. While it is not set, such an event is undecodable
with this name as the field: its producer has broken no rule."""
TRACEPARENT_HEADER: Final = "traceparent"
MAX_EVENT_TYPE: Final = 128
"""Characters of an event type: buses have silently discarded events with longer ones."""
MAX_ID: Final = 256
"""Characters of ``customerExternalId`` and ``idempotencyKey`` (CONTRACTS.md, "The canonical event")."""
MAX_LEVELS: Final = 1000
"""Deepest nesting of an event: the most that a bus takes."""

CLOUDEVENTS_HEADER: Final = "ce_specversion"
"""Header of a record that has a CloudEvent in binary mode."""
CLOUDEVENTS_MEMBER: Final = "specversion"
"""Member of a JSON object that is a CloudEvent in structured mode."""

_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_ABSENT: Final = object()
_JSON_TYPES: Final = {
    str: "string", dict: "object", list: "array", int: "number", float: "number", bool: "boolean", type(None): "null",
}  # fmt: skip
_NONE_GIVEN: Final[dict[str, Any]] = {}
# name, type, longest (characters; 0: any), required
_FIELDS: Final[tuple[tuple[str, type, int, bool], ...]] = (
    ("eventType", str, MAX_EVENT_TYPE, True),
    ("occurredAt", str, 0, True),
    ("source", str, 0, True),
    ("customerExternalId", str, MAX_ID, True),
    ("idempotencyKey", str, MAX_ID, True),
    ("correlationId", str, 0, False),
    ("payload", dict, 0, True),
    ("metadata", dict, 0, False),
)
# Possessive: with backtracking, a string would cost a hundred times its size in memory.
_BRACKETS: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|([\[{])|([\]}])', re.DOTALL)


class Event(NamedTuple):
    """A decoded canonical event. ``value`` has the bytes that were produced."""

    vendor: str
    event_type: str
    occurred_at_ms: int
    """Epoch milliseconds."""
    source: str
    customer_external_id: str
    idempotency_key: str
    correlation_id: str | None
    traceparent: str | None
    """The record's W3C ``traceparent``; None when it has none or an invalid one."""
    value: bytes
    size: int
    """UTF-8 bytes of the value, and of the event type, customer and idempotency key that entries repeat beside it."""

    @property
    def owner(self) -> tuple[str, str]:
        """Vendor and customer."""
        return self.vendor, self.customer_external_id

    @property
    def trace_id(self) -> str | None:
        """The W3C trace id, 32 hexadecimal digits; None without a valid ``traceparent``."""
        return None if self.traceparent is None else self.traceparent.split("-")[1]


class Undecodable(NamedTuple):
    """The reason why a record is not a canonical event: a field and its error."""

    field: str
    problem: str

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}"


def decode(value: bytes | None, headers: Headers, default_vendor: str | None) -> Event | Undecodable:
    """The canonical event in a record's value, or the first rule it breaks."""
    context = _context(headers, default_vendor) if headers else (default_vendor, None)
    if isinstance(context, Undecodable):
        return context
    if value is None:
        return Undecodable("value", "is null, not a JSON object")
    try:
        data = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        if _is_too_deep(value):  # the parser has a limit of its own, a little above ours
            return _TOO_DEEP
        return Undecodable("value", f"is not one JSON object in UTF-8: {foreign_format(value) or error}")
    if type(data) is not dict:
        return Undecodable("value", f"is a JSON {_json_type(data)}, not an object")
    # Cheapest first: a level takes two brackets.
    if len(value) > 2 * MAX_LEVELS and _is_too_deep(value):
        return _TOO_DEEP
    vendor, traceparent = context
    if vendor is None:
        return Undecodable(VENDOR_SETTING, f"this setting is not set, and the record has no header {VENDOR_HEADER}")
    return _event(data, vendor, traceparent, value, headers)


Decode = Callable[[bytes | None, Headers, str | None], Event | Undecodable]
"""Decodes the records of one format: their value, their headers, and the vendor of those that name none."""


def _event(
    data: dict[str, Any], vendor: str, traceparent: str | None, value: bytes, headers: Headers
) -> Event | Undecodable:
    # A valid event takes few steps. The loop that finds the field at fault runs only for an invalid one.
    get: Callable[..., Any] = data.get
    event_type, customer, key = get("eventType"), get("customerExternalId"), get("idempotencyKey")
    occurred_at, source, correlation_id = get("occurredAt"), get("source"), get("correlationId", "")
    are_texts = (
        type(event_type) is type(customer) is type(key) is type(occurred_at) is type(source) is type(correlation_id)
        is str
    )  # fmt: skip
    if not (
        are_texts
        and type(get("payload")) is type(get("metadata", _NONE_GIVEN)) is dict
        and 0 < len(event_type) <= MAX_EVENT_TYPE
        and 0 < len(customer) <= MAX_ID
        and 0 < len(key) <= MAX_ID
    ):
        return _cloudevent(data, headers) or next(_problems(data))
    occurred_at_ms = parse_rfc3339(occurred_at)
    if occurred_at_ms is None:
        return _no_time(occurred_at)
    size = len(value) + utf8_length(event_type + customer + key)
    correlation = correlation_id if "correlationId" in data else None
    return Event(vendor, event_type, occurred_at_ms, source, customer, key, correlation, traceparent, value, size)


def _cloudevent(data: dict[str, Any], headers: Headers) -> Undecodable | None:
    """The name of a CloudEvent's mode. A canonical event, whole or not, has a type."""
    is_structured = CLOUDEVENTS_MEMBER in data
    if "eventType" in data or not (is_structured or CLOUDEVENTS_HEADER in dict(headers)):
        return None
    mode = "structured" if is_structured else "binary"
    return Undecodable("value", f"is a CloudEvent in {mode} mode (events.format: cloudevents reads it)")


def problems(value: bytes) -> list[Undecodable]:
    """Every broken rule of a JSON object's fields, for a producer that can still correct them."""
    try:
        data = orjson.loads(value)
    except orjson.JSONDecodeError:
        return []
    if type(data) is not dict:
        return []
    found = list(_problems(data))
    occurred_at = data.get("occurredAt")
    if isinstance(occurred_at, str) and parse_rfc3339(occurred_at) is None:
        found.append(_no_time(occurred_at))
    return found


def _problems(data: dict[str, Any]) -> Iterator[Undecodable]:
    for name, kind, longest, required in _FIELDS:
        field = data.get(name, _ABSENT)
        if field is _ABSENT:
            if required:
                yield Undecodable(name, "is missing")
        elif type(field) is not kind:
            yield Undecodable(name, f"is a JSON {_json_type(field)}, not a JSON {_JSON_TYPES[kind]}")
        elif isinstance(field, str) and longest and not 1 <= len(field) <= longest:
            yield Undecodable(name, f"has {len(field)} characters, not 1 to {longest}")


def _no_time(occurred_at: str) -> Undecodable:
    return Undecodable("occurredAt", f"is not an RFC 3339 date-time with offset: {occurred_at[:64]!r}")


def utf8_length(text: str) -> int:
    """Bytes of ``text`` in UTF-8. The check for ASCII costs nothing, because CPython keeps that bit."""
    return len(text) if text.isascii() else len(text.encode())


def valid_traceparent(header: bytes | None) -> str | None:
    """The value of a ``traceparent`` header; None when W3C's rules make it invalid."""
    text = (header or b"").decode("ascii", "replace")
    match = _TRACEPARENT.fullmatch(text)
    if match is None:
        return None
    version, trace, span, _, more = match.groups()
    if version == "ff" or (version == "00" and more) or not trace.strip("0") or not span.strip("0"):
        return None
    return text


def _context(headers: Headers, default_vendor: str | None) -> tuple[str | None, str | None] | Undecodable:
    """Vendor and traceparent; of a repeated header the last one counts, as in Kafka's own ``lastHeader``."""
    last, vendor = dict(headers), default_vendor
    if NOT_UTF8 in last:
        bad = sum(name == NOT_UTF8 for name, _ in headers)
        return Undecodable("headers", f"{bad} of {len(headers)} names are not UTF-8; copies leave these headers out")
    if VENDOR_HEADER in last:
        try:
            vendor = (last[VENDOR_HEADER] or b"").decode()
        except UnicodeDecodeError:
            return Undecodable(VENDOR_HEADER, "is not UTF-8")
        if not vendor:
            return Undecodable(VENDOR_HEADER, "is empty")
    return vendor, valid_traceparent(last.get(TRACEPARENT_HEADER))


_TOO_DEEP: Final = Undecodable("value", f"is nested more than {MAX_LEVELS} levels deep")


def _is_too_deep(value: bytes) -> bool:
    return value.count(b"{") + value.count(b"[") > MAX_LEVELS < _levels(value)


def _levels(value: bytes) -> int:
    """Deepest nesting of a JSON text."""
    level = deepest = 0
    for match in _BRACKETS.finditer(value):
        if match[1]:
            level += 1
            deepest = max(deepest, level)
        elif match[2]:
            level -= 1
    return deepest


def _json_type(value: object) -> str:
    return _JSON_TYPES[type(value)]
