"""Refused calls, without a network: test_bus.py and test_endpoint_v2.py read those of the stock client."""

from __future__ import annotations

from typing import Any

import pytest

from pushrail_stream.eventbridge.error_codes import UNKNOWN_RESULT
from pushrail_stream.eventbridge.http import HttpReply
from pushrail_stream.eventbridge.refusals import ProxyRefusals, code_of, json_fields, refusal, text_of


def test_several_destinations_refused_in_a_row_are_our_own_fault() -> None:
    refusals = ProxyRefusals()
    assert [refusals.refused(name) for name in ("a", "a", "b", "a")] == [False, False, True, True]
    refusals.answered()
    assert not refusals.refused("a")


def test_a_reply_below_a_redirect_is_no_answer() -> None:
    assert refusal("PutEvents", HttpReply(204, {}, b""), {}).code == UNKNOWN_RESULT


@pytest.mark.parametrize(("value", "code"), [("a#B:c", "B"), ("B", "B"), ("", None), ("no code", None), (7, None)])
def test_a_code_is_a_short_word(value: Any, code: str | None) -> None:
    assert code_of(value) == code


def test_a_text_is_a_text() -> None:
    assert [text_of(value) for value in ("a", 7, None)] == ["a", None, None]


@pytest.mark.parametrize("content", [b"", b"[1]", b"<html>", b"\xff"])
def test_a_body_without_an_object_has_no_fields(content: bytes) -> None:
    assert json_fields(content) == {}
