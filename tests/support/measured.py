"""Coverage of the measured packages by the tests of their own rooms, and not by tests that reach them through others.

That is the stricter demand, and measuring costs two thirds of the CPU time of a test that spends it in these packages.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Generator
from pathlib import Path
from typing import final

import pytest
from coverage import Coverage


@final
class MeasuredTests:
    """A pytest plugin. A running measurement sees the packages' import, and then the tests of their rooms."""

    def __init__(self, coverage: Coverage, tests: Path) -> None:
        packages = coverage.get_option("run:source")
        assert isinstance(packages, list)
        for package in map(importlib.import_module, packages):
            for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
                importlib.import_module(module.name)
        coverage.stop()
        self._coverage = coverage
        self._rooms = [tests.joinpath(*package.split(".")[1:]) for package in packages]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Measure the test when it is one of those rooms, and has not the mark ``unmeasured``."""
        is_ours = any(item.path.is_relative_to(room) for room in self._rooms)
        if not is_ours or item.get_closest_marker("unmeasured") is not None:
            return (yield)
        self._coverage.start()
        try:
            return (yield)
        finally:
            self._coverage.stop()
