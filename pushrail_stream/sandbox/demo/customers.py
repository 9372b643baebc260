"""The customers of the demo: their AWS accounts and destinations, and their share of the events.

Each account is set up with the policies and rules that our own onboarding generates. Two customers make a mistake.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple

from pushrail_stream.operations.onboarding_templates import Onboarding
from pushrail_stream.sandbox.bus.server import FaultBus

VENDOR: Final = "acme"
BUS: Final = "pushrail-events"
BY_TENANT: Final = "by tenant"
"""The rule that matches all of a customer's events."""
_OUR_ACCOUNT: Final = "999999999999"
_SECRET: Final = "sandbox"  # noqa: S105 - worth nothing: the bus listens on 127.0.0.1 alone

Access = Literal["granted", "wrong external ID", "no PutEvents"]
"""The state of a customer's role: correct, or with one of two mistakes."""


class Keys(NamedTuple):
    """An access key of the sandbox's bus."""

    access_key_id: str
    secret: str

    def variables(self) -> dict[str, str]:
        """Return the environment variables that AWS libraries read the key from."""
        return {"AWS_ACCESS_KEY_ID": self.access_key_id, "AWS_SECRET_ACCESS_KEY": self.secret}


OUR_KEYS: Final = Keys("AKIAPUSHRAILSANDBOX0", _SECRET)
"""The worker's own key, which may do nothing but assume roles."""


@dataclass(frozen=True, slots=True)
class Target:
    """One destination of a customer: its bus in one region."""

    id: str
    region: str = "us-east-1"
    event_types: tuple[str, ...] = ()
    enabled: bool = True


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

    def onboarding(self, target: Target) -> Onboarding:
        """Return the onboarding of this destination."""
        return Onboarding(
            vendor=VENDOR,
            customer=self.external_id,
            region=target.region,
            account=self.account,
            bus=BUS,
            external_id=self.role_external_id,
            our_account=_OUR_ACCOUNT,
        )

    def documents(self) -> list[dict[str, Any]]:
        """Return the destination documents that onboarding wrote, with ids that are easy to read."""
        return [
            self.onboarding(target).document()
            | {"id": target.id, "enabled": target.enabled}
            | ({"eventTypes": list(target.event_types)} if target.event_types else {})
            for target in self.targets
        ]


NOBODY: Final = "acct_nobody"
"""A customer without a destination that events are produced for."""

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


def set_up(bus: FaultBus) -> None:
    """Set up our account and the customers': role, bus and rules."""
    bus.add_key(*OUR_KEYS, account=_OUR_ACCOUNT, buses=[])
    for customer in CUSTOMERS:
        _add_role(bus, customer)
        for target in customer.targets:
            onboarding = customer.onboarding(target)
            for rule, pattern in onboarding.rules().items():
                bus.add_rule(onboarding.bus_arn, rule, pattern)


def _add_role(bus: FaultBus, customer: Customer) -> None:
    onboardings = [customer.onboarding(target) for target in customer.targets]
    permissions = [onboarding.permissions_policy() for onboarding in onboardings]
    trusting = onboardings[0]
    if customer.access == "wrong external ID":
        # The customer copied the external ID of another relation.
        trusting = replace(trusting, external_id="acme-ext-0000")
    if customer.access == "no PutEvents":
        for policy in permissions:
            policy["Statement"][0]["Action"].remove("events:PutEvents")
    bus.add_role(trusting.role_arn, trust_policy=trusting.trust_policy(), permissions_policies=permissions)
