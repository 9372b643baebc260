"""AWS's troubles, and customers who change their AWS."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Final

from tests.simulation.aws.faults import Fault
from tests.simulation.aws.policies import PUT_EVENTS, deny
from tests.simulation.people.customers import KMS_KEY
from tests.simulation.people.drawing import EVENT_TYPES, REGIONS
from tests.simulation.people.registry import any_destination
from tests.simulation.people.troubles import trouble
from tests.simulation.plan import Draw, Plan, between, one_of

if TYPE_CHECKING:
    from tests.simulation.world import World

_BROKEN_SECS: Final = between(5, 240)
"""Duration of a customer's mistake."""


@trouble(2.0, destination=any_destination, secs=_BROKEN_SECS)
def delete_bus(world: World, *, destination: str, secs: float) -> None:
    """A customer deletes the bus, and creates it again."""
    customer, accounts = world.customers[destination], world.cloud.accounts
    accounts.delete_bus(customer.bus_arn)
    world.mend_later(secs, f"bus of {destination}", customer.mend)


@trouble(1.5, destination=any_destination, secs=_BROKEN_SECS)
def deny_by_policy(world: World, *, destination: str, secs: float) -> None:
    """A customer denies PutEvents in the policy of the bus."""
    customer, accounts = world.customers[destination], world.cloud.accounts
    if customer.bus_arn in accounts.buses:
        accounts.buses[customer.bus_arn].policy.append(deny(PUT_EVENTS))
        world.mend_later(secs, f"policy of {destination}", customer.mend)


@trouble(1.5, destination=any_destination, secs=_BROKEN_SECS)
def deny_key(world: World, *, destination: str, secs: float) -> None:
    """A customer disables the KMS key of a bus of eventbridgev2."""
    customer, buses = world.customers[destination], world.cloud.accounts.buses
    if customer.destination.is_v2 and customer.bus_arn in buses:
        buses[customer.bus_arn].is_key_denied = True
        world.mend_later(secs, f"key of {destination}", customer.mend)


@trouble(1.5, destination=any_destination, secs=_BROKEN_SECS)
def change_external_id(world: World, *, destination: str, secs: float) -> None:
    """A customer's trust policy gets another external id, and the right one later."""
    customer, accounts = world.customers[destination], world.cloud.accounts
    if customer.role_arn in accounts.roles:
        accounts.roles[customer.role_arn].external_id = "another-external-id"
        world.mend_later(secs, f"external id of {destination}", customer.mend)


@trouble(1.5, destination=any_destination)
def recreate_role(world: World, *, destination: str) -> None:
    """A customer deletes the role and makes it again: old sessions are denied, new ones are not."""
    customer = world.customers[destination]
    if customer.destination.mode == "ASSUME_ROLE":
        customer.make_role()


@trouble(1.5, destination=any_destination)
def revoke_sessions(world: World, *, destination: str) -> None:
    """A customer revokes the sessions that there are."""
    customer = world.customers[destination]
    if customer.role_arn in world.cloud.accounts.roles:
        world.cloud.accounts.revoke_sessions(customer.role_arn, world.wall_secs)


@trouble(1.0, destination=any_destination, secs=_BROKEN_SECS)
def delete_role(world: World, *, destination: str, secs: float) -> None:
    """A customer deletes the role, and makes it again later."""
    customer = world.customers[destination]
    world.cloud.accounts.delete_role(customer.role_arn)
    world.mend_later(secs, f"role of {destination}", customer.mend)


@trouble(1.0, destination=any_destination, secs=_BROKEN_SECS)
def delete_access_key(world: World, *, destination: str, secs: float) -> None:
    """A customer deletes the access key, and has it again later."""
    customer = world.customers[destination]
    if customer.access_key:
        world.cloud.accounts.delete_key(customer.access_key)
        world.mend_later(secs, f"access key of {destination}", customer.mend)


@trouble(1.0, destination=any_destination, per_second=one_of(1.0, 3.0, 10.0), secs=between(20, 240))
def lower_quota(world: World, *, destination: str, per_second: float, secs: float) -> None:
    """AWS gives a customer's account fewer requests."""
    one = world.customers[destination].destination
    quotas = world.cloud.quotas
    quotas.set_limit(one.account, one.region, "PutEvents", per_second)
    world.mend_later(
        secs, f"quota of {destination}", partial(quotas.set_limit, one.account, one.region, "PutEvents", 400.0)
    )


@trouble(1.0, how=one_of("expire", "revoke", "garble_file", "remove_file"), secs=between(5, 200))
def lose_own_credentials(world: World, *, how: str, secs: float) -> None:
    """Our own key or its file cannot be used; an administrator makes a new one later."""
    identity = world.identity
    losses: dict[str, Callable[[], None]] = {
        "expire": partial(identity.expire, world.wall_secs),
        "revoke": identity.revoke,
        "garble_file": identity.garble_file,
        "remove_file": identity.remove_file,
    }
    losses[how]()
    world.mend_later(secs, "our own key", world.renew_own_key)


@trouble(0.7, secs=between(10, 120))
def disable_kms_key(world: World, *, secs: float) -> None:
    """The KMS key that wraps sealed secrets is disabled by mistake."""
    key = world.cloud.kms.keys[KMS_KEY]
    key.enabled = False
    world.mend_later(secs, "KMS key", partial(setattr, key, "enabled", True))


_OUTAGES: Final[Draw] = one_of(
    "connection_refused",
    "dns_failure",
    "connect_timeout",
    "hang",
    "call:ServiceUnavailable",
    "call:InternalFailure",
    "call:ThrottlingException",
    "answer_lost",
    "reset_after",
    "garbled_before",
    "garbled_after",
)


@trouble(1.5, kind=_OUTAGES, region=one_of(*REGIONS), secs=between(5, 150))
def regional_outage(world: World, *, kind: str, region: str, secs: float) -> None:
    """Every call to a region fails in the same way."""
    faults = world.cloud.faults
    fault = faults.add(Fault(kind, 1.0, region=region))
    world.mend_later(secs, f"{kind} in {region}", partial(faults.remove, fault))


def _an_account(dice: Random, plan: Plan) -> Any:
    return dice.choice(plan.destinations).account


@trouble(1.5, kind=_OUTAGES, account=_an_account, share=one_of(0.3, 0.7, 1.0), secs=between(5, 150))
def trouble_of_one_account(world: World, *, kind: str, account: str, share: float, secs: float) -> None:
    """Calls about one account fail."""
    faults = world.cloud.faults
    fault = faults.add(Fault(kind, share, account=account))
    world.mend_later(secs, f"{kind} of {account}", partial(faults.remove, fault))


@trouble(1.0, destination=any_destination, secs=_BROKEN_SECS)
def narrow_role(world: World, *, destination: str, secs: float) -> None:
    """A customer takes every permission from the role. Its sessions go on, and may do nothing."""
    customer, roles = world.customers[destination], world.cloud.accounts.roles
    if customer.role_arn in roles:
        roles[customer.role_arn].permissions.clear()
        world.mend_later(secs, f"permissions of {destination}", customer.mend)


@trouble(0.7, destination=any_destination, event_type=one_of(*EVENT_TYPES), secs=_BROKEN_SECS)
def refuse_event_type(world: World, *, destination: str, event_type: str, secs: float) -> None:
    """The policy of a customer's bus admits no events of one type."""
    customer, buses = world.customers[destination], world.cloud.accounts.buses
    if customer.bus_arn in buses:
        buses[customer.bus_arn].refused_detail_types = frozenset({event_type})
        world.mend_later(secs, f"event types of {destination}", customer.mend)


@trouble(0.7, secs=one_of(-3_600.0, -200.0, 200.0, 3_600.0), back_secs=between(10, 120))
def skew_aws_clock(world: World, *, secs: float, back_secs: float) -> None:
    """The clock of AWS differs from ours, by less or more than the five minutes that AWS tolerates."""
    state = world.cloud.state
    state.epoch += secs
    world.disturb("clock", back_secs)

    def set_right() -> None:
        state.epoch -= secs

    world.mend_later(back_secs, "clock of AWS", set_right)
