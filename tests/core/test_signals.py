"""Signals: observers cannot change them, and a document's problem is one line."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from pushrail_stream.core.signals import DocumentCaveat, DocumentRefused, Signal
from tests.core.test_copy import LETTER


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
