"""Signals: observers cannot change them."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from pushrail_stream.core.signals import Signal
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
