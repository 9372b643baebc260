"""IAM policies: what our own programs need, and what a customer grants."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pushrail_stream.core.destination import Destination
from pushrail_stream.operations.aws_access import Ours, customer_policies, our_policy
from tests.support.builders import partner_destination
from tests.support.documents import ACCESS_KEY, accepted

KEY = "arn:aws:kms:us-east-1:210987654321:key/a"


def role(account: str, name: str) -> dict[str, str]:
    return {"mode": "ASSUME_ROLE", "roleArn": f"arn:aws:iam::{account}:role/{name}", "externalId": "ext"}


ROLES = [accepted(), accepted(auth=role("210987654321", "x/B"))]


def ours(
    *destinations: Destination, program: Ours = "workers", keys: tuple[str, ...] = (), any_account: bool = False
) -> tuple[list[Any], tuple[str, ...]]:
    policy, remarks = our_policy(program, destinations, keys, "us-east-1", any_account=any_account)
    assert policy["Version"] == "2012-10-17"
    assert {statement["Effect"] for statement in policy["Statement"]} <= {"Allow"}
    return [(one["Action"], one["Resource"]) for one in policy["Statement"]], remarks


def test_workers_may_assume_the_roles_of_the_documents() -> None:
    key_pair = accepted(auth=ACCESS_KEY)
    statements, remarks = ours(*ROLES, key_pair)
    assert statements == [
        (
            "sts:AssumeRole",
            ["arn:aws:iam::123456789012:role/PushrailEventBridgeWriter", "arn:aws:iam::210987654321:role/x/B"],
        )
    ]
    assert remarks == ("print it again for each new customer, or allow roles of any account with --any-account",)


def test_names_stand_for_the_roles_of_any_account() -> None:
    statements, remarks = ours(*ROLES, any_account=True)
    assert statements == [
        ("sts:AssumeRole", ["arn:aws:iam::*:role/PushrailEventBridgeWriter", "arn:aws:iam::*:role/x/B"])
    ]
    assert remarks == ()


def test_a_policy_that_would_be_too_long_names_roles_by_name() -> None:
    many = [accepted(auth=role(f"{number:012}", "Writer"), customerExternalId=f"c{number}") for number in range(200)]
    statements, remarks = ours(*many)
    assert statements == [("sts:AssumeRole", ["arn:aws:iam::*:role/Writer"])]
    assert remarks == ("200 roles do not fit into a policy: their names stand for them, in any account",)
    different = [accepted(auth=role("123456789012", f"Writer-{number:030}")) for number in range(200)]
    _, remarks = ours(*different)
    assert "a managed policy at most 6144: split it" in remarks[-1]


def test_a_role_of_another_partition_is_left_out_and_told() -> None:
    auth = {"mode": "ASSUME_ROLE", "roleArn": "arn:aws-cn:iam::123456789012:role/r", "externalId": "ext"}
    bus = "arn:aws-cn:events:cn-north-1:123456789012:event-bus/b"
    statements, remarks = ours(accepted(busArn=bus, region="cn-north-1", auth=auth))
    assert statements == [("sts:AssumeRole", ["arn:aws:iam::*:role/PushrailEventBridgeWriter"])]
    assert remarks[0] == "roles of other AWS partitions than aws are left out: 1"
    assert "no destination has a role yet" in remarks[1]


def test_keys_in_kms_need_their_own_rights() -> None:
    statements, _ = ours(ROLES[0], keys=(KEY,))
    assert statements[1] == (["kms:Decrypt"], [KEY])
    assert ours(program="sealing", keys=(KEY,))[0] == [(["kms:Decrypt", "kms:GenerateDataKey"], [KEY])]
    statements, remarks = ours(program="sealing")
    assert (statements, remarks) == ([], ("no sealing key is in KMS: commands that seal need no rights at AWS",))


def test_a_customer_trusts_our_account_with_the_external_id_alone() -> None:
    policies = customer_policies(accepted(), "210987654321")
    [trust] = policies["trust"]["Statement"]
    assert trust["Principal"] == {"AWS": "arn:aws:iam::210987654321:root"}
    assert trust["Condition"] == {"StringEquals": {"sts:ExternalId": "acme-ext-7Pq2"}}
    [permission] = policies["permissions"]["Statement"]
    assert permission["Resource"] == accepted().bus.arn
    assert set(permission["Action"]) == {"events:PutEvents", "events:DescribeEventBus"}


def test_our_account_is_asked_for_when_a_role_needs_it() -> None:
    def ask(partition: str) -> None:
        asked.append(partition)

    asked: list[str] = []
    assert "OUR-ACCOUNT-ID" in json.dumps(customer_policies(accepted(), ask))
    assert customer_policies(accepted(auth=ACCESS_KEY), ask).keys() == {"permissions"}
    assert asked == ["aws"]


@pytest.mark.parametrize(("bus", "actions"), [("event-bus/b", 1), ("event-busv2/b/" + "a" * 25, 2)])
def test_a_bus_that_may_have_a_key_needs_the_right_to_decrypt(bus: str, actions: int) -> None:
    found = accepted(busArn=f"arn:aws:events:us-east-1:123456789012:{bus}")
    statements = customer_policies(found, "210987654321")["permissions"]["Statement"]
    assert ["kms:Decrypt" in str(one) for one in statements] == [False, True][:actions]


def test_workers_may_write_to_the_partner_event_sources_of_the_documents() -> None:
    statements, _ = ours(accepted(), partner_destination(1), partner_destination(2))
    source = "arn:aws:events:us-east-1::event-source/aws.partner/acme.example/{}/events"
    assert statements[1:] == [
        ("events:PutPartnerEvents", "*"),
        ("events:ListPartnerEventSourceAccounts", [source.format(1), source.format(2)]),
    ]


def test_a_customer_grants_nothing_for_a_partner_event_source() -> None:
    assert customer_policies(partner_destination(), "210987654321") == {}
