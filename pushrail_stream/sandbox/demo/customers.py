"""Who takes part: the customers, their accounts and destinations, and how much each of them is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

VENDOR: Final = "acme"
OUR_ACCOUNT: Final = "999999999999"
OUR_USER: Final = "pushrail"
BUS: Final = "pushrail-events"
ROLE: Final = "PushrailEventBridgeWriter"

Access = Literal["granted", "wrong external ID", "no PutEvents"]
"""How a customer set its role up, rightly or wrongly."""


@dataclass(frozen=True, slots=True)
class Target:
    """One destination of a customer: a bus in a region, and the queue its rule sends events to."""

    id: str
    region: str = "us-east-1"
    event_types: tuple[str, ...] = ()
    enabled: bool = True
    tenant: str | None = None
    """The tenant its rule asks for, when that is not the customer itself."""

    def queue_name(self) -> str:
        """Its SQS queue."""
        return f"{self.id}-inbox"


@dataclass(frozen=True, slots=True)
class Customer:
    """One customer with an AWS account of its own."""

    external_id: str
    account: str
    role_external_id: str
    targets: tuple[Target, ...]
    share: int
    """Its part of all events, relative to the others'."""
    access: Access = "granted"

    @property
    def role_arn(self) -> str:
        """The role it made for us."""
        return f"arn:aws:iam::{self.account}:role/{ROLE}"

    def bus_arn(self, target: Target) -> str:
        """The bus of a destination."""
        return f"arn:aws:events:{target.region}:{self.account}:event-bus/{BUS}"

    def queue_arn(self, target: Target) -> str:
        """The queue behind a destination's rule."""
        return f"arn:aws:sqs:{target.region}:{self.account}:{target.queue_name()}"

    def documents(self) -> list[dict[str, Any]]:
        """The destination documents, as an operator would write them."""
        return [self._document(target) for target in self.targets]

    def _document(self, target: Target) -> dict[str, Any]:
        document: dict[str, Any] = {
            "id": target.id,
            "vendor": VENDOR,
            "customerExternalId": self.external_id,
            "type": "EVENTBRIDGE",
            "name": "Customer EventBridge bus",
            "busArn": self.bus_arn(target),
            "region": target.region,
            "sourceNamespace": f"pushrail.{VENDOR}",
            "auth": {"mode": "ASSUME_ROLE", "roleArn": self.role_arn, "externalId": self.role_external_id},
            "enabled": target.enabled,
        }
        if target.event_types:
            document["eventTypes"] = list(target.event_types)
        return document


NOBODY: Final = "acct_nobody"
"""A customer that events are produced for and that has no destination."""

CUSTOMERS: Final = (
    Customer("acct_8K2zRq", "123456789012", "acme-ext-7Pq2", (Target("dst_acme_8K2zRq"),), 8),
    Customer("acct_juniper", "111111111111", "acme-ext-J4nk", (Target("dst_juniper"),), 8),
    Customer(
        "acct_malmo",
        "222222222222",
        "acme-ext-M9wd",
        (Target("dst_malmo"), Target("dst_malmo_orders", "eu-west-1", ("order.*",))),
        6,
    ),
    Customer("acct_osaka", "333333333333", "acme-ext-O2fx", (Target("dst_osaka"),), 6),
    Customer("acct_pamir", "444444444444", "acme-ext-P8hb", (Target("dst_pamir"),), 1, "wrong external ID"),
    Customer("acct_quito", "555555555555", "acme-ext-Q5vt", (Target("dst_quito"),), 1, "no PutEvents"),
    Customer("acct_riga", "666666666666", "acme-ext-R3ms", (Target("dst_riga", enabled=False),), 1),
)
