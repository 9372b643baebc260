"""The customer's files: their tools take them, their rules match, and the first event is seen in their log group."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import botocore.session
import pytest
import yaml
from botocore import xform_name
from botocore.validate import ParamValidator
from moto import mock_aws

from pushrail_stream.eventbridge.verify import TEST_EVENT, verify
from pushrail_stream.operations.onboarding_files import customer_files, example_event, put_rules, put_targets
from pushrail_stream.operations.onboarding_templates import Onboarding
from pushrail_stream.patterns import compile_pattern
from pushrail_stream.registry.documents import Parsed, parse_document
from pushrail_stream.sandbox.bus.server import FaultBus
from pushrail_stream.settings.model import EventBridgeSettings, StsSettings
from tests.operations.test_onboarding_templates import HOSTILE, PLAIN, complaints
from tests.support.builders import v2_bus_arn
from tests.support.bus_clients import ACCOUNT, KEY, SECRET, client
from tests.support.moto_server import moto_server, url_of
from tests.support.stock_client import stock_session

FILES = customer_files(PLAIN)
EXAMPLES = [name for name in FILES if name.startswith("examples/")]
STOCK = botocore.session.get_session()


def refused(service: str, operation: str, request: Any) -> str:
    """The complaints of AWS's own model about a request."""
    shape = STOCK.get_service_model(service).operation_model(operation).input_shape
    assert shape is not None
    return str(ParamValidator().validate(request, shape).generate_report())


def page_commands() -> Iterator[tuple[str, list[str]]]:
    """The calls of the AWS CLI on the page: the operation, and the words after it."""
    for line in FILES["README.md"].splitlines():
        words = shlex.split(line) if line.lstrip().startswith("aws ") else []
        if words and words[1:3] != ["logs", "tail"]:  # a command of the CLI that is no call of AWS
            yield f"{words[1]} {words[2]}", words[3:]


# The rules.


def test_the_aws_cli_takes_every_rule_and_target() -> None:
    rules = [json.loads(FILES[f"put-rule-{name}.json"]) for name in ("by-tenant", "by-event-type", "by-payload-field")]
    targets = json.loads(FILES["put-targets.json"])
    assert [refused("events", "PutRule", rule) for rule in rules] == ["", "", ""]
    assert refused("events", "PutTargets", targets) == ""
    assert targets["Rule"] == rules[0]["Name"]
    assert {request["EventBusName"] for request in [*rules, targets]} == {"pushrail-events"}


def test_aws_model_refuses_a_wrong_rule() -> None:
    rule = json.loads(FILES["put-rule-by-tenant.json"])
    assert refused("events", "PutRule", {**rule, "Name": ""})
    assert refused("events", "PutRule", rule | {"EventPattern": {}})


@pytest.mark.parametrize("rule", put_rules(PLAIN), ids=lambda rule: str(rule["Name"]))
def test_each_rule_matches_the_example_event(rule: dict[str, Any]) -> None:
    event = json.loads(FILES["example-event.json"])
    matches = compile_pattern(json.loads(rule["EventPattern"]))
    assert matches(event)
    stranger = event | {"resources": ["acct_other", "k"], "detail-type": "invoice.paid", "detail": {"payload": {}}}
    assert not matches(stranger)
    assert not matches(event | {"source": "own.app"})


@pytest.mark.parametrize("customer", ["😀" * 256, *(text for text in HOSTILE if text)])
def test_a_rule_of_any_customer_fits(customer: str) -> None:
    """EventBridge takes 2,048 characters of a pattern."""
    onboarding = replace(PLAIN, customer=customer)
    for rule in put_rules(onboarding):
        assert refused("events", "PutRule", rule) == ""
        assert len(rule["EventPattern"]) <= 2048
        assert compile_pattern(json.loads(rule["EventPattern"]))(example_event(onboarding))


@pytest.mark.parametrize("bus", ["b" * 256, "a.b", "-"])
def test_queue_and_log_group_of_any_bus_are_valid(bus: str) -> None:
    onboarding = replace(PLAIN, bus=bus)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,80}", onboarding.failures)
    assert refused("logs", "CreateLogGroup", {"logGroupName": onboarding.log_group}) == ""
    assert complaints(onboarding.cloudformation(), onboarding.region) == []


# Beside a bus of eventbridgev2.

V2 = replace(PLAIN, v2_bus=v2_bus_arn("acme"), bus="bus-acme")


def test_a_subscriber_takes_every_event() -> None:
    files = customer_files(V2)
    resources = yaml.safe_load(files["cloudformation.yaml"])["Resources"]
    assert list(resources) == ["Writer", "Failures", "Queue", "Deliverer", "Subscriber"], "the bus is there"
    subscriber = resources["Subscriber"]["Properties"]
    arns = {"Queue": "arn:aws:sqs:us-east-1:123456789012:q", "Deliverer": "arn:aws:iam::123456789012:role/d"}
    arns["Failures"] = V2.failures_arn
    known = json.loads(
        re.sub(r'\{"Fn::GetAtt": \["(\w+)", "Arn"\]\}', lambda m: f'"{arns[m[1]]}"', json.dumps(subscriber))
    )
    assert refused("eventbridgev2", "CreateSubscriber", known) == ""
    (only,) = known["FilterConfiguration"]["Filters"]
    matches = compile_pattern(json.loads(only["Pattern"]))
    event = json.loads(files["example-event.json"])
    assert (only["Scope"], matches(event), matches(event | {"source": "own.app"})) == ("DATA", True, False)
    assert known["EventBusArn"] == V2.v2_bus


@pytest.mark.parametrize("our_account", ["210987654321", None])
def test_the_template_beside_a_v2_bus_is_valid(our_account: str | None) -> None:
    found = complaints(replace(V2, our_account=our_account).cloudformation(), V2.region)
    assert [line for line in found if "AWS::EventsV2::Subscriber" not in line] == [], (
        "cfn-lint may not know the type yet"
    )


def test_the_role_beside_a_v2_bus_may_use_its_key() -> None:
    policies = json.loads(customer_files(V2)["policies.json"])
    put, decrypt = policies["permissions"]["Statement"]
    assert put["Resource"] == V2.v2_bus
    assert decrypt["Condition"] == {"StringEquals": {"kms:EncryptionContext:aws:events:event-busv2:arn": V2.v2_bus}}
    writer = yaml.safe_load(V2.cloudformation())["Resources"]["Writer"]["Properties"]["Policies"][0]
    assert writer["PolicyDocument"] == policies["permissions"]


def test_the_page_beside_a_v2_bus_names_its_side() -> None:
    files = customer_files(V2)
    page = files["README.md"]
    for fact in (V2.v2_bus, "`bus-acme`", "`pushrail.acme`", V2.failures_arn, "`BusKeyDenied`", "acct_8K2zRq"):
        assert str(fact) in page, fact
    assert "@" not in page, "every value is filled in"
    assert set(re.findall(r"`([\w/-]+\.(?:yaml|tf|json))`", page)) < files.keys()
    assert files.keys() == {"README.md", "cloudformation.yaml", "policies.json", "example-event.json"}


# The page.


def test_the_page_names_the_customers_own_side() -> None:
    page = FILES["README.md"]
    for fact in (
        "123456789012", "us-east-1", "`pushrail-events`", "`pushrail.acme`", "`/aws/events/pushrail-events`",
        "`pushrail.test`", PLAIN.failures_arn, "`detail.idempotencyKey`", "acct_8K2zRq",
    ):  # fmt: skip
        assert fact in page, fact
    assert "@" not in page.replace("@idempotent(", ""), "every value is filled in"
    assert TEST_EVENT == "pushrail.test"


def test_the_page_names_every_file_and_no_other() -> None:
    named = set(re.findall(r"(?:`|file://)([\w/-]+\.(?:yaml|tf|json))\b", FILES["README.md"]))
    assert named <= FILES.keys()
    assert set(EXAMPLES) | {"cloudformation.yaml", "main.tf", "policies.json", "example-event.json"} <= named


def test_every_command_of_the_page_can_be_called() -> None:
    found = list(page_commands())
    assert [name for name, _ in found] == ["events put-rule", "events put-targets", "events test-event-pattern"]
    model = STOCK.get_service_model("events")
    operations = {xform_name(name, "-"): model.operation_model(name) for name in model.operation_names}
    for name, words in found:
        shape = operations[name.split()[1]].input_shape
        assert shape is not None
        options = dict(zip(words[::2], words[1::2], strict=True))
        known = {f"--{xform_name(member, '-')}" for member in shape.members}
        assert options.keys() <= known | {"--region", "--cli-input-json"}
        assert {value.removeprefix("file://") for value in words if value.startswith("file://")} <= FILES.keys()


def test_the_pages_pattern_matches_the_pages_event() -> None:
    ((_, words),) = [found for found in page_commands() if found[0].endswith("test-event-pattern")]
    pattern = json.loads(words[words.index("--event-pattern") + 1])
    assert compile_pattern(pattern)(json.loads(FILES["example-event.json"]))


def test_the_pages_code_and_json_can_be_read() -> None:
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", FILES["README.md"], re.MULTILINE | re.DOTALL)
    assert [language for language, _ in blocks] == ["json", "json", "python", "python"]
    (event, rules), code = [text for _, text in blocks[:2]], [text for _, text in blocks[2:]]
    assert json.loads(event) == example_event(PLAIN)
    assert [json.loads(line) for line in rules.splitlines()] == list(PLAIN.rules().values())
    for text in code:
        compile(text, "page", "exec")


@pytest.mark.parametrize("customer", ["```\n# x", "`", "@bus", "a\nb", "\x1b[31m"])
def test_no_customer_name_changes_the_page(customer: str) -> None:
    page = customer_files(replace(PLAIN, customer=customer))["README.md"]
    plain = FILES["README.md"].replace('"acct_8K2zRq"', json.dumps(customer))
    assert page == plain
    assert all(line.isprintable() for line in page.splitlines())


async def test_the_example_event_has_the_form_of_a_real_one() -> None:
    """As the sandbox's bus passes it to its rules."""
    example = example_event(replace(PLAIN, account=ACCOUNT))
    async with FaultBus.serve() as bus:
        bus.add_key(KEY, SECRET)
        bus_arn = replace(PLAIN, account=ACCOUNT).bus_arn
        bus.add_rule(bus_arn, "all", {"source": ["pushrail.acme"]})
        async with client("events", bus) as events:
            entry: Any = {
                "Source": example["source"], "DetailType": example["detail-type"], "Time": 1779805268,
                "Detail": json.dumps(example["detail"]), "Resources": example["resources"], "EventBusName": bus_arn,
            }  # fmt: skip
            await events.put_events(Entries=[entry])
        (body,) = bus.event_rules.inbox(bus_arn, "all")
    arrived = json.loads(body)
    assert list(arrived) == list(example)
    assert arrived == example | {"id": arrived["id"]}


# The templates.


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_cfn_lint_finds_nothing_in_an_example(name: str, region: str) -> None:
    assert complaints(customer_files(replace(PLAIN, region=region))[name], region) == []


def test_examples_of_other_partitions_have_their_arns() -> None:
    """cfn-lint knows the resources of state machines in the partition aws only."""
    for name, text in customer_files(replace(PLAIN, region="cn-north-1")).items():
        assert "arn:aws:" not in text, name


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_fits_the_template(name: str) -> None:
    text = FILES[name]
    resources = yaml.safe_load(text)["Resources"]
    (rule,) = [one["Properties"] for one in resources.values() if one["Type"] == "AWS::Events::Rule"]
    assert rule["EventBusName"] == PLAIN.bus
    assert compile_pattern(rule["EventPattern"])(example_event(PLAIN))
    (target,) = rule["Targets"]
    assert target["DeadLetterConfig"] == {"Arn": PLAIN.failures_arn}
    # EventBridge needs a role for a state machine, and takes none for a queue.
    assert ("RoleArn" in target) is (name in {"examples/step-functions.yaml", "examples/scheduler.yaml"})
    assert re.search(r"^# Limits?: ", text, re.MULTILINE)
    assert f"--template-file {name.removeprefix('examples/')}" in text


def test_a_pipe_passes_the_example_event_on() -> None:
    pipe = yaml.safe_load(FILES["examples/pipes.yaml"])["Resources"]["Pipe"]["Properties"]
    (one,) = pipe["SourceParameters"]["FilterCriteria"]["Filters"]
    assert compile_pattern(json.loads(one["Pattern"]))({"body": example_event(PLAIN)})
    assert not compile_pattern(json.loads(one["Pattern"]))({"body": {"detail": {"payload": {"currency": "EUR"}}}})


def for_moto(template: str) -> str:
    """The template without the things that moto's CloudFormation cannot do: queue policies, and a bus as a Ref."""
    document = yaml.safe_load(template)
    resources = document["Resources"]
    del resources["FailuresPolicy"]
    resources["LogEvents"] |= {"DependsOn": ["Bus", "LogPolicy"]}
    resources["LogEvents"]["Properties"]["EventBusName"] = PLAIN.bus
    return json.dumps(document)


@asynccontextmanager
async def applied(url: str, onboarding: Onboarding) -> AsyncIterator[Any]:
    """A customer's account on moto after they have applied the template; a client of its logs."""
    options: dict[str, Any] = {
        "region_name": onboarding.region,
        "endpoint_url": url,
        "aws_access_key_id": KEY,
        "aws_secret_access_key": SECRET,
    }
    session: Any = stock_session()
    async with (
        session.create_client("cloudformation", **options) as formation,
        session.create_client("events", **options) as events,
        session.create_client("logs", **options) as logs,
    ):
        await formation.create_stack(
            StackName="onboarding",
            TemplateBody=for_moto(onboarding.cloudformation()),
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        for rule in put_rules(onboarding):
            await events.put_rule(**rule)
        assert (await events.put_targets(**put_targets(onboarding)))["FailedEntryCount"] == 0
        yield logs


async def test_the_test_event_is_seen_in_the_customers_log_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """The customer applies the template, `destinations test` sends its event, and the log group has it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    onboarding = replace(PLAIN, account=ACCOUNT)
    parsed = parse_document(json.dumps(onboarding.document()).encode(), environ={}, default_max_in_flight=8)
    assert isinstance(parsed, Parsed)
    with moto_server() as server:
        url = url_of(server)
        async with applied(url, onboarding) as logs:
            steps = verify(parsed.destination, EventBridgeSettings(endpoint_url=url), StsSettings(endpoint_url=url))
            told = {step.name: step async for step in steps}
            found = (await logs.filter_log_events(logGroupName=onboarding.log_group))["events"]
            (policy,) = (await logs.describe_resource_policies())["resourcePolicies"]
    assert told["test event"].result == "ok", told
    seen = [json.loads(one["message"]) for one in found]
    # The first rule sends every event there, and the rule by tenant, made with the AWS CLI's files, sends it once more.
    assert [event["detail-type"] for event in seen] == [TEST_EVENT, TEST_EVENT]
    assert {event["id"] for event in seen} == {told["test event"].event_id}
    assert json.loads(policy["policyDocument"]) == onboarding.log_policy()


def test_the_pages_conditional_write_stops_a_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    (_, code) = re.findall(r"^```python\n(.*?)^```$", FILES["README.md"], re.MULTILINE | re.DOTALL)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        database: Any = STOCK.create_client("dynamodb", region_name="us-east-1")
        database.create_table(
            TableName="seen-events",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        names: dict[str, Any] = {}
        exec(code, names)  # noqa: S102 - the customer's program
        event = example_event(PLAIN)
        assert [names["is_new"](one) for one in (event, event | {"id": "another"})] == [True, False]
