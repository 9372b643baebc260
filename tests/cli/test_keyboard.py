"""Single keys are read without Enter, and the terminal is restored."""

from __future__ import annotations

import io
import os
import pty
import termios
import tty

import pytest

from pushrail_stream.cli.keyboard import pressed_keys


def modes(terminal: int) -> int:
    """The terminal's local modes: echo, whole lines."""
    local: int = termios.tcgetattr(terminal)[tty.LFLAG]
    return local & (termios.ECHO | termios.ICANON)


def test_a_key_is_read_without_enter(monkeypatch: pytest.MonkeyPatch) -> None:
    outside, inside = pty.openpty()
    with os.fdopen(inside, "r") as stdin, os.fdopen(outside, "wb", buffering=0) as person:
        monkeypatch.setattr("sys.stdin", stdin)
        before = modes(inside)
        with pressed_keys() as keys:
            assert modes(inside) == 0
            assert keys() == ""
            person.write(b"xq")
            assert keys() == "xq"
            assert keys() == ""
        assert modes(inside) == before != 0


def test_the_terminal_is_restored_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    outside, inside = pty.openpty()
    with os.fdopen(inside, "r") as stdin, os.fdopen(outside, "wb", buffering=0):
        monkeypatch.setattr("sys.stdin", stdin)
        before = modes(inside)
        with pytest.raises(KeyboardInterrupt), pressed_keys():
            raise KeyboardInterrupt
        assert modes(inside) == before


def test_an_input_that_is_no_terminal_has_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("q"))
    with pressed_keys() as keys:
        assert keys() == ""
