"""IAM policies: of our own programs, and of a customer for one destination.

AWS's Service Authorization Reference has the actions of STS, KMS and EventBridge. `sts:GetCallerIdentity`, with which
workers check their own credentials, needs no permission (AWS STS API Reference, "GetCallerIdentity").
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Literal, NamedTuple

from pushrail_stream.core.destination import Destination
from pushrail_stream.settings.eventbridge import PARTNER, ROLE, AssumeRole, OwnIdentity, auth_of, flavour_of
from pushrail_stream.settings.values import Arn, partition_of

Policy = dict[str, Any]
Ours = Literal["workers", "sealing"]
"""Our programs that sign in at AWS: `run` and `destinations test`; the commands that seal secrets with a KMS key."""
UNKNOWN_ACCOUNT: Final = "OUR-ACCOUNT-ID"
"""Stands for our own account where it is not known."""
_MAX_POLICY_CHARS: Final = 6_144
"""Most characters of a managed policy, without white space (IAM User Guide, "IAM and AWS STS quotas")."""


class OurPolicy(NamedTuple):
    """An identity policy for our own account, and remarks for the operator."""

    policy: Policy
    remarks: tuple[str, ...] = ()


def policy_of(*statements: dict[str, Any]) -> Policy:
    """An IAM policy of these statements."""
    return {"Version": "2012-10-17", "Statement": list(statements)}


def trust_policy(principal: str, external_id: str) -> Policy:
    """A role can be assumed by this principal, and only with this external ID."""
    return policy_of(
        {
            "Effect": "Allow",
            "Principal": {"AWS": principal},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"sts:ExternalId": external_id}},
        }
    )


def account_principal(partition: str, account: str) -> str:
    """An account as the principal of a policy."""
    return f"arn:{partition}:iam::{account}:root"


def our_policy(
    program: Ours, destinations: Iterable[Destination], kms_keys: Sequence[str], region: str, *, any_account: bool
) -> OurPolicy:
    """The rights of one of our programs. ``region``: our own (``sts.region``).

    ``any_account``: name the customers' roles by their names alone, so that the policy need not change with each new
    customer. That is done too when it would be too long otherwise.
    """
    statements = _kms_statements(program, kms_keys)
    if program == "sealing":
        if statements:
            return OurPolicy(policy_of(*statements))
        return OurPolicy(policy_of(), ("no sealing key is in KMS: commands that seal need no rights at AWS",))
    partition, destinations = partition_of(region), list(destinations)
    statements += _partner_statements(one.bus.arn for one in destinations if one.bus.type == PARTNER.type)
    auths = [auth_of(destination) for destination in destinations]
    roles = {auth.role_arn for auth in auths if isinstance(auth, AssumeRole)}
    ours = {arn for arn in roles if Arn.of(arn).partition == partition}
    remarks = []
    if len(ours) < len(roles):
        remarks.append(f"roles of other AWS partitions than {partition} are left out: {len(roles) - len(ours)}")
    patterns = {f"arn:{partition}:iam::*:{Arn.of(arn).resource}" for arn in ours}
    if not ours:
        patterns = {f"arn:{partition}:iam::*:role/{ROLE}"}
        remarks.append("no destination has a role yet: the policy names the role that `destinations onboard` makes")
    exact = policy_of(_assume(ours), *statements)
    if any_account or not ours:
        found = policy_of(_assume(patterns), *statements)
    elif _length(exact) <= _MAX_POLICY_CHARS:
        found = exact
        remarks.append("print it again for each new customer, or allow roles of any account with --any-account")
    else:
        found = policy_of(_assume(patterns), *statements)
        remarks.append(f"{len(ours)} roles do not fit into a policy: their names stand for them, in any account")
    if _length(found) > _MAX_POLICY_CHARS:
        remarks.append(f"has {_length(found)} characters, and a managed policy at most {_MAX_POLICY_CHARS}: split it")
    return OurPolicy(found, tuple(remarks))


def customer_policies(
    destination: Destination, our_account: str | Callable[[str], str | None]
) -> dict[str, Policy]:  # fmt: skip
    """The policies that a customer grants for a destination: ``trust`` of its role, if it has one, and ``permissions``.

    None for a partner event source: the customer makes a bus for it, and that is all.
    ``our_account``: its id, or a function that asks for it, from the bus's partition. It is called for a role alone.
    """
    bus, auth = destination.bus, auth_of(destination)
    if isinstance(auth, OwnIdentity):
        return {}
    permissions = policy_of(*flavour_of(bus.type, bus.arn).permissions(bus.arn))
    if not isinstance(auth, AssumeRole):
        return {"permissions": permissions}
    partition = Arn.of(bus.arn).partition
    account = our_account if isinstance(our_account, str) else our_account(partition)
    principal = account_principal(partition, account or UNKNOWN_ACCOUNT)
    return {"trust": trust_policy(principal, auth.external_id), "permissions": permissions}


def _assume(roles: Iterable[str]) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": sorted(roles)}


def _partner_statements(arns: Iterable[str]) -> list[dict[str, Any]]:
    statements = [PARTNER.permissions(arn) for arn in arns]
    if not statements:
        return []
    put, checks = statements[0][0], [check for _, check in statements]
    return [put, {**checks[0], "Resource": sorted({check["Resource"] for check in checks})}]


def _kms_statements(program: Ours, keys: Sequence[str]) -> list[dict[str, Any]]:
    # A rotation opens a secret before it seals it again.
    actions = ["kms:Decrypt"] if program == "workers" else ["kms:Decrypt", "kms:GenerateDataKey"]
    return [{"Effect": "Allow", "Action": actions, "Resource": sorted(keys)}] if keys else []


def _length(policy: Policy) -> int:
    return len(json.dumps(policy, separators=(",", ":")))
