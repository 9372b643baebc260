"""Policies: onboarding's decide as in IAM, and elements that cannot be evaluated are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pushrail_stream.operations.onboarding_templates import Onboarding
from pushrail_stream.sandbox.bus.faults import FieldError
from pushrail_stream.sandbox.bus.policies import Permissions, Principal, TrustPolicy
from pushrail_stream.sandbox.bus.server import FaultBus
from tests.support.bus_clients import ACCOUNT, KEY, SECRET, client, control, entry, refusal

OUR_ACCOUNT = "999999999999"
ONBOARDING = Onboarding(
    vendor="acme",
    customer="acct_1",
    region="us-east-1",
    account=ACCOUNT,
    bus="pushrail-events",
    external_id="acme-x",
    our_account=OUR_ACCOUNT,
)
US = Principal(OUR_ACCOUNT, (f"arn:aws:iam::{OUR_ACCOUNT}:user/pushrail",))
STRANGER = Principal("210987654321", ("arn:aws:iam::210987654321:user/pushrail",))


def statement(**changes: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": "events:PutEvents", "Resource": "*"} | changes


def policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def test_the_role_trusts_our_account_only() -> None:
    trust = TrustPolicy(ONBOARDING.trust_policy())
    assert trust.allows(US, "acme-x")
    assert not trust.allows(US, "acme-y")
    assert not trust.allows(US, None)
    assert not trust.allows(STRANGER, "acme-x")


def test_the_role_may_write_to_its_bus_only() -> None:
    permissions = Permissions([ONBOARDING.permissions_policy()])
    assert permissions.allow("events:PutEvents", ONBOARDING.bus_arn)
    assert permissions.allow("events:DescribeEventBus", ONBOARDING.bus_arn)
    assert not permissions.allow("events:PutEvents", f"{ONBOARDING.bus_arn}-2")
    assert not permissions.allow("sqs:ReceiveMessage", ONBOARDING.bus_arn)


@pytest.mark.parametrize(
    ("principal", "is_named"),
    [
        ("*", True),
        ({"AWS": "*"}, True),
        ({"AWS": OUR_ACCOUNT}, True),
        ({"AWS": US.arns[0]}, True),
        ({"AWS": ["210987654321", f"arn:aws:iam::{OUR_ACCOUNT}:root"]}, True),
        ({"AWS": f"arn:aws:iam::{OUR_ACCOUNT}:user/other"}, False),
        ({"AWS": "arn:aws:iam::210987654321:root"}, False),
    ],
)
def test_a_principal_is_an_account_an_arn_or_everyone(principal: Any, is_named: bool) -> None:  # noqa: FBT001
    trust = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    assert TrustPolicy(policy(trust)).allows(US, None) is is_named


def test_wildcards_match_and_a_denial_wins() -> None:
    permissions = Permissions(
        [
            policy(statement(Action="EVENTS:Put*", Resource=["bus/a?", "bus/b"])),
            policy(statement(Effect="Deny", Resource="bus/ab")),
        ]
    )
    assert [permissions.allow("events:PutEvents", bus) for bus in ("bus/aa", "bus/ab", "bus/b", "bus/c")] == [
        True, False, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (policy(statement(NotAction="events:*")), "permissionsPolicies.Statement.0.NotAction"),
        (policy(statement(Condition={"IpAddress": {}})), "permissionsPolicies.Statement.0.Condition.StringEquals"),
        (
            policy(statement(Condition={"StringEquals": {"sts:ExternalId": "a"}})),
            "permissionsPolicies.Statement.0.Condition",
        ),
        (policy(statement(Principal="*")), "permissionsPolicies.Statement.0.Principal"),
        (policy(statement(Resource=None)), "permissionsPolicies.Statement.0.Resource"),
        (policy(statement(Effect="allow")), "permissionsPolicies.Statement.0.Effect"),
        ({"Version": "2012-10-17"}, "permissionsPolicies.Statement"),
        ([], "permissionsPolicies"),
    ],
    ids=str,
)
def test_an_unknown_element_is_refused(document: Any, field: str) -> None:
    with pytest.raises(FieldError) as refused:
        Permissions([document])
    assert str(refused.value).startswith(f"{field}: ")


def test_another_condition_is_refused() -> None:
    trust = {"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}
    conditions = ({"StringLike": {"sts:ExternalId": "a*"}}, {"StringEquals": {"aws:SourceAccount": ACCOUNT}})
    for condition in conditions:
        with pytest.raises(FieldError, match=r"trustPolicy\.Statement\.0\.Condition"):
            TrustPolicy(policy(trust | {"Condition": condition}))


async def test_every_call_evaluates_the_policies() -> None:
    other = replace(ONBOARDING, bus="other")
    async with FaultBus.serve() as bus:
        bus.add_bus(ONBOARDING.bus_arn)
        bus.add_key(KEY, SECRET, account=OUR_ACCOUNT, buses=[])
        bus.add_key("AKIASTRANGER", SECRET, account=STRANGER.account)
        document = {
            "roleArn": ONBOARDING.role_arn,
            "trustPolicy": ONBOARDING.trust_policy(),
            "permissionsPolicies": [ONBOARDING.permissions_policy()],
        }
        assert await control(bus, "POST", "roles", document) == (200, {})
        ask = {"RoleArn": ONBOARDING.role_arn, "RoleSessionName": "acme", "ExternalId": "acme-x"}
        async with client("sts", bus, key="AKIASTRANGER") as sts:
            assert (await refusal(sts.assume_role(**ask)))[:2] == (403, "AccessDenied")
        async with client("sts", bus) as sts:
            keys = (await sts.assume_role(**ask))["Credentials"]
        session = {"key": keys["AccessKeyId"], "secret": keys["SecretAccessKey"], "token": keys["SessionToken"]}
        async with client("events", bus, **session) as events:
            await events.put_events(Entries=[entry(EventBusName=ONBOARDING.bus_arn)])
            denied = await refusal(events.put_events(Entries=[entry(EventBusName=other.bus_arn)]))
            assert denied[:2] == (400, "AccessDeniedException")
            assert (await refusal(events.describe_event_bus(Name=other.bus_arn)))[1] == "AccessDeniedException"
        document["trustPolicy"] = {"Version": "2012-10-17"}
        status, answer = await control(bus, "POST", "roles", document)
        assert (status, answer["error"]) == (400, "trustPolicy.Statement: Field required")
