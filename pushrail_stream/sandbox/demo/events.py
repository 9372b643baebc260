"""The records that the vendor produces: the example event, many varied ones, and a few that cannot be delivered."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from random import Random
from typing import Any, Final

from pushrail_stream.sandbox.demo.customers import NOBODY, Customer

EXAMPLE_FILE: Final = "order-completed.json"
OVERSIZE_BYTES: Final = 1_000_000
"""The size of the event that is too large: the default of ``delivery.max_request_bytes``."""

_TYPES: Final = (
    "order.completed", "order.refunded", "order.shipped", "invoice.paid", "invoice.overdue", "user.signed_up",
    "subscription.renewed",
)  # fmt: skip
_PEOPLE: Final = ("Zoë Müller", "山田太郎", "José Peña", "Olga Иванова", "Ngũgĩ wa Thiong'o", "Ann Lee", "🚚 Łukasz")
_NOTES: Final = (
    "leave at the door", "Bitte nicht stürzen", "配達は午後", "gift, “no invoice”", "<id> stays <id>", "naïve café",
    "line\nbreak and \\ backslash",
)  # fmt: skip
_CURRENCIES: Final = ("USD", "EUR", "JPY", "SEK")


@dataclass(frozen=True, slots=True)
class Planned:
    """One record to be produced."""

    value: bytes
    kafka_key: bytes
    customer: str | None
    """None when the record is not an event."""
    key: str
    """The idempotency key; for a record that is not an event, a description of its error."""


def example_event() -> bytes:
    """Return the example of the documentation, byte for byte."""
    return resources.files(__package__).joinpath(EXAMPLE_FILE).read_bytes().rstrip(b"\n")


def plan_events(number: int, customers: Sequence[Customer], seed: int = 1) -> list[Planned]:
    """Return ``number`` records: the example first if its customer takes part, then a mix that the seed determines."""
    rng = Random(seed)  # noqa: S311 - the demo must repeat, nothing here is a secret
    example = _of(json.loads(example_event()), example_event())
    first = [example] if any(customer.external_id == example.customer for customer in customers) else []
    mixed = [*_undecodable(), *_unrouted(), _oversize(customers)]
    names = [customer.external_id for customer in customers for _ in range(customer.share)]
    rest = max(0, number - len(first) - len(mixed))
    mixed += [_varied(rng, index, names[index % len(names)]) for index in range(rest)]
    rng.shuffle(mixed)
    return first + mixed


def _varied(rng: Random, index: int, customer: str) -> Planned:
    lines = [
        (f"PR-{rng.randrange(10_000):04}", rng.randrange(1, 9), rng.randrange(100, 90_000))
        for _ in range(_long_tail(rng))
    ]
    payload = {
        "orderId": f"ord_{index:06x}",
        "amount": sum(quantity * price for _, quantity, price in lines),
        "currency": rng.choice(_CURRENCIES),
        "customer": {"name": rng.choice(_PEOPLE), "note": rng.choice(_NOTES)},
        "items": [{"sku": sku, "qty": quantity, "price": price} for sku, quantity, price in lines],
    }
    return _event(rng.choice(_TYPES), customer, f"evt_{index:06}", payload, second=index)


def _long_tail(rng: Random) -> int:
    """Return a number of lines: most events are small, and 2 % of them have some 15 KB."""
    return rng.randrange(200, 300) if rng.random() < 0.02 else rng.randrange(1, 12)  # noqa: PLR2004 - the 2 %


def _event(kind: str, customer: str, key: str, payload: dict[str, Any], second: int = 0) -> Planned:
    minute, second = divmod(second, 60)
    hour, minute = divmod(minute, 60)
    event = {
        "eventType": kind,
        "occurredAt": f"2026-05-26T{hour % 24:02}:{minute:02}:{second:02}.493Z",
        "source": "billing-service",
        "customerExternalId": customer,
        "idempotencyKey": key,
        "correlationId": f"req_{key}",
        "payload": payload,
        "metadata": {"tier": "pro", "region": "us-east-1"},
    }
    return _of(event, json.dumps(event, ensure_ascii=False).encode())


def _of(event: dict[str, Any], value: bytes) -> Planned:
    customer = event["customerExternalId"]
    return Planned(value, customer.encode(), customer, event["idempotencyKey"])


def _undecodable() -> list[Planned]:
    """Return records that are not canonical events."""
    incomplete = json.loads(example_event())
    del incomplete["occurredAt"]
    incomplete["idempotencyKey"] = "evt_incomplete"
    values = {
        "no JSON": b"\x00\xffnot an event\xfe",
        "no occurredAt": json.dumps(incomplete).encode(),
        "a JSON list": b'["order.completed", "acct_8K2zRq"]',
    }
    return [Planned(value, b"unknown", None, error) for error, value in values.items()]


def _unrouted() -> list[Planned]:
    return [_event("order.completed", NOBODY, f"evt_nobody_{n}", {"orderId": f"ord_n{n}"}) for n in range(2)]


def _oversize(customers: Sequence[Customer]) -> Planned:
    """Return an event that Kafka takes but that exceeds a PutEvents request."""
    customer = customers[min(1, len(customers) - 1)].external_id
    return _event("order.completed", customer, "evt_oversize", {"attachment": "0123456789" * (OVERSIZE_BYTES // 10)})
