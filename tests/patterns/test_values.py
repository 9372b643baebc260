"""Operators of event patterns, and what is wrong with an operand."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.patterns import PatternError
from pushrail_stream.patterns.values import read_alternatives


def takes(value: Any, *alternatives: Any) -> bool:
    tests, takes_any, _ = read_alternatives(list(alternatives), "a")
    return takes_any or any(test(value) for test in tests)


ATOMS = st.text("ab*\\", max_size=6)


@given(parts=st.lists(st.text("ab", max_size=3), min_size=1, max_size=4), text=st.text("ab", max_size=9))
def test_a_wildcard_is_any_text(parts: list[str], text: str) -> None:
    pattern = re.sub(r"\*+", "*", "*".join(parts))
    expected = re.fullmatch(pattern.replace("*", ".*"), text) is not None
    assert takes(text, {"wildcard": pattern}) is expected


@given(text=ATOMS, other=ATOMS)
def test_an_escaped_wildcard_is_itself(text: str, other: str) -> None:
    escaped = text.replace("\\", "\\\\").replace("*", "\\*")
    assert takes(other, {"wildcard": escaped}) is (text == other)
    assert takes(text + other, {"wildcard": f"{escaped}*"})
    assert takes(other + text, {"wildcard": f"*{escaped}"})


def test_a_wildcard_follows_an_escaped_one() -> None:
    assert takes("a*x", {"wildcard": "a\\**"})
    assert not takes("ax", {"wildcard": "a\\**"})


@pytest.mark.parametrize(
    ("block", "inside", "outside"),
    [
        ("10.0.0.0/24", "10.0.0.255", "10.0.1.0"),
        ("10.0.0.33/8", "10.255.0.1", "11.0.0.1"),
        ("0.0.0.0/0", "1.2.3.4", "::1"),
        ("2001:db8::/32", "2001:db8:0:1::2", "2001:db9::"),
        ("::1/128", "0:0:0:0:0:0:0:1", "10.0.0.1"),
    ],
)
def test_a_block_has_its_addresses(block: str, inside: str, outside: str) -> None:
    assert takes(inside, {"cidr": block})
    assert not takes(outside, {"cidr": block})
    assert not takes("example.com", {"cidr": block})
    assert not takes(167772160, {"cidr": block})


@given(value=st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3))
def test_every_value_matches_itself(value: Any) -> None:
    assert takes(value, value)
    assert takes(value, {"exists": True})
    assert takes(value, {"anything-but": "long text"})


@pytest.mark.parametrize("value", [1, True, "1", None, "true", "null"])
def test_values_of_another_kind_differ(value: Any) -> None:
    assert not takes(value, *[one for one in (1, True, "1", None, "true", "null") if one is not value])


def test_numbers_compare_by_value() -> None:
    assert takes(5, 5.0)
    assert takes(2**70, 2**70)
    assert not takes(2**70, 2**70 + 1)
    for wanted, found in ((["=", 5], True), ([">", 5], False), ([">=", 5, "<", 6], True), ([">", 4, "<=", 5], True)):
        assert takes(5, {"numeric": wanted}) is found
    assert not takes(True, {"numeric": ["=", 1]})
    assert not takes("5", {"numeric": ["=", 5]})


@pytest.mark.parametrize(
    ("operator", "path", "problem"),
    [
        ({"prefix": 1}, "a[0].prefix", "must be a string"),
        ({"prefix": {"suffix": "x"}}, "a[0].prefix", "must have an operator out of equals-ignore-case"),
        ({"suffix": {"equals-ignore-case": 1}}, "a[0].suffix.equals-ignore-case", "must be a string"),
        ({"prefix": "x", "suffix": "y"}, "a[0]", "must have exactly one operator"),
        ({}, "a[0]", "must have exactly one operator"),
        ({"regex": "x"}, "a[0]", "must have an operator out of prefix, suffix"),
        ({"wildcard": "a**b"}, "a[0].wildcard", "must not have two wildcards in a row"),
        ({"wildcard": "**"}, "a[0].wildcard", "must not have two wildcards in a row"),
        ({"wildcard": "a\\b"}, "a[0].wildcard", "must have a backslash only before"),
        ({"wildcard": "a\\"}, "a[0].wildcard", "must have a backslash only before"),
        ({"cidr": "10.0.0.0"}, "a[0].cidr", "must be a block of IP addresses"),
        ({"cidr": "10.0.0.0/33"}, "a[0].cidr", "must be a block of IP addresses"),
        ({"anything-but": []}, "a[0].anything-but", "must be a string or a number"),
        ({"anything-but": [1, "x"]}, "a[0].anything-but", "must be a string or a number"),
        ({"anything-but": None}, "a[0].anything-but", "must be a string or a number"),
        ({"anything-but": [["x"]]}, "a[0].anything-but", "must be a string or a number"),
        ({"anything-but": {"exists": True}}, "a[0].anything-but", "must have an operator out of prefix, suffix"),
        ({"anything-but": {"prefix": ""}}, "a[0].anything-but.prefix", "must not be empty"),
        ({"anything-but": {"suffix": ["x", ""]}}, "a[0].anything-but.suffix", "must not be empty"),
        ({"anything-but": {"prefix": []}}, "a[0].anything-but.prefix", "must not be empty"),
        ({"anything-but": {"prefix": [1]}}, "a[0].anything-but.prefix", "must be a string"),
        ({"numeric": [">"]}, "a[0].numeric", "must be comparisons"),
        ({"numeric": ["!", 1]}, "a[0].numeric", "must be comparisons"),
        ({"numeric": [">", "1"]}, "a[0].numeric", "must be comparisons"),
        ({"numeric": [">", True]}, "a[0].numeric", "must be comparisons"),
        ({"numeric": [1, ">"]}, "a[0].numeric", "must be comparisons"),
        ({"numeric": ["<", 5, ">", 1]}, "a[0].numeric", "must have a lower bound"),
        ({"numeric": [">", 5, "<", 5]}, "a[0].numeric", "must have a lower bound"),
        ({"exists": "yes"}, "a[0].exists", "must be true or false"),
    ],
    ids=str,
)
def test_a_wrong_operand_is_named(operator: Any, path: str, problem: str) -> None:
    with pytest.raises(PatternError) as refused:
        read_alternatives([operator], "a")
    assert refused.value.path == path
    assert refused.value.problem.startswith(problem)
