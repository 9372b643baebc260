"""Facts that several checks need: found once, and unknown where their own check reports the fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from pushrail_stream.operations.findings import Installation, NotKnownError
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.settings.model import Settings
from pushrail_stream.settings.source import LoadedSettings
from tests.support.documents import EXAMPLE, write
from tests.support.ports import free_port


def installation(address: str, folder: Path) -> Installation:
    values = {"kafka": {"bootstrap_servers": address}, "registry": {"path": str(folder)}}
    return Installation(LoadedSettings(Settings.model_validate(values), None))


def test_facts_are_found_once(tmp_path: Path, embedded_broker: EmbeddedBroker) -> None:
    write(tmp_path, acme=EXAMPLE)
    one = installation(embedded_broker.bootstrap_servers, tmp_path)
    assert one.kafka() is one.kafka()
    assert len(one.documents().catalog) == 1
    assert one.documents() is one.documents()


def test_a_fault_is_left_to_its_own_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pushrail_stream.kafka.reach._ASK_SECS", (0.2,))
    one = installation(f"127.0.0.1:{free_port()}", tmp_path / "missing")
    with pytest.raises(NotKnownError, match="Kafka was not reached"):
        one.kafka()
    with pytest.raises(NotKnownError, match="the documents were not read"):
        one.documents()
    with pytest.raises(NotKnownError, match="Kafka was not reached"):
        one.kafka_with("pushrail.events")


def test_a_missing_topic_is_left_to_its_own_check(tmp_path: Path, embedded_broker: EmbeddedBroker) -> None:
    one = installation(embedded_broker.bootstrap_servers, tmp_path)
    with pytest.raises(NotKnownError, match=r"topic pushrail\.events is missing"):
        one.kafka_with("pushrail.events")
