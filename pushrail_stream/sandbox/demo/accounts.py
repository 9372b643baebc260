"""The customers' AWS accounts, set up as each customer would: role, bus, rule, queue, and a reader of its own queue."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pushrail_stream.sandbox.demo.aws import Credentials, StandIn
from pushrail_stream.sandbox.demo.customers import BUS, OUR_ACCOUNT, OUR_USER, ROLE, Customer, Target

_REGION: Final = "us-east-1"


@dataclass(frozen=True, slots=True)
class Inbox:
    """Where a destination's events end up, and the keys of the customer who may read there."""

    destination: str
    region: str
    queue_url: str
    owner: Credentials


@dataclass(frozen=True, slots=True)
class Accounts:
    """All accounts, ready for use."""

    own: Credentials
    """Ours: all it may do is assume roles."""
    inboxes: Mapping[str, Inbox]
    """By destination id."""


def set_up(stand_in: StandIn, customers: Sequence[Customer]) -> Accounts:
    """Make every account. IAM must not be enforced yet: nobody has any rights to begin with."""
    sts = stand_in.client("sts", _REGION, Credentials("AKIASANDBOXSANDBOX00", "sandbox"))
    own = _make_user(stand_in.client("iam", _REGION, _root(sts, OUR_ACCOUNT)), OUR_USER, "sts:AssumeRole")
    inboxes: dict[str, Inbox] = {}
    for customer in customers:
        root = _root(sts, customer.account)
        iam = stand_in.client("iam", _REGION, root)
        _make_role(iam, customer)
        owner = _make_user(iam, "owner", "sqs:*")
        for target in customer.targets:
            inboxes[target.id] = _make_inbox(stand_in, root, customer, target, owner)
    return Accounts(own, inboxes)


def _root(sts: Any, account: str) -> Credentials:
    """Keys that the stand-in counts to this account."""
    given = sts.assume_role(RoleArn=f"arn:aws:iam::{account}:role/root", RoleSessionName="set-up")["Credentials"]
    return Credentials(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])


def _make_user(iam: Any, name: str, action: str) -> Credentials:
    """An IAM user that may do this one thing."""
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="only-this", PolicyDocument=_policy(action))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return Credentials(key["AccessKeyId"], key["SecretAccessKey"])


def _make_role(iam: Any, customer: Customer) -> None:
    # The customer copied another external ID than the one we use for it.
    external_id = "acme-ext-0000" if customer.access == "wrong external ID" else customer.role_external_id
    trust = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{OUR_ACCOUNT}:user/{OUR_USER}"},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"sts:ExternalId": external_id}},
    }
    iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=_document(trust))
    action = "events:DescribeEventBus" if customer.access == "no PutEvents" else "events:PutEvents"
    # The stand-in knows no resources of EventBridge; on AWS this names the bus.
    iam.put_role_policy(RoleName=ROLE, PolicyName="write", PolicyDocument=_policy(action))


def _make_inbox(stand_in: StandIn, root: Credentials, customer: Customer, target: Target, owner: Credentials) -> Inbox:
    events, sqs = (stand_in.client(service, target.region, root) for service in ("events", "sqs"))
    events.create_event_bus(Name=BUS)
    queue_url = sqs.create_queue(QueueName=target.queue_name())["QueueUrl"]
    pattern = {"resources": [target.tenant or customer.external_id]}
    events.put_rule(Name="by-tenant", EventBusName=BUS, EventPattern=json.dumps(pattern))
    events.put_targets(Rule="by-tenant", EventBusName=BUS, Targets=[{"Id": "inbox", "Arn": customer.queue_arn(target)}])
    return Inbox(target.id, target.region, queue_url, owner)


def _policy(action: str) -> str:
    return _document({"Effect": "Allow", "Action": action, "Resource": "*"})


def _document(statement: Mapping[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})
