"""Tests in parallel processes (pytest-xdist): a test with the mark ``alone`` runs while no other process runs one."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import pytest


def workerinput(of: Any) -> dict[str, Any] | None:
    """The controller's input to a worker process (its configuration, or the controller's node); None elsewhere."""
    found: dict[str, Any] | None = getattr(of, "workerinput", None)
    return found


@final
class Turns:
    """A pytest plugin. In a parallel run the tests share one lock, and a test that runs alone takes it exclusively.

    A second lock keeps the order: a process holds it while it waits for the first, so a test that runs alone gets its
    turn.
    """

    def __init__(self, config: pytest.Config) -> None:
        given = workerinput(config)
        self._locks: Path | None = None if given is None else Path(given["locks"])
        self._made: Path | None = None

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: object) -> None:
        """Tell a worker process where the locks are."""
        self._made = self._made or Path(tempfile.mkdtemp(prefix="pushrail-tests-"))
        given = workerinput(node)
        assert given is not None
        given["locks"] = str(self._made)

    def pytest_unconfigure(self) -> None:
        """Delete the locks, which the controller made."""
        if self._made is not None:
            shutil.rmtree(self._made, ignore_errors=True)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Wait for the test's turn, before its timeout begins."""
        if self._locks is None:
            return (yield)
        with _turn(self._locks, alone=item.get_closest_marker("alone") is not None):
            return (yield)


@contextmanager
def _turn(locks: Path, *, alone: bool) -> Iterator[None]:
    with (locks / "running").open("wb") as running:
        with (locks / "queue").open("wb") as queue:
            fcntl.flock(queue, fcntl.LOCK_EX)
            fcntl.flock(running, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
