"""The real broker, and a run without one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import psutil
import pytest
from confluent_kafka import KafkaError
from confluent_kafka.admin import AdminClient

from tests.support.kafka import distribution
from tests.support.kafka.choose import start_real_kafka
from tests.support.kafka.local import LocalKafka, LocalKafkaError
from tests.support.kafka.roundtrip import consume, produce
from tests.support.kafka.topics import create_topic, fresh_topic
from tests.support.patience import PATIENCE_SECS

if TYPE_CHECKING:
    from tests.support.kafka.fixtures import LocalKafkaFactory, NewTopic

_ROOT = Path(__file__).parents[3]


def test_records_come_back_as_they_went_in(real_kafka: str) -> None:
    with fresh_topic(real_kafka, partitions=3) as topic:
        produce(real_kafka, topic, [b"a", b"b"], partition=2)
        assert consume(real_kafka, topic, 2, partition=2) == [b"a", b"b"]


def test_both_brokers_take_the_same_test(kafka_bootstrap: str, new_topic: NewTopic) -> None:
    topic = new_topic(partitions=2)
    produce(kafka_bootstrap, topic, [b"x"], partition=1)
    assert consume(kafka_bootstrap, topic, 1, partition=1) == [b"x"]


def test_topics_are_not_created_by_using_them(real_kafka: str) -> None:
    found = AdminClient({"bootstrap.servers": real_kafka}).list_topics("never-created", timeout=20)
    error = found.topics["never-created"].error
    assert error is not None
    assert error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_a_restart_keeps_address_and_records(local_kafka_factory: LocalKafkaFactory) -> None:
    kafka = local_kafka_factory()
    address = kafka.bootstrap_servers
    create_topic(address, "kept")
    produce(address, "kept", [b"before"])
    kafka.restart()
    produce(address, "kept", [b"between"])
    kafka.kill()
    assert not kafka.running
    kafka.start()
    assert kafka.bootstrap_servers == address
    assert consume(address, "kept", 2) == [b"before", b"between"]


def test_settings_reach_a_broker_started_once(local_kafka_factory: LocalKafkaFactory) -> None:
    kafka = local_kafka_factory({"message.max.bytes": "1000"})
    with pytest.raises(LocalKafkaError, match="already running"):
        kafka.start()
    create_topic(kafka.bootstrap_servers, "small")
    with pytest.raises(AssertionError, match="MSG_SIZE_TOO_LARGE"):
        produce(kafka.bootstrap_servers, "small", [b"x" * 2000])


def test_a_broker_that_cannot_start_says_why(local_kafka_factory: LocalKafkaFactory) -> None:
    with pytest.raises(LocalKafkaError, match=r"num\.network\.threads"):
        local_kafka_factory({"num.network.threads": "none"})


def test_a_broker_never_started_has_no_address() -> None:
    with pytest.raises(LocalKafkaError, match="not started"):
        _ = LocalKafka().bootstrap_servers


def test_killed_tests_leave_no_broker(local_kafka_factory: LocalKafkaFactory) -> None:
    local_kafka_factory().close()  # so that whatever is missing is known, and fetched, before the clock runs
    code = """
from tests.support.kafka.local import LocalKafka
kafka = LocalKafka().start()
print(kafka._process.pid, kafka._folder, flush=True)
input()
"""
    tests = subprocess.Popen(
        [sys.executable, "-c", code], cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with tests:
        assert tests.stdout is not None
        pid, folder = tests.stdout.readline().split()
        broker = psutil.Process(int(pid))
        tests.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE_SECS
    while (broker.is_running() and broker.status() != psutil.STATUS_ZOMBIE) or Path(folder).exists():
        assert time.monotonic() < deadline, "the broker outlived the tests"
        time.sleep(0.05)


def test_the_version_is_the_one_in_the_pom() -> None:
    pom = ET.parse(Path(distribution.__file__).with_name("pom.xml"))  # noqa: S314 - our own file
    space = {"m": "http://maven.apache.org/POM/4.0.0"}
    versions = {
        dependency.findtext("m:artifactId", namespaces=space): dependency.findtext("m:version", namespaces=space)
        for dependency in pom.iterfind(".//m:dependency", space)
    }
    assert versions["kafka_2.13"] == distribution.KAFKA_VERSION


def test_an_interrupted_download_is_never_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maven = tmp_path / "bin" / "mvn"
    maven.parent.mkdir()
    maven.write_text(
        "#!/bin/sh\n"
        'for argument in "$@"; do case "$argument" in -DoutputDirectory=*) into="${argument#*=}";; esac; done\n'
        'echo half > "$into/kafka.jar"; echo no route to host >&2; exit 1\n'
    )
    maven.chmod(0o755)
    monkeypatch.setenv("PATH", str(maven.parent), prepend=os.pathsep)
    monkeypatch.setenv("PUSHRAIL_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(distribution.DistributionMissingError, match="no route to host"):
        distribution.ensure_jars()
    assert list((tmp_path / "cache").iterdir()) == []


def test_jars_that_are_there_need_no_maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUSHRAIL_CACHE_DIR", str(tmp_path))
    there = tmp_path / f"kafka-{distribution.KAFKA_VERSION}"
    there.mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert distribution.ensure_jars() == there


def _run_without_any_kafka(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the two round trip tests where there is no Java, no Maven, no Docker engine and no address."""
    tests = [
        f"{__file__}::{test.__name__}"
        for test in (test_records_come_back_as_they_went_in, test_both_brokers_take_the_same_test)
    ]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *tests],
        cwd=_ROOT,
        env={
            "PATH": str(tmp_path / "empty"),
            "HOME": str(tmp_path),
            "DOCKER_HOST": "tcp://127.0.0.1:1",
            "PUSHRAIL_CACHE_DIR": str(tmp_path / "cache"),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_in_ci_a_missing_broker_fails_the_run(tmp_path: Path) -> None:
    run = _run_without_any_kafka(tmp_path, CI="true")
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stdout + run.stderr
    assert "2 errors" in run.stdout
    assert "no Docker engine answers; no java was found" in run.stdout


def test_a_missing_broker_skips_with_a_summary(tmp_path: Path) -> None:
    run = _run_without_any_kafka(tmp_path)
    assert run.returncode == pytest.ExitCode.OK, run.stdout + run.stderr
    assert "1 passed, 2 skipped" in run.stdout
    assert run.stdout.splitlines()[-1] == (
        "REAL KAFKA MISSING: 2 tests did not run. "
        "Install Docker, or Java 17 + Maven, or set PUSHRAIL_TEST_KAFKA=host:port."
    )


def test_an_address_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.kafka.choose._START_SECS", 0.0)
    monkeypatch.setattr("tests.support.kafka.choose._POLL_SECS", 0.1)
    monkeypatch.setenv("PUSHRAIL_TEST_KAFKA", "127.0.0.1:1")
    with pytest.raises(TimeoutError, match=r"127\.0\.0\.1:1"):
        start_real_kafka()
