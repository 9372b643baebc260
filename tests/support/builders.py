"""Destinations and events for tests: one customer's unless the test names another."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Final

from pushrail_stream.core.destination import CustomerBus, Destination, Limits, Secret
from pushrail_stream.settings.eventbridge import AccessKey, AssumeRole, OwnIdentity

VENDOR: Final = "acme"
SOURCE: Final = "pushrail.acme"
EVENT_TYPE: Final = "order.completed"
KEY_ID: Final = "AKIAIOSFODNN7EXAMPLE"
SECRET: Final = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
_BUS_FIELDS: Final = {"bus", "region", "auth", "type"}
_BUSES_PER_ACCOUNT: Final = 40
"""Checks of the buses of one account are paced; this number of them passes without a wait."""


def customer_id(customer: str | int) -> str:
    """The customer's external id."""
    return f"acct_{customer}"


def bus_arn(customer: str | int) -> str:
    """The customer's bus."""
    account = customer // _BUSES_PER_ACCOUNT if isinstance(customer, int) else 0
    return f"arn:aws:events:us-east-1:{123456789012 + account}:event-bus/bus-{customer}"


def v2_bus_arn(customer: str | int) -> str:
    """The customer's bus of eventbridgev2."""
    return f"{bus_arn(customer).replace(':event-bus/', ':event-busv2/')}/{'0' * 24}1"


def partner_bus_arn(customer: str | int) -> str:
    """The customer's bus for an event source of ours."""
    return f"{bus_arn(customer).rpartition('/')[0]}/aws.partner/acme.example/{customer}/events"


def partner_destination(customer: str | int = "acme", **changes: Any) -> Destination:
    """A customer's event source of ours, which our own credentials write to."""
    arn = partner_bus_arn(customer)
    plain = destination(customer, bus=arn, type="EVENTBRIDGE_PARTNER", auth=OwnIdentity(), **changes)
    return dataclasses.replace(plain, source=arn.partition(":event-bus/")[2])


def destination(customer: str | int = "acme", *, name: str = "", **changes: Any) -> Destination:
    """A customer's bus, written to by its role. ``name`` tells several destinations of a customer apart."""
    identity = f"dst_{customer}{name and '_' + name}"
    plain = Destination(
        id=identity,
        vendor=VENDOR,
        customer_external_id=customer_id(customer),
        name=f"customer {customer}",
        bus=CustomerBus(
            type="EVENTBRIDGE",
            arn=bus_arn(customer) + (name and f"-{name}"),
            region="us-east-1",
            auth=AssumeRole("arn:aws:iam::123456789012:role/Writer", f"ext-{customer}"),
        ),
        source=SOURCE,
    )
    return modified(plain, **changes)


def modified(one: Destination, **changes: Any) -> Destination:
    """The destination with these fields; those of its bus stand beside the others, with ``bus`` for its ARN."""
    way = {"arn" if name == "bus" else name: changes.pop(name) for name in _BUS_FIELDS & changes.keys()}
    return dataclasses.replace(one, bus=dataclasses.replace(one.bus, **way), **changes)


def with_access_key(customer: str | int = "acme", **changes: Any) -> Destination:
    """A destination that signs with a key pair."""
    return destination(customer, **{"auth": AccessKey(KEY_ID, Secret(SECRET)), **changes})


def narrow(customer: str | int, max_in_flight: int, per_second: float | None = None) -> Destination:
    """A destination with limits of its own."""
    return destination(customer, limits=Limits(per_second, max_in_flight))


def event(customer: str | int = "acme", number: int = 0, **changes: Any) -> bytes:
    """The customer's event of this number, as its producer writes it, with other members where a test wants them."""
    members = {
        "eventType": EVENT_TYPE,
        "occurredAt": "2026-05-26T14:21:08.493Z",
        "source": "billing-service",
        "customerExternalId": customer_id(customer),
        "idempotencyKey": f"key-{number}",
        "payload": {"number": number, "who": "Zoë"},
    }
    return json.dumps(members | changes, ensure_ascii=False).encode()
