"""The audit trail without Kafka: notes go nowhere, and a command that could not be audited changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import orjson
import pytest

from pushrail_stream.errors import OperatorError
from pushrail_stream.operations.audit import _record, _trail, audit_trail, note_change, note_content
from pushrail_stream.settings.model import Settings
from tests.support.ports import free_port


def enabled(**sections: object) -> Settings:
    return Settings.model_validate({"audit": {"enabled": True}} | sections)


def test_without_a_trail_notes_go_nowhere() -> None:
    note_change("offset", "t/0", "1", "2")
    note_content("document", "a.json", None, b"{}")
    assert _trail.get() is None


@pytest.mark.parametrize(("settings", "is_dry_run"), [(Settings(), False), (enabled(), True)])
def test_no_kafka_is_needed_when_nothing_is_to_be_audited(settings: Settings, is_dry_run: bool) -> None:  # noqa: FBT001 - a case
    with audit_trail(settings, "destinations put", {}, is_dry_run=is_dry_run):
        note_content("document", "a.json", None, b"{}")
    assert _trail.get() is None


def test_a_command_whose_record_cannot_be_written_does_not_begin() -> None:
    settings = enabled(kafka={"bootstrap_servers": f"127.0.0.1:{free_port()}"})
    begun = []
    with (
        pytest.raises(OperatorError, match="Kafka cannot be reached"),
        audit_trail(settings, "destinations put", {}, is_dry_run=False),
    ):
        begun.append(True)
    assert begun == []


def test_a_record_is_json_whatever_the_arguments_are() -> None:
    given = {"files": (Path("a\udcff.json"), Path("b")), "limit": 10**20, "reason": "caf\udce9", "again": True}
    record = orjson.loads(_record(Settings(), "replay dlq", given, 0, "a\udcff is wrong", []))
    assert record["arguments"] == {"files": ["a?.json", "b"], "limit": 1e20, "reason": "caf?", "again": True}
    assert record["problem"] == "a? is wrong"


def test_an_argument_of_zero_is_told() -> None:
    given = {"partition": 0, "to": None, "all": False, "files": ()}
    assert json.loads(_record(Settings(), "replay offsets", given, 0, "", []))["arguments"] == {"partition": 0}
