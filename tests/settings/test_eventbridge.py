"""EventBridge's facts, against AWS's own description of the service, and the ways to sign in."""

from __future__ import annotations

import json
import re

import botocore.session
import pytest

from pushrail_stream.core.batch import CallLimits
from pushrail_stream.core.destination import Destination, Secret
from pushrail_stream.eventbridge.credentials import session_policy
from pushrail_stream.eventbridge.entry import RegionLimits
from pushrail_stream.registry.documents import Parsed, parse_document, to_document
from pushrail_stream.registry.json_document import Problem
from pushrail_stream.settings.eventbridge import CLASSIC, FLAVOURS, AccessKey, AssumeRole, Flavour, auth_of
from pushrail_stream.settings.values import Rule
from tests.support.builders import destination, modified, v2_bus_arn


def test_a_call_has_as_many_entries_as_aws_takes() -> None:
    service = botocore.session.get_session().get_service_model("events")
    assert service.shape_for("PutEventsRequestEntryList").metadata["max"] == CLASSIC.limits.max_entries


def test_documents_and_calls_follow_the_flavour(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = Rule(re.compile("arn:aws:events:.*:event-bus-wide/.+"), "the ARN of a wide bus")
    wide = Flavour("EVENTBRIDGE_WIDE", CallLimits(20, 1_000), rule, operation="PutWideEvents")
    monkeypatch.setitem(FLAVOURS, wide.type, wide)
    classic = to_document(destination())

    def parse(**changes: str) -> Parsed | tuple[Problem, ...]:
        content = json.dumps(classic | {"type": wide.type} | changes).encode()
        return parse_document(content, environ={}, default_max_in_flight=8)

    assert parse() == (Problem("busArn", "must be the ARN of a wide bus"),)
    arn = classic["busArn"].replace("event-bus/", "event-bus-wide/")
    parsed = parse(busArn=arn)
    assert isinstance(parsed, Parsed)
    assert to_document(parsed.destination) == classic | {"type": wide.type, "busArn": arn}
    assert RegionLimits().of(parsed.destination) == CallLimits(20, 1_000)
    actions = json.loads(session_policy(parsed.destination))["Statement"][0]["Action"]
    assert actions == ["events:PutWideEvents", "events:DescribeEventBus"]


@pytest.mark.parametrize("written", ["EVENTBRIDGE", "EVENTBRIDGE_V2"])
def test_the_arn_tells_a_bus_of_eventbridgev2(written: str) -> None:
    arn = v2_bus_arn("acme")
    content = json.dumps(to_document(destination()) | {"type": written, "busArn": arn}).encode()
    parsed = parse_document(content, environ={}, default_max_in_flight=8)
    assert isinstance(parsed, Parsed)
    assert parsed.destination.bus.type == to_document(parsed.destination)["type"] == "EVENTBRIDGE_V2"
    assert RegionLimits().of(parsed.destination) == CallLimits(100, 1_048_576)
    put, key = json.loads(session_policy(parsed.destination))["Statement"]
    assert put == {"Effect": "Allow", "Action": ["events:PutEvents", "events:DescribeEventBus"], "Resource": arn}
    assert key["Action"] == "kms:Decrypt"
    assert key["Condition"] == {"StringEquals": {"kms:EncryptionContext:aws:events:event-busv2:arn": arn}}


@pytest.mark.parametrize("auth", [AssumeRole("arn:aws:iam::123456789012:role/Writer", "ext"), AccessKey("AKIA", None)])
def test_a_destination_has_its_way_to_sign_in(auth: AssumeRole | AccessKey) -> None:
    assert auth_of(destination(auth=auth)) is auth


def test_another_type_of_destination_cannot_sign_in() -> None:
    other: Destination = modified(destination(), auth="a token")
    with pytest.raises(TypeError, match="dst_acme is no destination on EventBridge"):
        auth_of(other)


def test_a_key_does_not_show_its_secret() -> None:
    assert "not-to-be-shown" not in repr(AccessKey("AKIA", Secret("not-to-be-shown")))
