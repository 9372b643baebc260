"""Events as CloudEvents 1.0 in JSON, for destinations with ``"detailFormat": "cloudevents"``.

CONTRACTS.md, "CloudEvents", has the mapping (CloudEvents 1.0.2, its JSON event format, and its extension for
distributed tracing). The payload passes byte for byte as ``data``, and the same event always gives the same bytes.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import quote

import msgspec
import orjson

from pushrail_stream.core.event import Event

_URI_REFERENCE: Final = re.compile(
    r"(?:[A-Za-z][A-Za-z0-9+.-]*:|(?![^/?#]*:))"
    r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*(?:#(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?"
)
"""A URI reference (RFC 3986, 4.1), which CloudEvents asks of ``source``."""
_NO_SOURCE: Final = "unknown"
"""``source`` of an event whose own is empty: CloudEvents allows no empty one."""
# Possessive: with backtracking, a string would cost a hundred times its size in memory.
_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}:,]', re.DOTALL)
_OPENING: Final = frozenset({b"[", b"{"})
_CLOSING: Final = frozenset({b"]", b"}"})


class _Parts(msgspec.Struct, frozen=True, rename="camel"):
    occurred_at: msgspec.Raw
    payload: msgspec.Raw
    metadata: msgspec.Raw = msgspec.Raw()
    """Empty where there is none."""


class _DeepParts(NamedTuple):
    occurred_at: bytes
    payload: bytes
    metadata: bytes


_decode: Final = msgspec.json.Decoder(_Parts).decode


def cloud_event(event: Event) -> bytes:
    """The event as a CloudEvent."""
    try:
        parts: _Parts | _DeepParts = _decode(event.value)
    except RecursionError:  # events may be deeper than msgspec reads
        parts = _deep_parts(event.value)
    attributes = {
        "specversion": "1.0",
        "id": event.idempotency_key,
        "source": _uri_reference(event.source),
        "type": event.event_type,
        "time": orjson.loads(bytes(parts.occurred_at)),
        "datacontenttype": "application/json",
        "customerexternalid": event.customer_external_id,
    }
    if event.correlation_id:
        attributes["correlationid"] = event.correlation_id
    if event.traceparent is not None:
        attributes["traceparent"] = event.traceparent
    if metadata := bytes(parts.metadata):
        attributes["metadata"] = metadata.decode()
    return b'%b,"data":%b}' % (orjson.dumps(attributes)[:-1], parts.payload)


def _uri_reference(source: str) -> str:
    """The source itself where it is a URI reference; otherwise with its other characters percent-encoded."""
    if _URI_REFERENCE.fullmatch(source):
        return source or _NO_SOURCE
    return quote(source, safe="/")


def _deep_parts(value: bytes) -> _DeepParts:
    """The parts of an event of any depth. The last of several fields with one name counts, as elsewhere."""
    fields = dict[str, bytes]()
    depth, name, begin, last = 0, "", 0, b""
    for token in _TOKEN.finditer(value):
        text = token[0]
        if depth == 1 and text == b":":
            name, begin = orjson.loads(last), token.end()
        elif depth == 1 and text in {b",", b"}"}:
            fields[name] = value[begin : token.start()].strip()
        depth += (text in _OPENING) - (text in _CLOSING)
        last = text
    return _DeepParts(fields["occurredAt"], fields["payload"], fields.get("metadata", b""))
