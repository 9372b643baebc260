"""Event patterns: the examples of AWS's documentation, compared with moto's matcher, and of its rule engine."""

from __future__ import annotations

import json
from typing import Any

import pytest
from moto.events.models import EventPattern

from pushrail_stream.patterns import PatternError, compile_pattern

EVENT: dict[str, Any] = {
    "version": "0",
    "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718",
    "detail-type": "EC2 Instance State-change Notification",
    "source": "aws.ec2",
    "account": "111122223333",
    "time": "2017-12-22T18:43:48Z",
    "region": "us-west-1",
    "resources": ["arn:aws:ec2:us-west-1:123456789012:instance/i-1234567890abcdef0"],
    "detail": {
        "instance-id": "i-1234567890abcdef0",
        "state": "terminated",
        "previous": None,
        "name": "",
        "urgent": True,
        "c-count": 5,
        "x-limit": 301.8,
        "tags": ["blue", "green"],
        "owner": {"first": "Zoë"},
    },
}
"""The event of AWS's page "Creating Amazon EventBridge event patterns", with more fields."""

MATCHING: list[dict[str, Any]] = [
    {
        "source": ["aws.ec2"],
        "detail-type": ["EC2 Instance State-change Notification"],
        "detail": {"state": ["terminated"]},
    },
    {"detail": {"state": ["running", "terminated"]}},
    {"detail": {"previous": [None]}},
    {"detail": {"name": [""]}},
    {"detail": {"urgent": [True]}},
    {"detail": {"c-count": [5]}},
    {"detail": {"owner": {"first": ["Zoë"]}}},
    {"detail": {"tags": ["green", "red"]}},
    {"resources": [{"prefix": "arn:aws:ec2:us-west-1:"}]},
    {"time": [{"prefix": "2017-12-22"}]},
    {"detail": {"instance-id": [{"suffix": "def0"}]}},
    {"detail": {"state": [{"equals-ignore-case": "TERMINATED"}]}},
    {"detail": {"state": [{"anything-but": "initializing"}]}},
    {"detail": {"state": [{"anything-but": ["stopped", "overloaded"]}]}},
    {"detail": {"c-count": [{"anything-but": [100, 200]}]}},
    {"detail": {"state": [{"anything-but": {"prefix": "init"}}]}},
    {"detail": {"state": [{"anything-but": {"suffix": "ing"}}]}},
    {"detail": {"state": [{"anything-but": {"equals-ignore-case": "RUNNING"}}]}},
    {"detail": {"c-count": [{"numeric": [">", 0, "<=", 5]}], "x-limit": [{"numeric": ["=", 3.018e2]}]}},
    {"detail": {"c-count": [{"numeric": ["<", 1]}, {"numeric": [">=", 5]}]}},
    {"detail": {"state": [{"exists": True}], "nothing": [{"exists": False}]}},
    {"detail": {"missing": {"field": [{"exists": False}]}}},
]
OTHERS: list[dict[str, Any]] = [
    {"source": ["aws.ec2"], "detail": {"state": ["running"]}},
    {"source": ["AWS.EC2"]},
    {"detail": {"previous": [""]}},
    {"detail": {"c-count": ["5"]}},
    {"detail": {"nothing": [None]}},
    {"detail": {"tags": ["red"]}},
    {"region": [{"prefix": "eu-"}]},
    {"detail": {"c-count": [{"prefix": "5"}]}},
    {"detail": {"state": [{"suffix": "terminate"}]}},
    {"detail": {"state": [{"anything-but": ["terminated", "stopped"]}]}},
    {"detail": {"state": [{"anything-but": {"prefix": "term"}}]}},
    {"detail": {"nothing": [{"anything-but": "a"}]}},
    {"detail": {"c-count": [{"numeric": ["<", 5]}]}},
    {"detail": {"state": [{"numeric": [">", 0]}]}},
    {"detail": {"state": [{"exists": False}]}},
    {"detail": {"nothing": [{"exists": True}]}},
    {"detail": {"state": {"deeper": ["terminated"]}}},
]


@pytest.mark.parametrize("pattern", [*MATCHING, *OTHERS], ids=str)
def test_patterns_match_as_documented(pattern: dict[str, Any]) -> None:
    matches = compile_pattern(pattern)(EVENT)
    assert matches is (pattern in MATCHING)
    assert EventPattern.load(json.dumps(pattern)).matches_event(EVENT) is matches  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        # "Exists match only works on leaf nodes."
        ({"detail": {"owner": [{"exists": True}]}}, False),
        ({"detail": {"owner": [{"exists": False}]}}, True),
        # Event Ruler compares numbers by value.
        ({"detail": {"c-count": [5.0]}}, True),
        ({"detail": {"x-limit": [3.018e2]}}, True),
        ({"detail": {"urgent": [1]}}, False),
        ({"detail": {"previous": [{"exists": True}]}}, True),
        ({"detail": {"previous": [{"anything-but": "x"}]}}, True),
        ({"detail": {"c-count": [{"anything-but": 5.0}]}}, False),
    ],
)
def test_rules_that_moto_does_not_follow(pattern: dict[str, Any], matches: bool) -> None:  # noqa: FBT001
    assert compile_pattern(pattern)(EVENT) is matches


RULER = {
    "c-count": 5,
    "d-count": 3,
    "x-limit": 301.8,
    "source-ip": "10.0.0.33",
    "instance-id": "i-000000aaaaaa00000",
    "state": "running",
    "file": "/opt/bin/a*b.jar",
}
"""The detail of the README's event of github.com/aws/event-ruler, with a file."""


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ({"state": [{"prefix": {"equals-ignore-case": "RUN"}}]}, True),
        ({"state": [{"suffix": {"equals-ignore-case": "NING"}}]}, True),
        ({"state": [{"suffix": {"equals-ignore-case": "RUN"}}]}, False),
        ({"c-count": [{"prefix": {"equals-ignore-case": "5"}}]}, False),
        ({"state": [{"wildcard": "r*n*g"}]}, True),
        ({"state": [{"wildcard": "*"}]}, True),
        ({"state": [{"wildcard": "run*running"}]}, False),
        ({"file": [{"wildcard": "*/bin/*.jar"}]}, True),
        ({"file": [{"wildcard": "*a\\*b*"}]}, True),
        ({"state": [{"anything-but": {"wildcard": "r*g"}}]}, False),
        ({"state": [{"anything-but": {"wildcard": ["*/bin/*.jar", "*.class"]}}]}, True),
        ({"state": [{"anything-but": {"prefix": ["init", "error"]}}]}, True),
        ({"state": [{"anything-but": {"suffix": ["1234", "ning"]}}]}, False),
        ({"state": [{"anything-but": {"equals-ignore-case": ["Stopped", "RUNNING"]}}]}, False),
        ({"source-ip": [{"cidr": "10.0.0.0/24"}]}, True),
        ({"source-ip": [{"cidr": "10.0.1.0/24"}]}, False),
        ({"state": [{"cidr": "10.0.0.0/8"}]}, False),
        ({"c-count": [{"cidr": "10.0.0.0/8"}]}, False),
        ({"state": [{"exactly": "running"}]}, True),
        ({"x-limit": [{"numeric": ["=", 3.018e2]}], "d-count": [{"numeric": ["<", 10]}]}, True),
        ({"x-limit": [{"anything-but": [100, 200, 300]}]}, True),
        # "$or"
        ({"$or": [{"c-count": [9]}, {"state": ["running"]}]}, True),
        ({"$or": [{"c-count": [9]}, {"state": ["stopped"]}]}, False),
        ({"c-count": [6], "$or": [{"d-count": [3]}, {"state": ["running"]}]}, False),
        ({"c-count": [5], "$or": [{"d-count": [3], "state": ["stopped"]}, {"x-limit": [301.8]}]}, True),
        ({"$or": [{"a": ["x"]}, {"c-count": [5], "$or": [{"d-count": [9]}, {"d-count": [3]}]}]}, True),
        ({"nothing": {"$or": [{"a": [{"exists": False}]}, {"b": ["y"]}]}}, True),
        ({"$or": [{"nothing": [{"exists": True}]}, {"state": [{"exists": False}]}]}, False),
    ],
    ids=str,
)
def test_patterns_match_as_in_the_rule_engine(pattern: dict[str, Any], matches: bool) -> None:  # noqa: FBT001
    assert compile_pattern({"detail": pattern})({"detail": RULER}) is matches


EMPLOYEES: list[dict[str, Any]] = [
    {"firstName": "John", "lastName": "Doe", "ids": [1, [2, 3]]},
    {"firstName": "Anna", "lastName": "Smith"},
    {"firstName": "Peter", "lastName": "Jones", "boss": True},
]


@pytest.mark.parametrize("employees", [EMPLOYEES, [EMPLOYEES[:2], [EMPLOYEES[2:]]]], ids=["list", "lists of lists"])
@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ({"firstName": ["Anna"]}, True),
        ({"firstName": ["Anna"], "lastName": ["Smith"]}, True),
        ({"firstName": ["Anna"], "lastName": ["Jones"]}, False),
        ({"firstName": ["Anna"], "$or": [{"lastName": ["Jones"]}, {"lastName": ["Smith"]}]}, True),
        ({"firstName": ["Anna"], "$or": [{"lastName": ["Jones"]}, {"boss": [True]}]}, False),
        ({"boss": [{"exists": False}]}, False),
        ({"car": [{"exists": False}], "firstName": ["Anna"]}, True),
        ({"car": [{"exists": True}]}, False),
        ({"ids": [3]}, True),
        ({"ids": [{"numeric": [">", 3]}]}, False),
    ],
    ids=str,
)
def test_a_list_matches_by_one_of_its_elements(
    pattern: dict[str, Any],
    matches: bool,  # noqa: FBT001
    employees: list[Any],
) -> None:
    assert compile_pattern({"employees": pattern})({"employees": employees}) is matches


@pytest.mark.parametrize(
    ("value", "absent"),
    [
        ([], True),
        ([[], [[]]], True),
        ([{"a": 1}], True),
        ({}, True),
        ([None], False),
        ([{"a": 1}, 2], False),
        ("", False),
    ],
    ids=str,
)
def test_a_field_without_a_leaf_is_absent(value: Any, absent: bool) -> None:  # noqa: FBT001
    assert compile_pattern({"a": [{"exists": False}]})({"a": value}) is absent
    assert compile_pattern({"a": [{"exists": True}]})({"a": value}) is not absent
    assert compile_pattern({"a": [{"exists": False}, {"exists": True}]})({"a": value})


def test_an_empty_list_has_no_fields() -> None:
    assert compile_pattern({"items": {"sku": [{"exists": False}]}})({"items": []})
    assert not compile_pattern({"items": {"sku": ["a"]}})({"items": []})


def test_lists_may_be_as_deep_as_events() -> None:
    value: Any = "x"
    for _ in range(1_000):
        value = [value]
    assert compile_pattern({"a": ["x"]})({"a": value})
    assert not compile_pattern({"a": {"b": ["x"]}})({"a": value})


def test_one_element_of_a_list_is_enough_for_anything_but() -> None:
    matches = compile_pattern({"tags": [{"anything-but": "blue"}]})
    assert matches({"tags": ["blue", "green"]})
    assert not matches({"tags": ["blue"]})
    assert not matches({"tags": []})


def nested(levels: int) -> dict[str, Any]:
    return {"a": nested(levels - 1)} if levels > 1 else {"a": ["x"]}


@pytest.mark.parametrize(
    ("pattern", "error"),
    [
        ({}, "the pattern: must be an object with at least one field"),
        ([], "the pattern: must be an object"),
        ({"detail": {}}, "detail: must be an object with at least one field"),
        ({"source": "aws.ec2"}, "source: must be a list of values, or an object of fields"),
        ({"source": []}, "source: must not be empty"),
        ({"source": [["aws.ec2"]]}, "source[0]: must be a value or an operator, not a list"),
        ({"$or": {"a": ["x"]}}, "$or: must be a list of at least two objects"),
        ({"$or": [{"a": ["x"]}]}, "$or: must be a list of at least two objects"),
        ({"d": {"$or": [{"a": ["x"]}, ["y"]]}}, "d.$or[1]: must be an object"),
        ({"$or": [{"numeric": [1]}, {"b": ["x"]}]}, "$or[0].numeric: must not be a field inside $or"),
        ({"$or": [{"a": {"prefix": [1]}}, {"b": ["x"]}]}, "$or[0].a.prefix: must not be a field inside $or"),
        (nested(65), "must not be nested more than 64 levels deep"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_bad_pattern_is_refused_by_field(pattern: Any, error: str) -> None:
    with pytest.raises(PatternError) as refused:
        compile_pattern(pattern)
    assert error in str(refused.value)


def test_the_deepest_pattern_is_one() -> None:
    assert not compile_pattern(nested(64))({})
