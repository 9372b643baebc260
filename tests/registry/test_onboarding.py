"""What a new customer is given: templates that the vendors' own tools accept, and that say one and the same thing."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from cfnlint import decode as cfn_decode
from cfnlint.api import ManualArgs, lint
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.core.destination import AssumeRole
from pushrail_stream.registry import Onboarding, Parsed, new_external_id, parse_document

PLAIN: Final = Onboarding(
    vendor="acme",
    customer="acct_8K2zRq",
    region="us-east-1",
    account="123456789012",
    bus="pushrail-events",
    external_id="acme-7Pq2",
    our_account="111122223333",
)
VARIANTS: Final = {
    "plain": PLAIN,
    "archive": replace(PLAIN, archive_days=30),
    "our account unknown": replace(PLAIN, our_account=None),
    "all of it unknown": replace(PLAIN, our_account=None, archive_days=1, role="Other"),
    "china": replace(PLAIN, region="cn-north-1"),
    "government": replace(PLAIN, region="us-gov-west-1", our_account=None),
}
each_variant = pytest.mark.parametrize("onboarding", VARIANTS.values(), ids=VARIANTS)
HOSTILE: Final = [
    '"',
    "${aws_region}",
    "%{ for x in y }",
    "${AWS::AccountId}",
    "\\",
    "ü",
    "a: b",
    "#",
    "'",
    "{{x}}",
    "!Ref X",
]


def accepted(onboarding: Onboarding) -> Parsed:
    content = json.dumps(onboarding.document()).encode()
    parsed = parse_document(content, environ={}, default_max_in_flight=8)
    assert isinstance(parsed, Parsed), parsed
    return parsed


@each_variant
def test_the_document_is_accepted_and_disabled(onboarding: Onboarding) -> None:
    parsed = accepted(onboarding)
    destination = parsed.destination
    assert parsed.caveats == ()
    assert not destination.enabled
    assert destination.auth == AssumeRole(onboarding.role_arn, onboarding.external_id)
    assert destination.source == onboarding.source


@pytest.mark.parametrize(
    ("region", "partition"), [("us-east-1", "aws"), ("cn-northwest-1", "aws-cn"), ("us-gov-east-1", "aws-us-gov")]
)
def test_every_arn_is_of_the_regions_partition(region: str, partition: str) -> None:
    onboarding = replace(PLAIN, region=region)
    accepted(onboarding)
    texts = (onboarding.cloudformation(), onboarding.terraform(), json.dumps(onboarding.trust_policy()))
    assert onboarding.bus_arn == f"arn:{partition}:events:{region}:123456789012:event-bus/pushrail-events"
    assert all(f"arn:{partition}:iam::111122223333:root" in text for text in texts)


@each_variant
def test_cloudformations_own_linter_finds_nothing(onboarding: Onboarding) -> None:
    assert lint(onboarding.cloudformation(), config=ManualArgs(regions=[onboarding.region])) == []


def test_the_linter_would_find_something() -> None:
    template = PLAIN.cloudformation().replace("AWS::IAM::Role", "AWS::IAM::Rule")
    assert [match.rule.id for match in lint(template, config=ManualArgs(regions=["us-east-1"]))] == ["E3006"]


@each_variant
def test_terraform_finds_the_configuration_well_written(onboarding: Onboarding, tmp_path: Path) -> None:
    assert formatted(onboarding.terraform(), tmp_path) == (0, "")


def test_terraform_would_find_something(tmp_path: Path) -> None:
    assert formatted(PLAIN.terraform().replace("source  =", "source ="), tmp_path)[0] != 0
    assert formatted(PLAIN.terraform() + '\nresource "x" {', tmp_path)[0] != 0


def formatted(content: str, folder: Path) -> tuple[int, str]:
    """Exit code and complaints of `terraform fmt -check`, which parses what it formats."""
    terraform = shutil.which("terraform")
    if terraform is None:
        pytest.skip("terraform is not on PATH: the customers' Terraform files are not checked here")
    (folder / "main.tf").write_text(content, encoding="utf-8")
    (folder / "empty.tfrc").touch()
    done = subprocess.run(
        [terraform, "fmt", "-check", "-diff", "-no-color", str(folder)],
        capture_output=True, text=True, check=False, timeout=60, env={"TF_CLI_CONFIG_FILE": str(folder / "empty.tfrc")},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def role_of(onboarding: Onboarding) -> dict[str, Any]:
    role: dict[str, Any] = yaml.safe_load(onboarding.cloudformation())["Resources"]["Writer"]["Properties"]
    return role


def test_the_role_may_be_assumed_by_our_account_with_this_external_id_alone() -> None:
    [statement] = PLAIN.trust_policy()["Statement"]
    assert statement == {
        "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::111122223333:root"},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"sts:ExternalId": "acme-7Pq2"}},
    }
    assert role_of(PLAIN)["AssumeRolePolicyDocument"] == PLAIN.trust_policy()
    unknown = role_of(replace(PLAIN, our_account=None))["AssumeRolePolicyDocument"]["Statement"][0]
    assert unknown["Principal"] == {"AWS": {"Fn::Sub": "arn:aws:iam::${VendorAccountId}:root"}}
    assert unknown["Condition"] == statement["Condition"]


def test_the_role_may_do_what_delivering_takes_and_no_more() -> None:
    [statement] = PLAIN.permissions_policy()["Statement"]
    assert statement == {
        "Effect": "Allow",
        "Action": ["events:PutEvents", "events:DescribeEventBus"],
        "Resource": PLAIN.bus_arn,
    }
    [policy] = role_of(PLAIN)["Policies"]
    [granted] = policy["PolicyDocument"]["Statement"]
    assert granted == statement | {"Resource": {"Fn::GetAtt": ["Bus", "Arn"]}}
    assert 'Action   = ["events:PutEvents", "events:DescribeEventBus"]' in PLAIN.terraform()
    assert "Resource = aws_cloudwatch_event_bus.pushrail.arn" in PLAIN.terraform()


def test_an_archive_is_made_only_where_it_is_wanted() -> None:
    assert "Archive" not in PLAIN.cloudformation() + PLAIN.terraform()
    kept = replace(PLAIN, archive_days=30)
    properties = yaml.safe_load(kept.cloudformation())["Resources"]["Archive"]["Properties"]
    assert (properties["RetentionDays"], properties["EventPattern"]) == (30, {"source": ["pushrail.acme"]})
    assert "retention_days   = 30" in kept.terraform()


def test_an_external_id_is_random_and_one_sts_takes() -> None:
    ids = {new_external_id("acme") for _ in range(100)}
    assert len(ids) == 100
    for external_id in ids:
        assert external_id.startswith("acme-")
        accepted(replace(PLAIN, external_id=external_id))


TEXT = st.one_of(st.sampled_from(HOSTILE), st.text(min_size=1, max_size=20)).map(lambda text: text + "x")


@given(TEXT, TEXT, TEXT, TEXT)
def test_no_name_says_something_else_in_a_template(vendor: str, customer: str, bus: str, external_id: str) -> None:
    """Names are refused elsewhere; here they are data whatever they are."""
    onboarding = replace(PLAIN, vendor=vendor, customer=customer, bus=bus, external_id=external_id)
    try:
        template = yaml.safe_load(onboarding.cloudformation())
    except yaml.YAMLError as error:
        raise AssertionError(onboarding) from error
    assert template["Resources"]["Bus"]["Properties"]["Name"] == bus
    assert role_of(onboarding)["AssumeRolePolicyDocument"] == onboarding.trust_policy()
    assert onboarding.trust_policy()["Statement"][0]["Condition"]["StringEquals"]["sts:ExternalId"] == external_id
    assert template["Description"] == f"An event bus for {vendor}, and the role that may write to it"
    assert json.loads(json.dumps(onboarding.rules()))["by tenant"]["resources"] == [customer]


def test_no_name_is_a_template_of_terraforms(tmp_path: Path) -> None:
    for index, text in enumerate(HOSTILE):
        folder = tmp_path / str(index)
        folder.mkdir()
        onboarding = replace(PLAIN, vendor=text, bus=text, external_id=text, our_account=None, archive_days=1)
        assert formatted(onboarding.terraform(), folder) == (0, "")
        assert "${aws_region}" not in onboarding.terraform().replace("$${aws_region}", "")
        assert "%{ for" not in onboarding.terraform().replace("%%{ for", "")


def test_the_linter_reads_what_is_written() -> None:
    template, problems = cfn_decode.decode_str(PLAIN.cloudformation())
    assert problems == []
    assert template["Outputs"].keys() == {"BusArn", "RoleArn"}
