"""A canonical event as its producer builds it. An event that a worker could not decode cannot be built."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from pushrail_stream.core.event import TRACEPARENT_HEADER, VENDOR_HEADER, Event, Undecodable, decode
from pushrail_stream.core.event import problems as field_problems
from pushrail_stream.core.record import Headers

Problem = Undecodable
"""A field, by its name in JSON, and the rule that it breaks."""
_SOME_VENDOR: Final = "vendor"
"""Stands for the setting `vendor`, which names the vendor of records without the header."""


class InvalidEvent(ValueError):  # noqa: N818 - it says what the event is
    """The event breaks rules. Each problem has the field, by its name in JSON, and is a line of the message."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class CanonicalEvent:
    """A valid canonical event (CONTRACTS.md, "The canonical event"), as the parts of a Kafka record.

    Raises `InvalidEvent`.
    """

    event_type: str
    occurred_at: datetime | str
    """A time with a zone, or RFC 3339 with an offset."""
    source: str
    customer_external_id: str
    idempotency_key: str
    payload: dict[str, Any]
    correlation_id: str | None = None
    metadata: dict[str, Any] | None = None
    vendor: str | None = None
    """None: the setting `vendor` of the workers names it."""
    traceparent: str | None = None
    """W3C trace context. Workers ignore an invalid one."""
    value: bytes = field(init=False, repr=False, compare=False)
    """The record's value: JSON in UTF-8."""
    headers: list[tuple[str, bytes]] = field(init=False, repr=False, compare=False)
    """The record's headers."""

    def __post_init__(self) -> None:
        time = self.occurred_at
        members = {
            "eventType": self.event_type,
            "occurredAt": time.isoformat() if isinstance(time, datetime) else time,
            "source": self.source,
            "customerExternalId": self.customer_external_id,
            "idempotencyKey": self.idempotency_key,
            "payload": self.payload,
        }
        optional = {"correlationId": self.correlation_id, "metadata": self.metadata}
        members |= {name: member for name, member in optional.items() if member is not None}
        value = b",".join(_encode(name, name) + b":" + _encode(name, member) for name, member in members.items())
        named = {VENDOR_HEADER: self.vendor, TRACEPARENT_HEADER: self.traceparent}
        # The fields that a frozen value derives from the others.
        object.__setattr__(self, "value", b"{" + value + b"}")
        object.__setattr__(self, "headers", [(n, _header(n, text)) for n, text in named.items() if text is not None])
        if found := problems(self.value, tuple(self.headers)):
            raise InvalidEvent(*found)

    @property
    def key(self) -> bytes:
        """The record's key: events of one customer share a partition."""
        return self.customer_external_id.encode()


def problems(value: bytes | None, headers: Headers = ()) -> list[Problem]:
    """The rules that a record's value and headers break; none for an event that workers accept."""
    event = decode(value, headers, _SOME_VENDOR)
    return [] if isinstance(event, Event) else field_problems(value or b"") or [event]


def _encode(name: str, member: Any) -> bytes:
    try:
        return json.dumps(member, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except RecursionError:  # its text, and the depth, are the interpreter's
        raise InvalidEvent(Problem(name, "cannot be written as JSON: nested too deeply")) from None
    except (TypeError, ValueError) as error:
        raise InvalidEvent(Problem(name, f"cannot be written as JSON: {error}")) from None


def _header(name: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidEvent(Problem(name, f"cannot be written in UTF-8: {error.reason}")) from None
