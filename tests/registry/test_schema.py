"""The JSON Schema of documents takes what the reader takes, and refuses what can be expressed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest
from jsonschema import Draft202012Validator

from pushrail_stream.registry.documents import Parsed
from pushrail_stream.registry.schema import document_schema
from tests.support.documents import ACCESS_KEY, EXAMPLE, SECRET, document, parse

SHIPPED: Final = sorted((Path(__file__).parents[2] / "config" / "destinations").glob("*.json"))
SCHEMA: Final = document_schema()
CHECK: Final = Draft202012Validator(SCHEMA)
VALUES: Final[tuple[Any, ...]] = (
    ..., None, "", " ", "x", "*", "a.*", "*.a", "a\n", 0, 1, 1.0, 1.5, 257, 10_001, -1, True, False, "true", "5", [],
    {}, ["*"], ["a.*", "b"], [""], ["*a"], ["x"] * 101, {"maxInFlight": 3}, {"maxInFlight": 3.0}, {"maxInFlight": 0},
    {"maxRequestsPerSecond": 1}, {"maxRequestsPerSecond": "1"}, {"more": 1}, "us-east-1", "cn-north-1", "Z" * 64,
    "Z" * 65, "aws.mine", "pushrail.mine", "é" * 256, "é" * 257, EXAMPLE["busArn"], EXAMPLE["busArn"] + "/x",
    ACCESS_KEY,
    EXAMPLE["busArn"].replace("event-bus", "event-busv2"), {**ACCESS_KEY, "secretAccessKey": SECRET},
    {**ACCESS_KEY, "secretAccessKey": "env:AWS_SECRET"}, {**ACCESS_KEY, "accessKeyId": "akia"}, {"mode": "ACCESS_KEY"},
    {**EXAMPLE["auth"], "externalId": "a"}, {**EXAMPLE["auth"], "roleArn": "arn:aws:iam::1:role/x"},
    {**EXAMPLE["auth"], "secretAccessKey": "env:X"}, {"mode": "OTHER"},
)  # fmt: skip
"""`...` leaves the field out."""
READERS_ALONE: Final = [
    ("region", "cn-north-1"),
    ("limits", {"maxInFlight": 3.0}),
    ("name", " "),
    ("sourceNamespace", " "),
]
"""Values that the reader alone refuses: rules between fields, 3.0 as a whole number, and blanks."""


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    "content",
    [
        *(json.loads(path.read_text()) for path in SHIPPED),
        document(auth=ACCESS_KEY, eventTypes=..., limits=..., enabled=..., name=..., sourceNamespace=...),
        document(auth={**ACCESS_KEY, "secretAccessKey": "sealed:v1:k:AAAA:AAAA"}),
        document(name=None, sourceNamespace=None, eventTypes=None),
    ],
)
def test_valid_documents_are_taken(content: object) -> None:
    assert list(CHECK.iter_errors(content)) == []


@pytest.mark.parametrize("field", [*EXAMPLE, "unknown"])
def test_the_schema_judges_as_the_reader_does(field: str) -> None:
    judged = []
    for value in VALUES:
        changed = document(**{field: value})
        is_read, is_taken = isinstance(parse(changed), Parsed), CHECK.is_valid(changed)
        judged.append(is_read)
        assert is_taken or not is_read, f"the schema refuses {value!r}"
        if is_taken and not is_read:
            # Python's $ also matches before a last line end; ECMA's, which JSON Schema means, does not.
            assert value == "a\n" or (field, value) in READERS_ALONE, value
    assert False in judged


@pytest.mark.parametrize("content", [None, [], "x", {}])
def test_no_document_is_refused(content: object) -> None:
    assert not CHECK.is_valid(content)
