"""Delivery headers: the state of a delivery on a retry topic or the DLQ. Encoding and decoding are inverses.

CONTRACTS.md, "Delivery headers", lists them. The producer's own headers come first, unchanged.
Any client that may write to these topics can write any header, so decoding refuses every value that encoding could not
have written.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pushrail_stream.core.record import NOT_UTF8, Headers, Origin, Record, parse_origin
from pushrail_stream.core.text import MAX_TIME_MS, MIN_TIME_MS, format_rfc3339, parse_rfc3339

_CONNECT_PREFIX: Final = "__connect.errors."
_WHOLE: Final = re.compile(r"-?[0-9]{1,19}")
"""Nineteen digits hold every 64-bit number; longer ones are refused before they are converted."""
_MAX_INT32: Final = 2**31 - 1
"""Kafka's partition numbers have 32 bits. The same number bounds the counts of attempts and replays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryHeaders:
    """The state of a delivery as it travels. Times are epoch milliseconds."""

    origin: Origin
    attempts: int
    reason: str
    failed_at_ms: int
    destination: str | None = None
    first_attempt_at_ms: int | None = None
    not_before_ms: int | None = None
    error_code: str | None = None
    error_message: str | None = None
    request_id: str | None = None
    replay: str | None = None
    replay_count: int | None = None

    @property
    def origin_topic_id(self) -> str | None:
        """The id of the origin's topic; it has a header of its own."""
        return self.origin.topic_id


class BadHeader(NamedTuple):
    """A delivery header that cannot be read, and the reason."""

    header: str
    problem: str


class _Field(NamedTuple):
    header: str
    attribute: str
    show: Callable[[object], str]
    read: Callable[[str], object]


def _whole(text: str, least: int, most: int) -> int:
    number = int(text) if _WHOLE.fullmatch(text) else None
    if number is None or not least <= number <= most:
        raise ValueError(f"is not a whole number from {least} to {most}")
    return number


def _count(text: str) -> int:
    return _whole(text, 0, _MAX_INT32)


def _epoch_ms(text: str) -> int:
    return _whole(text, MIN_TIME_MS, MAX_TIME_MS)


def _origin(text: str) -> Origin:
    origin = parse_origin(text)
    if origin is None:
        raise ValueError("is not topic/partition/offset")
    return origin


def _time(text: str) -> int:
    epoch_ms = parse_rfc3339(text)
    if epoch_ms is None or not MIN_TIME_MS <= epoch_ms <= MAX_TIME_MS:
        raise ValueError("is not an RFC 3339 date-time of the years 1 to 9999 in UTC")
    return epoch_ms


def _show_time(value: object) -> str:
    if not isinstance(value, int):
        raise TypeError("a time is epoch milliseconds")
    return format_rfc3339(value)


_FIELDS: Final = (
    _Field("pushrail-destination", "destination", str, str),
    _Field("pushrail-origin", "origin", str, _origin),
    _Field("pushrail-origin-topic-id", "origin_topic_id", str, str),
    _Field("pushrail-attempts", "attempts", str, _count),
    _Field("pushrail-first-attempt-at", "first_attempt_at_ms", _show_time, _time),
    _Field("pushrail-failed-at", "failed_at_ms", _show_time, _time),
    _Field("pushrail-not-before", "not_before_ms", str, _epoch_ms),
    _Field("pushrail-reason", "reason", str, str),
    _Field("pushrail-error-code", "error_code", str, str),
    _Field("pushrail-error-message", "error_message", str, str),
    _Field("pushrail-request-id", "request_id", str, str),
    _Field("pushrail-replay", "replay", str, str),
    _Field("pushrail-replay-count", "replay_count", str, _count),
)
_NOT_COPIED: Final = frozenset(field.header for field in _FIELDS) | {NOT_UTF8}
"""Names of headers that a copy leaves out: our own, and the placeholder for names that are not UTF-8."""
_REQUIRED: Final = ("origin", "attempts", "reason", "failed_at_ms")


def encode_headers(headers: DeliveryHeaders, own: Headers) -> Headers:
    """The producer's ``own`` headers followed by the delivery's; older delivery headers among ``own`` are replaced."""
    state = tuple(
        # A bus's message may hold anything, even half a surrogate pair: the rest is still worth writing.
        (field.header, field.show(value).encode(errors="replace"))
        for field in _FIELDS
        if (value := getattr(headers, field.attribute)) is not None
    )
    return (*producer_headers(own), *state)


def decode_headers(headers: Headers) -> DeliveryHeaders | BadHeader:
    """The delivery's state in a record's headers, or the first header that cannot be read."""
    raw = dict(headers)
    values: dict[str, Any] = {}
    for field in _FIELDS:
        if (text := raw.get(field.header)) is not None:
            try:
                values[field.attribute] = field.read(text.decode())
            except ValueError as error:
                return BadHeader(field.header, str(error))
        elif field.attribute in _REQUIRED:
            return BadHeader(field.header, "is missing")
    topic_id = values.pop("origin_topic_id", None)
    values["origin"] = values["origin"]._replace(topic_id=topic_id)
    return DeliveryHeaders(**values)


def original_of(copy: Record, origin: Origin) -> Record:
    """The event's original record, from a copy on a retry topic or the DLQ."""
    topic, partition, offset, topic_id = origin
    headers = producer_headers(copy.headers)
    return Record(topic, partition, offset, copy.key, copy.value, headers, copy.timestamp_ms, topic_id)


def producer_headers(headers: Headers) -> Headers:
    """The headers that are not ours, without those whose name is not UTF-8."""
    return tuple(h for h in headers if h[0] not in _NOT_COPIED and not h[0].startswith(_CONNECT_PREFIX))


def connect_headers(origin: Origin, message: str) -> Headers:
    """The same facts under Kafka Connect's names, so that existing dead-letter tools show them."""
    return (
        (f"{_CONNECT_PREFIX}topic", origin.topic.encode()),
        (f"{_CONNECT_PREFIX}partition", str(origin.partition).encode()),
        (f"{_CONNECT_PREFIX}offset", str(origin.offset).encode()),
        (f"{_CONNECT_PREFIX}exception.message", message.encode(errors="replace")),
    )
