"""Signals: observers cannot change them, and a document's problem is one line."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from pushrail_stream.core.outcome import Outcome, Retryable, Throttled
from pushrail_stream.core.retry import RetryInMemory
from pushrail_stream.core.signals import DocumentCaveat, DocumentRefused, Signal
from tests.core.test_copy import LETTER
from tests.support.signals import attempted


@pytest.mark.parametrize("kind", get_args(Signal))
def test_a_signal_is_immutable(kind: Any) -> None:
    signal = kind(*[None] * len(kind._fields))
    for name in (*kind._fields, "note"):
        with pytest.raises(AttributeError):
            setattr(signal, name, "changed")


def test_the_copy_in_a_signal_is_immutable() -> None:
    with pytest.raises(AttributeError):
        LETTER.reason = "rejected"  # type: ignore[misc]


@pytest.mark.parametrize("kind", [DocumentRefused, DocumentCaveat])
def test_a_documents_problem_is_a_line(kind: type[DocumentRefused | DocumentCaveat]) -> None:
    assert str(kind("acme.json", "auth.roleArn", "is required")) == "acme.json: auth.roleArn: is required"
    assert str(kind("acme.json", "", "is not UTF-8 text")) == "acme.json: is not UTF-8 text"


@pytest.mark.parametrize(
    ("outcome", "is_ours"),
    [
        (Retryable("ExpiredToken", "", is_our_fault=True), True),
        (Retryable("500", ""), False),
        (Throttled("Throttled", ""), False),
    ],
)
def test_an_attempt_knows_whether_we_are_at_fault(outcome: Outcome, *, is_ours: bool) -> None:
    again = RetryInMemory(1.0, "retryable")
    assert attempted((outcome, again), (outcome, again)).own_fault == (outcome if is_ours else None)
