"""The reply of PutEvents to a request, as a pure function of its body (EventBridge API Reference, "PutEvents").

Checks of the whole call come first (shape, number, names, total size), then each entry is checked on its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from pushrail_stream.sandbox.bus.identity import BUS_PATTERN, is_bus_name

MAX_ENTRIES = 10
MAX_TOTAL_BYTES = 1_048_576
MAX_DETAIL_TYPE = 128
MAX_LEVELS = 1000
"""Levels of nesting in a Detail."""
MAX_RESOURCE = 2048
"""Characters of one resource."""
TIME_BYTES = 14
"""Bytes that a Time counts for."""
_INT64_CHARS = len(str(-(2**63)))
_INT64 = range(-(2**63), 2**63)

# Finds runs of 19 digits once all digits are zeros: a regular expression over the body would cost more than the rest.
_DIGITS_TO_ZERO = bytes.maketrans(b"123456789", b"000000000")
_LONG_RUN = b"0" * 19
_ESCAPED_DIGIT = b"\\u003"
_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"')
_BRACKETS = re.compile(r"[][{}]")
_NUMBERS = re.compile(r"-?[0-9][0-9.eE+-]*")

_NULL = type(None)
_STRING: tuple[str, set[type]] = ("a String", {str, _NULL})
# The type of each field and its classes, which are looked up by identity: a bool is an int, but not a number here.
_FIELDS: dict[str, tuple[str, set[type]]] = {
    **dict.fromkeys(("Source", "DetailType", "Detail", "EventBusName", "TraceHeader"), _STRING),
    "Time": ("a Timestamp", {int, float, _NULL}),
    "Resources": ("a List", {list, _NULL}),
}
_REQUIRED = ("Source", "DetailType", "Detail")


class Refusal(NamedTuple):
    """A refusal of the whole call, with HTTP 400, or of one entry while the call goes on."""

    code: str
    message: str


def invalid(value: str, where: str, constraint: str) -> Refusal:
    """Word a violated constraint of the service model as AWS does."""
    found = f"1 validation error detected: Value {value} at '{where}'"
    return Refusal("ValidationException", f"{found} failed to satisfy constraint: Member must {constraint}")


def read_entries(
    body: bytes, limits: Callable[[list[Any], int], Refusal | None] | None = None
) -> list[dict[str, Any]] | Refusal:
    """Decode the body of PutEvents or an operation like it, or refuse the call.

    ``limits`` checks entries and size of the body; None: as PutEvents does.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return Refusal("SerializationException", "Unexpected content in the request body: it is not JSON")
    if not isinstance(document, dict):
        return Refusal("SerializationException", "Start of structure or map expected")
    entries = document.get("Entries")
    if entries is None:
        return invalid("null", "entries", "not be null")
    if not isinstance(entries, list):
        return Refusal("SerializationException", "Expected list or null")
    return _shape_refusal(entries) or (limits or _limit_refusal)(entries, len(body)) or entries


def _shape_refusal(entries: list[Any]) -> Refusal | None:
    for entry in entries:
        if not isinstance(entry, dict):
            return Refusal("SerializationException", "Start of structure or map expected")
        for name, value in entry.items():
            if name in _FIELDS and value.__class__ not in _FIELDS[name][1]:
                return Refusal("SerializationException", f"{_kind(value)} can not be converted to {_FIELDS[name][0]}")
        for resource in entry.get("Resources") or ():
            if resource.__class__ is not str:
                return Refusal("SerializationException", f"{_kind(resource)} can not be converted to a String")
    return None


def _kind(value: object) -> str:
    match value:
        case bool():
            return "TRUE_VALUE" if value else "FALSE_VALUE"
        case int() | float():
            return "NUMBER_VALUE"
        case str():
            return "STRING_VALUE"
        case _:
            return "START_OF_STRUCTURE"


def number_refusal(entries: list[dict[str, Any]], most: int, shape: str) -> Refusal | None:
    """The refusal of a call with no entries or more than ``most``."""
    if 1 <= len(entries) <= most:
        return None
    bound = "greater than or equal to 1" if not entries else f"less than or equal to {most}"
    shown = "'[]'" if not entries else f"'[{len(entries)} {shape}]'"
    return invalid(shown, "entries", f"have length {bound}")


def _limit_refusal(entries: list[dict[str, Any]], body_bytes: int) -> Refusal | None:
    if refusal := number_refusal(entries, MAX_ENTRIES, "PutEventsRequestEntry"):
        return refusal
    for number, entry in enumerate(entries, start=1):
        name = entry.get("EventBusName")
        if name is not None and not is_bus_name(name):
            where = f"entries.{number}.member.eventBusName"
            return invalid(f"'{name[:200]}'", where, f"satisfy regular expression pattern: {BUS_PATTERN}")
        if refusal := resource_refusal(entry, number):
            return refusal
    return size_refusal(entries, body_bytes)


def resource_refusal(entry: dict[str, Any], number: int) -> Refusal | None:
    """The refusal of a call whose entry of this number has a resource that is too long."""
    for resource in entry.get("Resources") or ():
        if len(resource) > MAX_RESOURCE:
            where = f"entries.{number}.member.resources"
            return invalid("'[...]'", where, f"have length less than or equal to {MAX_RESOURCE}")
    return None


def size_refusal(entries: list[dict[str, Any]], body_bytes: int) -> Refusal | None:
    """The refusal of a call whose entries are too large together."""
    # Apart from Time, a body is at least as long as its entries count: most calls need no sum.
    if body_bytes + len(entries) * TIME_BYTES <= MAX_TOTAL_BYTES or sum(map(entry_bytes, entries)) <= MAX_TOTAL_BYTES:
        return None
    return Refusal("ValidationException", "Total size of the entries in the request is over the limit.")


def entry_bytes(entry: dict[str, Any]) -> int:
    """Size of one entry as AWS counts it: EventBusName and TraceHeader are free, Time is 14 bytes."""
    size = 0 if entry.get("Time") is None else TIME_BYTES
    for text in (*(entry.get(name) for name in _REQUIRED), *(entry.get("Resources") or ())):
        if text:
            size += len(text) if text.isascii() else len(text.encode())
    return size


def is_suspicious(body: bytes) -> bool:
    """Whether a Detail in this body may exceed the limits on nesting or integers and needs the exact checks."""
    return (
        body.count(b"{") + body.count(b"[") > MAX_LEVELS
        or _LONG_RUN in body.translate(_DIGITS_TO_ZERO)
        or _ESCAPED_DIGIT in body
    )


def check_entry(entry: dict[str, Any], *, suspicious: bool, is_partner: bool = False) -> Refusal | None:
    """Return the error of an entry; None for one that AWS takes. ``is_partner``: it is one of PutPartnerEvents."""
    source, detail = entry.get("Source"), entry.get("Detail")
    if not (source and detail and entry.get("DetailType")):
        name = next(name for name in _REQUIRED if not entry.get(name))
        reason = f"Parameter {name} is not valid. Reason: {name} is a required argument."
        return Refusal("InvalidArgument", reason)
    if source.startswith("aws.") and not is_partner:
        return Refusal("NotAuthorizedForSourceException", "Not authorized for the source.")
    try:
        decoded = orjson.loads(detail)
    except orjson.JSONDecodeError:
        decoded = None
    if not isinstance(decoded, dict) or (suspicious and not _is_within_limits(detail)):
        return Refusal("MalformedDetail", "Detail is malformed.")
    return None


def _is_within_limits(detail: str) -> bool:
    # json.loads cannot decide this: its own recursion limit is about as low.
    bare = _STRINGS.sub('""', detail)
    deepest = level = 0
    for bracket in _BRACKETS.findall(bare):
        level += 1 if bracket in "{[" else -1
        deepest = max(deepest, level)
    # The digits are counted first, since int() refuses more than 4,300 of them.
    whole = [text for text in _NUMBERS.findall(bare) if text.lstrip("-").isdigit()]
    return deepest <= MAX_LEVELS and all(len(text) <= _INT64_CHARS and int(text) in _INT64 for text in whole)
