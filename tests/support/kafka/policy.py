"""A run's real broker: started once, before the first test; its absence is loud.

A missing broker fails the run where the variable CI is set, as nobody would read a note there. Elsewhere the tests that
need it are skipped, and the very last line of the run says so. In a parallel run (pytest-xdist) the controller starts
the broker, since it outlives the worker processes, and all of them use that one.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, NoReturn

import pytest

from tests.support.kafka import distribution
from tests.support.kafka.choose import WHAT_TO_INSTALL, Missing, RealKafka, leave_running, start_real_kafka
from tests.support.kafka.local import LocalKafka
from tests.support.parallel import workerinput

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

_MARK: Final = "real Kafka missing: "
_SHARED: Final = "real_kafka"
"""The key of a worker process's input that holds the controller's broker: its kind, and its address or the reason."""

Found = RealKafka | Missing | BaseException


class RealKafkaPolicy:
    """A pytest plugin, registered by tests/conftest.py, which also makes fixtures of its methods."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        given = workerinput(config)
        self._found: Found | None = None if given is None else _received(*given[_SHARED])
        self._unrun = 0

    def bootstrap_servers(self) -> str:
        """Return the address of the run's real broker, or skip or fail the test that asks."""
        found = self._find()
        if isinstance(found, BaseException):
            raise found
        if isinstance(found, Missing):
            _refuse(found.reason)
        return found.bootstrap_servers

    def new_local(self, settings: Mapping[str, str] | None = None) -> LocalKafka:
        """Return a started broker of the test's own, or skip or fail the test that asks."""
        reason = distribution.missing()
        if reason is not None:
            _refuse(f"{reason}. Install Java 17 + Maven: this test restarts a broker of its own.")
        try:
            return LocalKafka(settings).start()
        except distribution.DistributionMissingError as error:
            _refuse(f"{error}. This test restarts a broker of its own.")

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: object) -> None:
        """Give the broker to a worker process that is about to start."""
        given: Any = workerinput(node)
        given[_SHARED] = _sent(self._find())

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Start the broker outside any test, so that a first download does not count against a test's timeout."""
        if not session.config.option.collectonly and not session.testsfailed:
            if any(_needs_real_broker(item) for item in session.items):
                self._find()
            elif any("local_kafka_factory" in _fixtures(item) for item in session.items):
                self._fetch()
        try:
            return (yield)
        finally:
            if isinstance(self._found, RealKafka):
                self._found.stop()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count the tests that did not run for want of a broker."""
        if report.when == "setup" and not report.passed and _MARK in str(report.longrepr):
            self._unrun += 1

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        """Say so after everything else, where it is read."""
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if self._unrun and terminal is not None:
            tests = "1 test" if self._unrun == 1 else f"{self._unrun} tests"
            terminal.write_line(f"REAL KAFKA MISSING: {tests} did not run. {WHAT_TO_INSTALL}", red=True, bold=True)

    def _find(self) -> Found:
        if self._found is None:
            try:
                self._found = start_real_kafka()
            except Exception as error:  # noqa: BLE001 - raised in every test that needs the broker, not in a hook
                self._found = error
        return self._found

    def _fetch(self) -> None:
        try:
            distribution.find_java()
            distribution.ensure_jars()
        except distribution.DistributionMissingError:
            return  # said again, and handled, where a test asks for a broker


def _sent(found: Found) -> tuple[str, str]:
    """The broker as a value that travels to another process."""
    match found:
        case RealKafka():
            return "running", found.bootstrap_servers
        case Missing():
            return "missing", found.reason
        case _:
            return "broken", repr(found)


def _received(kind: str, text: str) -> Found:
    match kind:
        case "running":
            return RealKafka(text, "the controller", leave_running)
        case "missing":
            return Missing(text)
        case _:
            return RuntimeError(text)


def _fixtures(item: pytest.Item) -> list[str]:
    return list(getattr(item, "fixturenames", ()))


def _needs_real_broker(item: pytest.Item) -> bool:
    fixtures = _fixtures(item)
    if "real_kafka" in fixtures:
        return True
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    return "kafka_bootstrap" in fixtures and parameters.get("kafka_bootstrap") == "real"


def _refuse(reason: str) -> NoReturn:
    """End the test that asks: failed in CI, skipped elsewhere."""
    if os.environ.get("CI", "").lower() not in {"", "0", "false"}:
        pytest.fail(_MARK + reason, pytrace=False)
    pytest.skip(_MARK + reason)
