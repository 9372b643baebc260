"""The doctor: each check by itself, and the worst findings first."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pushrail_stream.errors import OperatorError, UsageError
from pushrail_stream.operations.doctor import CHECKS, diagnose
from pushrail_stream.operations.findings import Check, Finding, Installation, NotKnownError
from pushrail_stream.settings.model import Settings
from pushrail_stream.settings.source import LoadedSettings
from tests.support.ports import free_port


def loaded(folder: Path) -> LoadedSettings:
    address = f"127.0.0.1:{free_port()}"
    return LoadedSettings(
        Settings.model_validate({"kafka": {"bootstrap_servers": address}, "registry": {"path": str(folder)}}), None
    )


def states(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(one.check, one.state) for one in findings]


def test_no_check_stops_another(tmp_path: Path) -> None:
    is_over = threading.Event()

    def hung(_: Installation) -> Iterator[Finding]:
        yield Finding("hung", "warning", "before")
        is_over.wait()

    def raising(error: Exception) -> Check:
        def check(_: Installation) -> Iterator[Finding]:
            yield Finding("some", "ok", "fine")
            raise error

        return check

    checks: dict[str, Check] = {
        "hung": hung,
        "bug": raising(KeyError("x")),
        "wrong": raising(OperatorError("one", "two")),
        "dependent": raising(NotKnownError("Kafka was not reached")),
    }
    shown: list[tuple[int, int]] = []
    try:
        found = diagnose(lambda: loaded(tmp_path), lambda *done: shown.append(done), checks, deadline_secs=2)
    finally:
        is_over.set()
    assert [one for one in found if one != Finding("some", "ok", "fine")] == [
        Finding("wrong", "problem", "one"),
        Finding("wrong", "problem", "two"),
        Finding("hung", "warning", "before"),
        Finding("hung", "unknown", "not known: no answer within 2 s"),
        Finding("bug", "unknown", "not known: the check failed with KeyError: 'x'", "report this as a bug"),
        Finding("dependent", "unknown", "not known: Kafka was not reached"),
    ]
    assert [one.state for one in found[-3:]] == ["ok", "ok", "ok"]
    assert shown == [(1, 4), (2, 4), (3, 4)]


def test_settings_that_cannot_be_read_are_the_only_finding() -> None:
    def load() -> LoadedSettings:
        raise UsageError("pushrail.yaml: vendor: must not be empty", "pushrail.yaml: kafka: unknown")

    found = diagnose(load, lambda *_: None)
    assert states(found) == [("settings", "problem")] * 2
    assert found[0].found == "pushrail.yaml: vendor: must not be empty"


@pytest.mark.parametrize("is_topic", [False, True])
def test_a_kafka_that_is_down_is_one_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_topic: bool
) -> None:
    monkeypatch.setattr("pushrail_stream.kafka.reach._ASK_SECS", (0.2,) * 100)
    down = loaded(tmp_path)
    registry = down.settings.registry.model_copy(update={"topic": is_topic})
    down = LoadedSettings(down.settings.model_copy(update={"registry": registry}), None)
    checks = {name: check for name, check in CHECKS.items() if name not in {"aws", "clock", "ports"}}
    found = diagnose(lambda: down, lambda *_: None, checks)
    [problem] = [one for one in found if one.state == "problem"]
    assert problem.check == "kafka"
    assert "Connection refused" in problem.found
    unknown = {one.check for one in found if one.state == "unknown"}
    documents = {"documents", "keyring"} if is_topic else set()
    assert unknown == {"topics", "rights", "group", "backlogs", "workers", "destinations", *documents}
