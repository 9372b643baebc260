"""Event patterns: the examples of AWS's documentation, compared with moto's matcher."""

from __future__ import annotations

import json
from typing import Any

import pytest
from moto.events.models import EventPattern

from pushrail_stream.sandbox.bus.patterns import compile_pattern

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
        # "Number matching is at the string representation level. For example, 300, 300.0, and 3.0e2 are not equal."
        ({"detail": {"c-count": [5.0]}}, False),
        ({"detail": {"urgent": [1]}}, False),
    ],
)
def test_documented_rules_that_moto_does_not_follow(pattern: dict[str, Any], matches: bool) -> None:  # noqa: FBT001
    assert compile_pattern(pattern)(EVENT) is matches


def test_one_matching_object_of_a_list_is_enough() -> None:
    pattern = compile_pattern({"detail": {"items": {"sku": ["a"], "qty": [{"numeric": [">", 1]}]}}})
    assert pattern({"detail": {"items": [{"sku": "b", "qty": 9}, {"sku": "a", "qty": 2}]}})
    assert not pattern({"detail": {"items": [{"sku": "a", "qty": 1}, {"sku": "b", "qty": 9}]}})
    assert not pattern({"detail": {"items": []}})


@pytest.mark.parametrize(
    ("pattern", "error"),
    [
        ({}, "pattern: must be an object"),
        ([], "pattern: must be an object"),
        ({"source": "aws.ec2"}, "pattern.source: must be an object"),
        ({"source": []}, "pattern.source: must not be empty"),
        ({"source": [["aws.ec2"]]}, "pattern.source: must not hold a list"),
        ({"detail": {"a": [{"prefix": 1}]}}, "pattern.detail.a.prefix: must be a string"),
        ({"a": [{"suffix": {"equals-ignore-case": "x"}}]}, "pattern.a.suffix: must be a string"),
        ({"a": [{"prefix": "x", "suffix": "y"}]}, "pattern.a: an operator must be an object with exactly one field"),
        ({"a": [{"wildcard": "x*"}]}, "pattern.a: the operator 'wildcard' is not supported, only prefix, suffix"),
        ({"a": [{"cidr": "10.0.0.0/24"}]}, "pattern.a: the operator 'cidr' is not supported"),
        ({"a": [{"anything-but": []}]}, "pattern.a.anything-but: must be values"),
        ({"a": [{"anything-but": {"exists": True}}]}, "pattern.a.anything-but: must be values"),
        ({"a": [{"numeric": [">"]}]}, "pattern.a.numeric: must be comparisons"),
        ({"a": [{"numeric": ["!", 1]}]}, "pattern.a.numeric: must be comparisons"),
        ({"a": [{"numeric": [">", "1"]}]}, "pattern.a.numeric: must be comparisons"),
        ({"a": [{"exists": "yes"}]}, "pattern.a.exists: must be true or false"),
        ({"$or": [{"a": ["x"]}, {"b": ["y"]}]}, "pattern: $or is not supported"),
    ],
    ids=str,
)
def test_a_bad_pattern_is_refused_by_field(pattern: Any, error: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the text is what matters
        compile_pattern(pattern)
    assert str(refused.value).startswith(error)
