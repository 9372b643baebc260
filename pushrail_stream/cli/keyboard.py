"""Reads single keys from the terminal, without the Enter key."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def pressed_keys() -> Iterator[Callable[[], str]]:
    """A function that returns the keys pressed since it was last called. The terminal is restored at the end.

    Where the input is no terminal, no key is ever pressed.
    """
    if not sys.stdin.isatty():
        yield str
        return
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)

    def read() -> str:
        is_ready, _, _ = select.select([terminal], [], [], 0)
        return os.read(terminal, 64).decode(errors="replace") if is_ready else ""

    try:
        tty.setcbreak(terminal)
        yield read
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
