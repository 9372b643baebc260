"""The events that producers send, good and bad. The key of each says its story in a log."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any, Final, NamedTuple

from pushrail_stream.core.event import VENDOR_HEADER
from pushrail_stream.core.text import format_rfc3339
from tests.simulation.people.drawing import EVENT_TYPES, VENDOR

Headers = list[tuple[str, bytes | None]]
_TOO_LARGE: Final = 1_060_000
"""Bytes of a payload that fits into Kafka's topic, and into no call of EventBridge."""
_LARGE: Final = 60_000
"""Bytes of a payload of which a batch of ten is larger than many limits of a buffer or a call."""

_LARGEST: Final = 200_000
"""Bytes of a payload of which a hundred are more than a worker keeps of one partition."""


class Sent(NamedTuple):
    """A record as a producer sends it."""

    kind: str
    """``good``, or the name of what is wrong with it."""
    key: bytes | None
    value: bytes | None
    headers: Headers
    idempotency_key: str
    """Also part of every bad record, as far as it has a value."""


def good_event(dice: Random, customer: str, idempotency_key: str, now_ms: int, *, kind: str = "good") -> Sent:
    """A valid event of the vendor."""
    fields = _fields(dice, customer, idempotency_key, now_ms)
    headers: Headers = [(VENDOR_HEADER, VENDOR.encode())]
    if dice.random() < 0.1:
        trace, span = f"{dice.getrandbits(128) | 1:032x}", f"{dice.getrandbits(64) | 1:016x}"
        headers.append(("traceparent", f"00-{trace}-{span}-01".encode()))
    if dice.random() < 0.1:
        headers.append(("source-system", None if dice.random() < 0.5 else b"\xff\x00 not a text"))
    return Sent(kind, customer.encode(), _text(fields), headers, idempotency_key)


def large_event(dice: Random, customer: str, idempotency_key: str, now_ms: int) -> Sent:
    """A valid event that fits alone into a call of every region."""
    sent = good_event(dice, customer, idempotency_key, now_ms, kind="large")
    return _with(payload={"note": "x" * _LARGEST})(sent, json.loads(sent.value or b""))


def odd_event(dice: Random, customer: str, idempotency_key: str, now_ms: int) -> Sent:
    """A record that differs from what most producers send, or that is no event at all."""
    name = dice.choice(list(_ODD))
    sent = good_event(dice, customer, idempotency_key, now_ms, kind=name)
    return _ODD[name](sent, json.loads(sent.value or b""))


def _fields(dice: Random, customer: str, idempotency_key: str, now_ms: int) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "eventType": dice.choice(EVENT_TYPES),
        "occurredAt": format_rfc3339(now_ms),
        "source": "billing",
        "customerExternalId": customer,
        "idempotencyKey": idempotency_key,
        "payload": {"amount": dice.randint(1, 10_000), "note": "x" * dice.choice([0, 0, 10, 300])},
    }
    if dice.random() < 0.3:
        fields["correlationId"] = f"correlation-{idempotency_key}"
    return fields


def _text(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def _with(**changes: Any) -> Callable[[Sent, dict[str, Any]], Sent]:
    """The event with other fields."""
    return lambda sent, fields: sent._replace(value=_text({**fields, **changes}))


def _without_vendor(sent: Sent, _fields: dict[str, Any]) -> Sent:
    return sent._replace(headers=[header for header in sent.headers if header[0] != VENDOR_HEADER])


def _unknown_customer(sent: Sent, fields: dict[str, Any]) -> Sent:
    return sent._replace(key=b"stranger", value=_text({**fields, "customerExternalId": "stranger"}))


_ODD: Final[dict[str, Callable[[Sent, dict[str, Any]], Sent]]] = {
    "no_json": lambda sent, _: sent._replace(value=f"{sent.idempotency_key} is no JSON".encode()),
    "cut_off": lambda sent, _: sent._replace(value=(sent.value or b"")[:-5]),
    "no_utf8": lambda sent, _: sent._replace(value=(sent.value or b"") + b"\xff"),
    "null_value": lambda sent, _: sent._replace(value=None),
    "null_key": lambda sent, _: sent._replace(key=None),
    "wrong_field": _with(payload=["not", "an", "object"]),
    "wrong_time": _with(occurredAt="yesterday"),
    "long_type": _with(eventType="order." + "x" * 130),
    "too_large": _with(payload={"note": "x" * _TOO_LARGE}),
    "large": _with(payload={"note": "x" * _LARGE}),
    "aws_source": _with(source="aws.events"),
    "big_integer": _with(payload={"amount": 2**70}),
    "unknown_field": _with(extra={"kept": True}),
    "unknown_customer": _unknown_customer,
    "without_vendor": _without_vendor,
}
"""Records by the name of their oddity. Some are valid events all the same."""
