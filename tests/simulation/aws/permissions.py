"""Whether a signer may do something: its own policies, its session's policy, and the resource policy of a bus."""

from __future__ import annotations

from typing import NamedTuple

from tests.simulation.aws.accounts import Accounts, Credential
from tests.simulation.aws.policies import Decision, decide
from tests.simulation.aws.records import Blame


class Denial(NamedTuple):
    """A denial, in AWS's words."""

    message: str
    blame: Blame


def denial(accounts: Accounts, who: Credential, action: str, resource: str) -> Denial | None:
    """The reason for which the signer may not do this; None when it may."""
    reason = _reason(accounts, who, action, resource)
    if reason is None:
        return None
    text = f"User: {who.arn} is not authorized to perform: {action} on resource: {resource} {reason}"
    is_session_policy = "session policy" in reason
    return Denial(text, "ours" if is_session_policy or who.is_ours else "customer")


def _reason(accounts: Accounts, who: Credential, action: str, resource: str) -> str | None:
    own = _own_decision(accounts, who, action, resource)
    bus = accounts.buses.get(resource)
    by_bus = "none" if bus is None else decide(bus.policy, action, resource, who.arn)
    if "deny" in {own, by_bus}:
        return f"with an explicit deny in {'an identity' if own == 'deny' else 'a resource'}-based policy"
    if who.policy is not None and decide(who.policy, action, resource) != "allow":
        return f"because no session policy allows the {action} action"
    # Within an account either policy suffices; across accounts both are needed.
    is_foreign = resource.startswith("arn:") and resource.split(":")[4] != who.account
    if own != "allow" and (is_foreign or by_bus != "allow"):
        return f"because no identity-based policy allows the {action} action"
    if is_foreign and bus is not None and by_bus != "allow":
        return f"because no resource-based policy allows the {action} action"
    return None


def _own_decision(accounts: Accounts, who: Credential, action: str, resource: str) -> Decision:
    """The decision of the signer's own policies: those of its role, or those of its user."""
    if not who.role:
        return decide(accounts.permissions.get(who.arn, ()), action, resource)
    role = accounts.roles.get(who.role)
    if role is None or role.generation != who.generation:
        return "none"
    return "deny" if who.issued_at < role.revoked_before else decide(role.permissions, action, resource)
