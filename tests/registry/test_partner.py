"""Documents of partner event sources: our own identity is used by their type alone, and only when it is enabled."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pushrail_stream.ports.documents import DocumentChange
from pushrail_stream.registry.catalog import Catalog
from pushrail_stream.registry.documents import Parsed, parse_document, stand_in, to_document
from pushrail_stream.registry.json_document import Problem
from pushrail_stream.registry.schema import document_schema
from pushrail_stream.settings.eventbridge import AccessKey, OwnIdentity, needs_our_credentials
from tests.support.builders import partner_bus_arn
from tests.support.documents import ACCESS_KEY, EXAMPLE

NAMESPACE = "aws.partner/acme.example"
DOCUMENT: dict[str, Any] = {
    "id": "dst_1", "vendor": "acme", "customerExternalId": "acct_1", "type": "EVENTBRIDGE_PARTNER",
    "busArn": partner_bus_arn(1), "region": "us-east-1",
}  # fmt: skip
SCHEMA = Draft202012Validator(document_schema())


def parse(content: bytes, namespace: str | None = NAMESPACE) -> Parsed | tuple[Problem, ...]:
    return parse_document(content, environ={}, default_max_in_flight=8, partner_namespace=namespace)


def parsed(namespace: str | None = NAMESPACE, **changes: Any) -> Parsed | tuple[Problem, ...]:
    return parse(json.dumps(DOCUMENT | changes).encode(), namespace)


def test_a_document_names_its_source_and_nothing_to_sign_in_with() -> None:
    found = parsed()
    assert isinstance(found, Parsed)
    one = found.destination
    assert one.bus.auth == OwnIdentity()
    assert one.source == "aws.partner/acme.example/1/events"
    assert needs_our_credentials(one)
    shown = to_document(one)
    assert (shown["type"], shown["auth"], shown["sourceNamespace"]) == ("EVENTBRIDGE_PARTNER", None, None)
    again = parse(json.dumps(shown).encode())
    assert isinstance(again, Parsed)
    assert again.destination == replace(one, event_types=("*",))
    assert SCHEMA.is_valid(DOCUMENT)
    assert SCHEMA.is_valid(shown)


def test_a_document_is_refused_until_the_operator_enables_it() -> None:
    (problem,) = refused(parsed(None))
    assert problem.field == "type"
    assert "set eventbridge.partner_namespace" in problem.problem


@pytest.mark.parametrize("namespace", ["aws.partner/acme.exam", "aws.partner/other", "aws.partner/acme.example/2"])
def test_a_source_of_another_partner_is_refused(namespace: str) -> None:
    (problem,) = refused(parsed(namespace))
    assert problem == Problem(
        "busArn", f"must name an event source of ours: {namespace}/... (eventbridge.partner_namespace)"
    )


@pytest.mark.parametrize(
    ("changes", "field", "part"),
    [
        ({"auth": EXAMPLE["auth"]}, "auth", "must be left out: our own credentials"),
        ({"auth": ACCESS_KEY}, "auth", "must be left out: our own credentials"),
        ({"auth": {"mode": "OWN"}}, "auth.mode", "must be ASSUME_ROLE or ACCESS_KEY"),
        ({"sourceNamespace": "pushrail.acme"}, "sourceNamespace", "must be left out"),
        ({"busArn": EXAMPLE["busArn"]}, "busArn", "must be the full ARN of a partner's bus"),
        ({"busArn": f"{partner_bus_arn(1)}/{'x' * 256}"}, "busArn", "must be the full ARN of a partner's bus"),
        ({"region": "us-west-2"}, "region", "but the bus is in us-east-1"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], field: str, part: str) -> None:
    (problem,) = refused(parsed(**changes))
    assert problem.field == field
    assert part in problem.problem
    assert not SCHEMA.is_valid(DOCUMENT | changes) or field in {"region", "busArn"}, (
        "rules between fields are the reader's"
    )


@pytest.mark.parametrize("kind", ["EVENTBRIDGE", "EVENTBRIDGE_V2"])
@pytest.mark.parametrize("auth", [..., None])
def test_no_other_type_may_leave_out_its_credentials(kind: str, auth: Any) -> None:
    fields = EXAMPLE | {"type": kind, "auth": auth}
    content = {name: value for name, value in fields.items() if value is not ...}
    assert Problem("auth", "is required") in refused(parse(json.dumps(content).encode()))
    assert not SCHEMA.is_valid(content)


def test_the_type_of_a_classic_bus_takes_no_source() -> None:
    (problem,) = refused(parsed(type="EVENTBRIDGE", auth=EXAMPLE["auth"]))
    assert (problem.field, "partner's bus" in problem.problem) == ("busArn", True)


def test_a_refused_document_signs_nothing() -> None:
    one = stand_in(json.dumps(DOCUMENT).encode())
    assert one is not None
    assert one.bus.auth == AccessKey("", None)
    assert not needs_our_credentials(one)


def test_two_customers_do_not_share_a_source() -> None:
    catalog = Catalog(lambda _, content: parse(content))
    first = DOCUMENT | {"id": "dst_1"}
    twin = DOCUMENT | {"id": "dst_2", "filter": {"detail-type": ["x"]}}
    same_source = partner_bus_arn(1).replace("123456789012", "210987654321")
    other = DOCUMENT | {"id": "dst_3", "customerExternalId": "acct_2", "busArn": same_source}
    catalog.apply([DocumentChange("1", json.dumps(first).encode()), DocumentChange("2", json.dumps(twin).encode())])
    catalog.apply([DocumentChange("3", json.dumps(other).encode())])
    usable = {one.id for one in catalog if one.bus.auth == OwnIdentity()}
    assert usable == {"dst_1", "dst_2"}


def refused(found: Parsed | tuple[Problem, ...]) -> tuple[Problem, ...]:
    assert not isinstance(found, Parsed)
    return found
