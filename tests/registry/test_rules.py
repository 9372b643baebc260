"""The rules for single values of a document."""

from __future__ import annotations

from typing import Any

import pytest

from pushrail_stream.registry.json_document import Problem
from tests.support.documents import ACCESS_KEY, EXAMPLE, SECRET, accepted, document, refused


@pytest.mark.parametrize(
    ("bus", "region", "role"),
    [
        ("arn:aws-cn:events:cn-north-1:123456789012:event-bus/x", "cn-north-1", "arn:aws-cn:iam::123456789012:role/x"),
        (
            "arn:aws-us-gov:events:us-gov-west-1:123456789012:event-bus/x",
            "us-gov-west-1",
            "arn:aws-us-gov:iam::123456789012:role/path/x",
        ),
        ("arn:aws:events:ap-southeast-2:123456789012:event-bus/a.B_9-z", "ap-southeast-2", ...),
        (
            "arn:aws-eusc:events:eusc-de-east-1:123456789012:event-bus/x",
            "eusc-de-east-1",
            "arn:aws-eusc:iam::123456789012:role/x",
        ),
        (
            "arn:aws-iso-b:events:us-isob-east-1:123456789012:event-bus/x",
            "us-isob-east-1",
            "arn:aws-iso-b:iam::123456789012:role/x",
        ),
    ],
)
def test_every_partition_of_botocore_is_accepted(bus: str, region: str, role: Any) -> None:
    auth = EXAMPLE["auth"] if role is ... else {**EXAMPLE["auth"], "roleArn": role}
    assert accepted(busArn=bus, region=region, auth=auth).bus.arn == bus


@pytest.mark.parametrize("event_type", ["*", "order.*", "a.b.*", "order.completed", "x" * 128, "x" * 126 + ".*", "."])
def test_a_filter_is_a_type_a_prefix_or_all(event_type: str) -> None:
    assert accepted(eventTypes=[event_type]).event_types == (event_type,)


NAME = "1 to 64 letters, digits, '.', '_' and '-'"


BUS = "must be the full ARN of a bus: arn:aws:events:REGION:ACCOUNT:event-bus/NAME"


FILTER = "must be an event type of 1 to 128 characters, prefix.* or *"


ARN = EXAMPLE["busArn"]


@pytest.mark.parametrize(
    ("changes", "field", "problem"),
    [
        ({"id": ...}, "id", "is required"),
        ({"id": "a/b"}, "id", f"must be {NAME}, the first a letter or digit"),
        ({"id": "a\n"}, "id", f"must be {NAME}, the first a letter or digit"),
        ({"id": 7}, "id", "must be text"),
        ({"vendor": ""}, "vendor", f"must be {NAME}"),
        ({"customerExternalId": ""}, "customerExternalId", "must be at least 1 characters long"),
        ({"customerExternalId": "x" * 257}, "customerExternalId", "must be at most 256 characters long"),
        ({"type": "SQS"}, "type", "must be 'EVENTBRIDGE'"),
        ({"name": "a\x1b[2J"}, "name", "must be one line of printable text"),
        ({"name": " "}, "name", "must not be empty"),
        ({"busArn": "pushrail-events"}, "busArn", BUS),
        ({"busArn": ARN + "\n"}, "busArn", BUS),
        ({"busArn": ARN.replace("arn:aws:", "arn:aws-mars:")}, "busArn", BUS),
        (
            {"busArn": ARN.replace("arn:aws:", "arn:aws-cn:")},
            "busArn",
            "is of the partition aws-cn, but us-east-1 belongs to aws",
        ),
        ({"busArn": ARN + "/x"}, "busArn", BUS),
        (
            {"busArn": "arn:aws:events:us-east-1:123456789012:event-bus/aws.partner/example.com/acct/1"},
            "busArn",
            "is the ARN of a partner's bus, which PutEvents cannot write to: name a bus of the customer's own",
        ),
        (
            {"busArn": "arn:aws:events:us-east-1:123456789012:event-busv2/x/y"},
            "busArn",
            "must be the full ARN of a bus: arn:aws:events:REGION:ACCOUNT:event-busv2/NAME/ID",
        ),
        (
            {"type": "EVENTBRIDGE_V2"},
            "busArn",
            "must be the full ARN of a bus: arn:aws:events:REGION:ACCOUNT:event-busv2/",
        ),
        ({"region": "eu-west-1"}, "region", "is eu-west-1, but the bus is in us-east-1 (busArn)"),
        ({"region": "mars"}, "region", "must be an AWS region such as us-east-1"),
        (
            {"sourceNamespace": "aws.acme"},
            "sourceNamespace",
            "must not begin with aws.: EventBridge keeps those sources to itself",
        ),
        ({"sourceNamespace": ""}, "sourceNamespace", "must be at least 1 characters long"),
        ({"sourceNamespace": "x" * 257}, "sourceNamespace", "must be at most 256 characters long"),
        ({"eventTypes": ["or*der"]}, "eventTypes.0", FILTER),
        ({"eventTypes": ["a.*", "order*"]}, "eventTypes.1", FILTER),
        ({"eventTypes": [""]}, "eventTypes.0", FILTER),
        ({"eventTypes": ["x" * 129]}, "eventTypes.0", FILTER),
        ({"eventTypes": "*"}, "eventTypes", "must be a list"),
        ({"eventTypes": []}, "eventTypes", "must not be empty: leave it out to take every event type"),
        ({"enabled": "yes"}, "enabled", "must be true or false"),
        ({"limits": {"maxInFlight": 0}}, "limits.maxInFlight", "must be at least 1 (is 0)"),
        ({"limits": {"maxInFlight": 2.5}}, "limits.maxInFlight", "must be a whole number"),
        ({"detailFormat": "xml"}, "detailFormat", "must be 'canonical' or 'cloudevents'"),
        ({"detailFormat": None}, "detailFormat", "must be 'canonical' or 'cloudevents'"),
        ({"retry": {"maxAgeSecs": 0.5}}, "retry.maxAgeSecs", "must be at least 1 (is 0.5)"),
        ({"retry": {"maxAttempts": 0}}, "retry.maxAttempts", "must be at least 1 (is 0)"),
        ({"retry": {"maxAttempts": 1_001}}, "retry.maxAttempts", "must be at most 1000 (is 1001)"),
        ({"retry": {"maxAttempts": 2.5}}, "retry.maxAttempts", "must be a whole number"),
        ({"retry": {"maxage": 60}}, "retry.maxage", "unknown field; did you mean maxAgeSecs?"),
        ({"retry": None}, "retry", "must be a JSON object"),
        ({"filter": {}}, "filter", "must be an object with at least one field"),
        ({"filter": ["x"]}, "filter", "must be a JSON object"),
        ({"filter": {"detail": {"a": "x"}}}, "filter.detail.a", "must be a list of values, or an object of fields"),
        ({"filter": {"detail": {"a": [{"prefix": 7}]}}}, "filter.detail.a[0].prefix", "must be a string"),
        ({"filter": {"id": ["x"]}}, "filter.id", "is not known before EventBridge has taken the event"),
        ({"paused": "yes"}, "paused", "must be true or false"),
        ({"limits": {"flushMs": -1}}, "limits.flushMs", "must be at least 0 (is -1)"),
        ({"limits": {"flushMs": 60_001}}, "limits.flushMs", "must be at most 60000 (is 60001)"),
        ({"limits": {"flushMs": 0.5}}, "limits.flushMs", "must be a whole number"),
        ({"limits": {"maxRequestsPerSecond": 0}}, "limits.maxRequestsPerSecond", "must be more than 0 (is 0)"),
        (
            {"limits": {"maxRequestsPerSecond": float("nan")}},
            "limits.maxRequestsPerSecond",
            "must be a finite number",
        ),
        ({"limits": 7}, "limits", "must be a JSON object"),
        ({"limits": {"maxInflight": 1}}, "limits.maxInflight", "unknown field; did you mean maxInFlight?"),
        ({"busARN": ARN}, "busARN", "unknown field"),
        ({"q": 1}, "q", "unknown field"),
        ({"ASSUME_ROLE": 1}, "ASSUME_ROLE", "unknown field"),
        ({"\x1b" * 80: 1}, r"\x1b" * 64 + "...", "unknown field"),
        ({"auth": ...}, "auth", "is required"),
        ({"auth": "key"}, "auth", "must be a JSON object"),
        ({"auth": {}}, "auth.mode", "must be ASSUME_ROLE or ACCESS_KEY"),
        ({"auth": {"mode": "ROOT"}}, "auth.mode", "must be ASSUME_ROLE or ACCESS_KEY"),
    ],
)
def test_a_bad_field_is_refused_by_name(changes: dict[str, Any], field: str, problem: str) -> None:
    (found,) = refused(document(**changes))
    assert found.field == field
    assert found.problem.startswith(problem)


OURS = "must not name one of our own variables (AWS_..., PUSHRAIL_...)"


REFERENCE = (
    "must not stand in the document in clear: `destinations seal` seals it, or env:NAME names a variable in capitals"
)


@pytest.mark.parametrize(
    ("changes", "field", "problem"),
    [
        (
            {"roleArn": "arn:aws:iam::12:role/x"},
            "auth.roleArn",
            "must be the full ARN of a role: arn:aws:iam::ACCOUNT:role/NAME",
        ),
        (
            {"roleArn": "arn:aws-cn:iam::123456789012:role/x"},
            "auth.roleArn",
            "is of another partition than the bus (aws)",
        ),
        ({"externalId": "x"}, "auth.externalId", "must be 2 to 1224 letters, digits and any of _+=,.@:/-"),
        ({"externalId": "a b"}, "auth.externalId", "must be 2 to 1224 letters, digits and any of _+=,.@:/-"),
        ({"externalId": ...}, "auth.externalId", "is required"),
        ({"accessKeyId": "AKIDEXAMPLE123456"}, "auth.accessKeyId", "unknown field"),
    ],
)
def test_a_bad_role_is_refused_by_name(changes: dict[str, Any], field: str, problem: str) -> None:
    auth = {name: value for name, value in {**EXAMPLE["auth"], **changes}.items() if value is not ...}
    assert refused(document(auth=auth)) == (Problem(field, problem),)


@pytest.mark.parametrize(
    ("changes", "field", "problem"),
    [
        ({"accessKeyId": "short"}, "auth.accessKeyId", "must be 16 to 128 capital letters and digits"),
        (
            {"accessKeyId": "wJalrXUtnFEMIaK7MDENGabPxRfiCYEXAMPLEKEY"},
            "auth.accessKeyId",
            "must be 16 to 128 capital letters and digits",
        ),
        ({"secretAccessKey": "env:AWS_SECRET_ACCESS_KEY"}, "auth.secretAccessKey", OURS),
        ({"secretAccessKey": "env:PUSHRAIL_SECRETS__KEYRING"}, "auth.secretAccessKey", OURS),
        ({"secretAccessKey": SECRET}, "auth.secretAccessKey", REFERENCE),
        ({"secretAccessKey": f"env:{SECRET}"}, "auth.secretAccessKey", REFERENCE),
        ({"secretAccessKey": "env:wJalrXUtnFEMIaK7MDENGabPxRfiCYEXAMPLEKEY"}, "auth.secretAccessKey", REFERENCE),
        ({"secretAccessKey": "env:"}, "auth.secretAccessKey", REFERENCE),
        ({"secretAccessKey": None}, "auth.secretAccessKey", REFERENCE),
        ({"secretAccessKey": {"sealed": "abc"}}, "auth.secretAccessKey", REFERENCE),
    ],
)
def test_a_bad_key_is_refused_by_name(changes: dict[str, Any], field: str, problem: str) -> None:
    assert refused(document(auth={**ACCESS_KEY, **changes})) == (Problem(field, problem),)
