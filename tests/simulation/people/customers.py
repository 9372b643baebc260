"""Customers and their AWS: bus, role, access key and policies, as they are now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from tests.simulation.plan import PlannedDestination

if TYPE_CHECKING:
    from tests.simulation.world import World

OUR_ACCOUNT: Final = "999999999999"
"""The vendor's own AWS account."""
OUR_USER: Final = f"arn:aws:iam::{OUR_ACCOUNT}:user/pushrail-stream"
CREDENTIALS: Final = "credentials"
"""The file with our own key, in the story's own folder."""
KMS_KEY: Final = f"arn:aws:kms:us-east-1:{OUR_ACCOUNT}:key/11111111-2222-3333-4444-555555555555"
_V2_ID: Final = "0123456789abcdefghijklmno"
"""The end of the ARN of a bus of eventbridgev2. Its name is unique already."""
_SECRET_DIGITS: Final = 40


@final
class Customer:
    """The customer's side of one destination."""

    def __init__(self, world: World, destination: PlannedDestination) -> None:
        self._world = world
        is_planned = destination.customer in {
            one.customer for one in world.plan.destinations if one.id == destination.id
        }
        self._dice = world.plan.dice(destination.id if is_planned else f"{destination.id} of {destination.customer}")
        self._number = 0
        self.destination = destination
        """As its document is, or will be after the next `put`."""
        bus = f"event-busv2/{destination.id}/{_V2_ID}" if destination.is_v2 else f"event-bus/{destination.id}"
        self.bus_arn = f"arn:aws:events:{destination.region}:{destination.account}:{bus}"
        self.role_arn = f"arn:aws:iam::{destination.account}:role/Pushrail-{destination.id}"
        self.user_arn = f"arn:aws:iam::{destination.account}:user/pushrail-{destination.id}"
        self.external_id = f"external-{destination.id}-1"
        self.access_key = ""
        self.secret = ""

    def open_account(self) -> None:
        """Make the bus, and a role or a user that may write to it."""
        self._world.cloud.accounts.create_bus(self.bus_arn)
        if self.destination.mode == "ACCESS_KEY":
            self.make_access_key()
        else:
            self.make_role()

    def make_role(self) -> None:
        """Make the role, or make it again: its sessions end then."""
        self._world.cloud.accounts.create_role(self.role_arn, OUR_ACCOUNT, self.external_id, self.bus_arn)

    def make_access_key(self) -> str:
        """Make another access key; the id of the key before. The document still has that one."""
        before = self.access_key
        self._number += 1
        letters = "".join(self._dice.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=14))
        self.access_key = f"AKIA{letters}{self._number:02}"
        self.secret = "".join(self._dice.choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJ0123456789/+", k=_SECRET_DIGITS))
        self._world.evidence.secrets.add(self.secret)
        accounts = self._world.cloud.accounts
        accounts.create_customer_key(self.user_arn, self.access_key, self.secret, self.bus_arn)
        return before

    def delete_access_key(self, access_key: str) -> None:
        """Delete a key that is not the present one."""
        if access_key and access_key != self.access_key:
            self._world.cloud.accounts.delete_key(access_key)

    def mend(self) -> None:
        """Make everything as the document needs it."""
        accounts = self._world.cloud.accounts
        if self.bus_arn not in accounts.buses:
            accounts.create_bus(self.bus_arn)
        bus = accounts.buses[self.bus_arn]
        bus.policy.clear()
        bus.refused_detail_types = frozenset()
        bus.is_key_denied = False
        if self.destination.mode == "ASSUME_ROLE":
            self.make_role()
        else:
            accounts.create_customer_key(self.user_arn, self.access_key, self.secret, self.bus_arn)
