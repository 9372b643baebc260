"""Requests and answers pass through the topic unchanged, and nothing else is taken for one."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from pushrail_stream.observe.control import MAX_BYTES, Answer, Request

REQUEST = Request("r-1", "retry_now", 1_000_000, 60, {"destination": "dst_1"}, "group")
ANSWER = Answer("r-1", "worker-1", {"begun": 3})


def test_both_are_read_back() -> None:
    assert Request.read(REQUEST.encode()) == REQUEST
    assert Answer.read(ANSWER.encode()) == ANSWER
    refused = replace(ANSWER, result={}, problem="there is no such destination")
    assert Answer.read(refused.encode()) == refused


def test_they_are_told_apart() -> None:
    assert Request.read(ANSWER.encode()) is None
    assert Answer.read(REQUEST.encode()) is None


def test_a_request_expires() -> None:
    assert not REQUEST.is_expired(1_060_000)
    assert REQUEST.is_expired(1_060_001)
    assert REQUEST.is_expired(939_999), "a clock that is wrong by as much"


@given(st.binary(max_size=50) | st.none())
def test_foreign_bytes_are_neither(value: bytes | None) -> None:
    assert Request.read(value) is None
    assert Answer.read(value) is None


@pytest.mark.parametrize(
    "change",
    [
        {"request": ""}, {"request": 1}, {"request": "x" * 129}, {"kind": "stop"}, {"kind": ["retry_now"]},
        {"group": 1}, {"at": "now"},
        {"at": True}, {"maxAgeSecs": 0}, {"maxAgeSecs": 3_601}, {"maxAgeSecs": None}, {"arguments": []},
        {"arguments": {"destination": 1}}, {"arguments": {"destination": "x" * 129}},
    ],
)  # fmt: skip
def test_a_request_of_another_shape_is_none(change: dict[str, Any]) -> None:
    assert Request.read(orjson.dumps(orjson.loads(REQUEST.encode()) | change)) is None


@pytest.mark.parametrize("change", [{"answer": None}, {"worker": ""}, {"result": None}, {"problem": 1}])
def test_an_answer_of_another_shape_is_none(change: dict[str, Any]) -> None:
    assert Answer.read(orjson.dumps(orjson.loads(ANSWER.encode()) | change)) is None


@pytest.mark.parametrize("value", [b"[]", b"1", b"null", b"[" * 2_000, b'{"request":"' + b"x" * MAX_BYTES + b'"}'])
def test_other_json_is_neither(value: bytes) -> None:
    assert Request.read(value) is None
    assert Answer.read(value) is None
