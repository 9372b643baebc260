"""Onboarding templates: the tools that read them accept them, and they say the documented things."""

from __future__ import annotations

import base64
import functools
import json
import re
import shutil
import subprocess
import unicodedata
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import yaml
from cfnlint.config import ConfigMixIn
from cfnlint.decode.decode import decode_str
from cfnlint.runner import Runner, run_template_by_data
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pushrail_stream.operations.onboarding_templates import Onboarding, _hcl, new_external_id
from pushrail_stream.registry.documents import Parsed, parse_document
from tests.support import hcl

PLAIN = Onboarding(
    vendor="acme",
    customer="acct_8K2zRq",
    region="us-east-1",
    account="123456789012",
    bus="pushrail-events",
    external_id="acme-zWq_3-x",
    our_account="210987654321",
)
VARIANTS = [
    replace(PLAIN, region=region, our_account=our_account, archive_days=days)
    for region in ("us-east-1", "eu-west-1", "cn-north-1", "us-gov-west-1")
    for our_account in ("210987654321", None)
    for days in (None, 30)
]
HOSTILE = [
    'a"b', "a'b", "${aws:x}", "$${x}", "$$${x}", "%{if true}", "%%{x", "a\nb", "a\r\n\tb", "\\", '\\"', "\b\f\0\x7f",
    "Zoë 😀", "\u0085\u2028\u202e\ufeff", "1e3", "012", "yes", "null", "~", "- a: b # c", "{{x}}", "<<EOT", "!Sub x",
    "", "\U000e0001",
]  # fmt: skip
VENDORS_ACCOUNT = "210987654321"
FIRST_CONSUMER = ["Failures", "FailuresPolicy", "Log", "LogPolicy", "LogEvents"]
TEXT = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=30))


def parsed(onboarding: Onboarding) -> Parsed:
    content = json.dumps(onboarding.document()).encode()
    found = parse_document(content, environ={}, default_max_in_flight=8)
    assert isinstance(found, Parsed), found
    return found


def complaints(template: str, region: str) -> list[str]:
    document, problems = decode_str(template)
    if document is not None and not problems:
        problems = list(run_template_by_data(document, ConfigMixIn(regions=[region]), all_rules()))
    return [f"{match.rule.id} {match.message}" for match in problems]


@functools.cache
def all_rules() -> Any:
    """Those of cfn-lint, which takes half a second to read them."""
    return Runner(ConfigMixIn(regions=["us-east-1"])).rules


@pytest.fixture
def terraform(tmp_path: Path) -> Any:
    """The program, run in a folder of its own; the test is left out, with its reason, where there is none."""
    program = shutil.which("terraform")
    if program is None:
        pytest.skip("TERRAFORM MISSING: its templates were not checked. Put terraform 1.x on PATH.")
    rc = tmp_path / "terraformrc"
    rc.touch()

    def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        environ = {"TF_CLI_CONFIG_FILE": str(rc), "CHECKPOINT_DISABLE": "1", "PATH": "/usr/bin:/bin"}
        command = [program, *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environ, input=stdin, capture_output=True, text=True, check=False
        )

    return run


# The document.


@pytest.mark.parametrize(
    ("region", "partition"),
    [
        ("us-east-1", "aws"),
        ("cn-north-1", "aws-cn"),
        ("cn-northwest-1", "aws-cn"),
        ("us-gov-east-1", "aws-us-gov"),
        ("eusc-de-east-1", "aws-eusc"),
        ("us-iso-east-1", "aws-iso"),
    ],
)
def test_arns_have_the_regions_partition(region: str, partition: str) -> None:
    onboarding = replace(PLAIN, region=region)
    destination = parsed(onboarding).destination
    assert destination.bus.arn == f"arn:{partition}:events:{region}:123456789012:event-bus/pushrail-events"
    assert onboarding.role_arn == f"arn:{partition}:iam::123456789012:role/PushrailEventBridgeWriter"
    (statement,) = onboarding.trust_policy()["Statement"]
    assert statement["Principal"] == {"AWS": f"arn:{partition}:iam::210987654321:root"}
    assert f'"arn:{partition}:iam::210987654321:root"' in onboarding.terraform()
    for known in (onboarding, replace(onboarding, our_account=None)):
        assert f"arn:{partition}:iam::" in known.cloudformation()


def test_the_document_begins_disabled() -> None:
    document = PLAIN.document()
    assert document["enabled"] is False
    assert document["auth"] == {"mode": "ASSUME_ROLE", "roleArn": PLAIN.role_arn, "externalId": "acme-zWq_3-x"}


def test_every_external_id_is_new() -> None:
    made = {new_external_id("acme") for _ in range(100)}
    assert len(made) == 100
    for external_id in made:
        parsed(replace(PLAIN, external_id=external_id))


@given(customer=st.text(min_size=1, max_size=256))
def test_a_customer_of_any_name_gets_a_document(customer: str) -> None:
    onboarding = replace(PLAIN, customer=customer)
    assert parsed(onboarding).destination.customer_external_id == customer
    assert onboarding.rules()["by tenant"]["resources"] == [customer]


@given(st.lists(st.text("ab -\n\U0001f600", min_size=1, max_size=80), min_size=2, max_size=2, unique=True))
def test_two_customers_have_two_ids(customers: list[str]) -> None:
    one, other = (replace(PLAIN, customer=customer).destination_id for customer in customers)
    assert one != other


def test_an_external_id_is_readable() -> None:
    assert PLAIN.destination_id == "dst_acme_acct_8K2zRq"
    assert replace(PLAIN, customer="a b").destination_id.startswith("dst_acme_a-b-")


# CloudFormation.


@pytest.mark.parametrize("onboarding", VARIANTS, ids=lambda o: f"{o.region} {o.our_account} {o.archive_days}")
def test_cfn_lint_finds_nothing(onboarding: Onboarding) -> None:
    assert complaints(onboarding.cloudformation(), onboarding.region) == []


def test_cfn_lint_finds_an_error() -> None:
    assert complaints(PLAIN.cloudformation().replace("RoleName:", "RoleNam:"), "us-east-1")


def test_the_role_is_limited_to_one_bus() -> None:
    template = yaml.safe_load(PLAIN.cloudformation())
    writer = template["Resources"]["Writer"]["Properties"]
    assert writer["AssumeRolePolicyDocument"] == PLAIN.trust_policy()
    (policy,) = writer["Policies"]
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert statement == {
        "Effect": "Allow",
        "Action": ["events:PutEvents", "events:DescribeEventBus"],
        "Resource": {"Fn::GetAtt": ["Bus", "Arn"]},
    }
    assert PLAIN.permissions_policy()["Statement"] == [{**statement, "Resource": PLAIN.bus_arn}]
    assert PLAIN.trust_policy()["Statement"][0]["Condition"] == {"StringEquals": {"sts:ExternalId": "acme-zWq_3-x"}}


@given(vendor=TEXT, bus=TEXT, role=TEXT, external_id=TEXT, our_account=st.sampled_from(["210987654321", None]))
def test_cloudformation_reads_back_unchanged(
    vendor: str, bus: str, role: str, external_id: str, our_account: str | None
) -> None:
    onboarding = replace(
        PLAIN, vendor=vendor, bus=bus, role=role, external_id=external_id, our_account=our_account, archive_days=1
    )
    template = yaml.safe_load(onboarding.cloudformation())
    resources = template["Resources"]
    assert resources["Bus"]["Properties"] == {"Name": bus}
    assert resources["Writer"]["Properties"]["RoleName"] == role
    (trust,) = resources["Writer"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Condition"] == {"StringEquals": {"sts:ExternalId": external_id}}
    assert resources["Archive"]["Properties"]["EventPattern"] == {"source": [f"pushrail.{vendor}"]}
    # Substitution is asked for in one place, which holds nothing but our own account.
    substituted = {"Fn::Sub": "arn:aws:iam::${VendorAccountId}:root"}
    assert trust["Principal"] == {"AWS": "arn:aws:iam::210987654321:root" if our_account else substituted}
    assert list(resources) == ["Bus", "Writer", *FIRST_CONSUMER, "Archive"]
    assert resources["LogEvents"]["Properties"]["EventPattern"] == {"source": [f"pushrail.{vendor}"]}
    assert json.loads(resources["LogPolicy"]["Properties"]["PolicyDocument"]) == onboarding.log_policy()


def test_a_name_like_a_number_stays_text() -> None:
    assert 'Name: "1e3"\n' in replace(PLAIN, bus="1e3").cloudformation()


# Terraform.


def test_terraform_fmt_finds_nothing(terraform: Any, tmp_path: Path) -> None:
    hostile = [replace(PLAIN, vendor=t, bus=t, role=t, external_id=t, archive_days=1) for t in HOSTILE]
    for number, onboarding in enumerate([*VARIANTS, *hostile, *(replace(o, our_account=None) for o in hostile)]):
        (tmp_path / f"{number}.tf").write_text(onboarding.terraform(), encoding="utf-8")
    done = terraform("fmt", "-check", "-diff", ".")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("right", "wrong"), [('"acme-zWq_3-x"', '"acme"-x"'), ("  name = ", "   name = ")])
def test_terraform_fmt_finds_an_error(terraform: Any, tmp_path: Path, right: str, wrong: str) -> None:
    (tmp_path / "main.tf").write_text(PLAIN.terraform().replace(right, wrong), encoding="utf-8")
    assert terraform("fmt", "-check", ".").returncode != 0


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(TEXT, min_size=1, max_size=30))
def test_terraform_reads_strings_unchanged(terraform: Any, texts: list[str]) -> None:
    texts = [*HOSTILE, *texts]
    # In base 64: the console would show the text with escapes of its own.
    done = terraform("console", stdin=f"base64encode(jsonencode([{', '.join(map(_hcl, texts))}]))\n")
    assert done.returncode == 0, done.stderr
    # Terraform normalises every string it reads, to NFC.
    assert json.loads(base64.b64decode(done.stdout)) == [unicodedata.normalize("NFC", text) for text in texts]


def references(onboarding: Onboarding) -> dict[str, str]:
    """The values that Terraform's references stand for."""
    return {
        "aws_cloudwatch_event_bus.pushrail.arn": onboarding.bus_arn,
        "aws_cloudwatch_log_group.events.arn": onboarding.log_group_arn,
        "aws_sqs_queue.failures.arn": onboarding.failures_arn,
        "var.vendor_account_id": VENDORS_ACCOUNT,
    }


def policies(onboarding: Onboarding) -> dict[str, Any]:
    """The policies and patterns in Terraform's template, by resource and attribute."""
    known = replace(onboarding, our_account=onboarding.our_account or VENDORS_ACCOUNT)
    pattern = {"source": [onboarding.source]}
    return {
        "aws_iam_role.assume_role_policy": known.trust_policy(),
        "aws_iam_role_policy.policy": known.permissions_policy(),
        "aws_cloudwatch_log_resource_policy.policy_document": known.log_policy(),
        "aws_sqs_queue_policy.policy": known.failures_policy(),
        "aws_cloudwatch_event_rule.event_pattern": pattern,
        **({} if onboarding.archive_days is None else {"aws_cloudwatch_event_archive.event_pattern": pattern}),
    }


@pytest.mark.parametrize("onboarding", VARIANTS, ids=lambda o: f"{o.region} {o.our_account} {o.archive_days}")
def test_terraform_has_the_same_policies(onboarding: Onboarding) -> None:
    assert hcl.encoded(onboarding.terraform(), references(onboarding)) == policies(onboarding)


@pytest.mark.parametrize(
    "onboarding",
    [*VARIANTS, *(replace(PLAIN, vendor=t, external_id=t, archive_days=1) for t in HOSTILE)],
)
def test_terraform_reads_the_policies(terraform: Any, tmp_path: Path, onboarding: Onboarding) -> None:
    text = onboarding.terraform()
    for reference, value in references(onboarding).items():
        text = text.replace(f"${{{reference}}}", value).replace(reference, json.dumps(value))
    bodies = dict(hcl.attributes(text))
    names = {name: f"value_{number}" for number, name in enumerate(bodies)}
    (tmp_path / "main.tf").write_text(
        "".join(f"locals {{\n  {names[name]} = jsonencode({body})\n}}\n" for name, body in bodies.items())
    )
    pairs = ", ".join(f'"{name}" = jsondecode(local.{names[name]})' for name in bodies)
    # In base 64: the console would show the text with escapes of its own.
    done = terraform("console", stdin=f"base64encode(jsonencode({{ {pairs} }}))\n")
    assert done.returncode == 0, done.stderr
    # Terraform normalises every string it reads, to NFC.
    wanted = unicodedata.normalize("NFC", json.dumps(policies(onboarding), ensure_ascii=False))
    assert json.loads(base64.b64decode(done.stdout)) == json.loads(wanted)


@pytest.mark.parametrize("our_account", ["210987654321", None])
def test_each_template_has_instructions(our_account: str | None) -> None:
    onboarding = replace(PLAIN, our_account=our_account, region="eu-west-1")
    heads = []
    for template in (onboarding.cloudformation(), onboarding.terraform()):
        lines = takewhile(lambda line: line.startswith("#"), template.splitlines())
        head = [line.removeprefix("#").strip(" \\") for line in lines]
        assert head[0].startswith("For the account 123456789012, in the region eu-west-1")
        heads.append(" ".join(head[1:]))
    parameter = "" if our_account else " --parameter-overrides VendorAccountId=VENDOR-ACCOUNT-ID"
    deploy = "aws cloudformation deploy --region eu-west-1 --stack-name dst-acme-acct-8K2zRq"
    template = "--template-file cloudformation.yaml --capabilities CAPABILITY_NAMED_IAM"
    assert heads == [f"{deploy} {template}{parameter}", "terraform init AWS_REGION=eu-west-1 terraform apply"]


@given(vendor=TEXT, customer=st.text(min_size=1, max_size=256))
def test_a_stack_name_is_valid(vendor: str, customer: str) -> None:
    lines = replace(PLAIN, vendor=vendor, customer=customer).cloudformation().splitlines()
    assert re.fullmatch(r".* --stack-name [A-Za-z][A-Za-z0-9-]{0,127} \\", lines[1])
    assert sum(line.startswith("#") for line in lines) == 3


def test_an_archives_name_is_bounded() -> None:
    text = replace(PLAIN, bus="b" * 60, archive_days=1).terraform()
    assert f'"{"b" * 48}"' in text
    assert f'"{"b" * 60}"' in text
