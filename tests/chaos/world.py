"""The chaos world, the same for the same seed: customers, their destinations, and every event by its number."""

from __future__ import annotations

import json
import random
from array import array
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import yaml

VENDOR: Final = "acme"
PARTITIONS: Final = 12
TOPICS: Final = {
    name: f"chaos.{name}" for name in ("events", "dlq", "attempts", "destinations", "replays", "workers", "control")
}
TIERS: Final = {"chaos.retry.2s": 2, "chaos.retry.5s": 5, "chaos.retry.10s": 10}
GROUP: Final = "chaos"
RETRY_GROUP: Final = f"{GROUP}.retry"
HOLD_SECS: Final = 3.0
CONNECT_SECS: Final = 1.0
READ_SECS: Final = 3.0
SESSION_SECS: Final = 6.0
LONGEST_STOP_SECS: Final = SESSION_SECS + 6.0
"""Workers are stopped for as long at most."""
SECRET_VARIABLE: Final = "CHAOS_CUSTOMER_SECRET"
SECRET: Final = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
MALFORMED_MARK: Final = '"note":"malformed"'

_V2_ID: Final = "0123456789abcdefghijklmno"
"""The end of the ARN of a bus of eventbridgev2. Its name is unique already."""
_ACCOUNT: Final = "123456789012"
_SHARES: Final = (0.3, 0.2)
"""The parts of all events that the first customers have, so that their destinations fall behind when their buses are
slow. The others have the rest, each next one less.
"""
_DENIED: Final = (5, 6, 7)
"""Customers: busy without being the busiest, reached by a role, the first with a second destination that must not
notice.
"""
_PLANTED: Final = (("malformed", 20), ("undecodable", 10), ("oversize", 4))
_NOTE: Final = "x" * 160
_BLOB: Final = "x" * 1_100_000
_KEY: Final = '"idempotencyKey":"event-'

Kind = Literal["malformed", "undecodable", "oversize"]


class Place(NamedTuple):
    """One destination: a customer's first (slot 0) or second (slot 1)."""

    customer: int
    slot: int

    @property
    def id(self) -> str:
        """Destination id."""
        return f"dst_{self.customer}_{self.slot}"

    @property
    def is_v2(self) -> bool:
        """Whether its bus is one of eventbridgev2, as every second customer's is."""
        return self.customer % 2 == 1

    @property
    def bus_arn(self) -> str:
        """The customer's bus."""
        name = f"chaos-{self.customer}-{self.slot}"
        bus = f"event-busv2/{name}/{_V2_ID}" if self.is_v2 else f"event-bus/{name}"
        return f"arn:aws:events:us-east-1:{_ACCOUNT}:{bus}"

    @classmethod
    def of(cls, name: str) -> Place:
        """From a destination id, which ends with the two numbers."""
        customer, slot = name.replace("_", "-").rsplit("-", 2)[1:]
        return cls(int(customer), int(slot))


class World:
    """Everything that is known before the run begins."""

    def __init__(self, seed: int, events: int, customers: int) -> None:
        if customers <= max(_DENIED) or events < 1_000:
            raise ValueError("at least 8 customers and 1,000 events")
        dice = random.Random(f"{seed}/world")
        self.events = events
        self.customers = customers
        weights = _weights(customers)
        self.customer_of = array("H", dice.choices(range(customers), weights, k=events))
        self.denied = [Place(customer, 0) for customer in _DENIED]
        self.planted: dict[int, Kind] = {}
        innocent = [n for n in range(events) if self.customer_of[n] not in _DENIED]
        for kind, most in _PLANTED:
            for number in dice.sample(innocent, min(most, events // 500)):
                self.planted.setdefault(number, kind)  # type: ignore[arg-type]  # the names above

    def places(self) -> list[Place]:
        """All destinations."""
        return [Place(customer, slot) for customer in range(self.customers) for slot in range(slots_of(customer))]

    def wanted_by(self, number: int) -> tuple[int, ...]:
        """The slots of its customer's destinations that are to receive this event, or its dead letter."""
        if self.planted.get(number) == "undecodable":
            return ()
        two = slots_of(self.customer_of[number]) == 2 and _is_order(number)
        return (0, 1) if two else (0,)

    def key(self, number: int) -> str:
        """Kafka key."""
        return f"acct_{self.customer_of[number]}"

    def value(self, number: int) -> bytes:
        """The record's value."""
        kind = self.planted.get(number)
        if kind == "undecodable":
            return f"{_KEY}{number}\xff".encode("latin-1")
        note = "malformed" if kind == "malformed" else _BLOB if kind == "oversize" else _NOTE
        return self.text(number, note).encode()

    def text(self, number: int, note: str = _NOTE) -> str:
        """An event's JSON."""
        return (
            f'{{"eventType":"{"order.completed" if _is_order(number) else "user.created"}",'
            f'"occurredAt":"2026-05-26T14:21:08.493Z","source":"billing-service",'
            f'"customerExternalId":"acct_{self.customer_of[number]}",{_KEY}{number}",'
            f'"payload":{{"who":"Zoë","note":"{note}"}}}}'
        )

    def write_documents(self, folder: Path) -> None:
        """Destination documents, as the registry reads them."""
        folder.mkdir()
        for place in self.places():
            document: dict[str, Any] = {
                "id": place.id,
                "vendor": VENDOR,
                "customerExternalId": f"acct_{place.customer}",
                "type": "EVENTBRIDGE",
                "busArn": place.bus_arn,
                "region": "us-east-1",
                "auth": _auth(place.customer),
            }
            if place.slot == 1:
                document["eventTypes"] = ["order.*"]
            (folder / f"{place.id}.json").write_text(json.dumps(document))


def _weights(customers: int) -> list[float]:
    others = [1 / (rank + 1) for rank in range(len(_SHARES), customers)]
    return [*_SHARES, *((1 - sum(_SHARES)) * weight / sum(others) for weight in others)]


def number_in(value: bytes | None) -> int | None:
    """The number of the event whose record has this value."""
    digits = (value or b"").partition(_KEY.encode())[2][:12]
    length = next((i for i, digit in enumerate(digits) if not 48 <= digit <= 57), len(digits))
    return int(digits[:length]) if length else None


def slots_of(customer: int) -> int:
    """The number of a customer's destinations."""
    return 2 if customer % 8 == 5 else 1


def role_arn(customer: int) -> str | None:
    """The customer's role; None for one who gave an access key."""
    return None if customer % 6 == 3 else f"arn:aws:iam::{_ACCOUNT}:role/ChaosWriter{customer}"


def access_key(customer: int) -> str:
    """Access key id of a customer without a role."""
    return f"AKIACHAOSCUSTOMER{customer:04}"


def external_id(customer: int) -> str:
    """The external ID that the customer's trust policy requires."""
    return f"ext-{customer}"


def worker_key(worker: int) -> str:
    """Access key id of a worker's own: by it the bus knows whose sessions are whose."""
    return f"AKIACHAOSWORKER{worker:05}"


def write_settings(path: Path, bootstrap: str, bus_url: str, documents: Path, protocol: str) -> None:
    """The workers' settings file. ``protocol`` of the groups: in the new one the broker sets the session time-out."""
    session = {"session.timeout.ms": int(SESSION_SECS * 1000)} if protocol == "classic" else {}
    settings = {
        "vendor": VENDOR,
        "kafka": {
            "bootstrap_servers": bootstrap,
            "group_id": GROUP,
            "group_protocol": protocol,
            "client": session,
        },
        "topics": TOPICS | {"retry": TIERS},
        "registry": {"path": str(documents)},
        "delivery": {"hold_secs": HOLD_SECS, "backoff_cap_secs": 5},
        "eventbridge": {
            "endpoint_url": bus_url,
            "connect_timeout_secs": CONNECT_SECS,
            "read_timeout_secs": READ_SECS,
        },
        "sts": {"endpoint_url": bus_url},
    }
    path.write_text(yaml.safe_dump(settings))


def _is_order(number: int) -> bool:
    return number % 7 != 0


def _auth(customer: int) -> dict[str, str]:
    role = role_arn(customer)
    if role is None:
        secret = f"env:{SECRET_VARIABLE}"
        return {"mode": "ACCESS_KEY", "accessKeyId": access_key(customer), "secretAccessKey": secret}
    return {"mode": "ASSUME_ROLE", "roleArn": role, "externalId": external_id(customer)}
