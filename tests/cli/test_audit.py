"""The audit trail: one record for each command that changes something, and none for the others."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pwd
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from pushrail_stream.cli.audit import _row
from pushrail_stream.settings.model import Settings
from pushrail_stream.settings.source import load_settings
from tests.support.commands import COMMANDS, Shell
from tests.support.documents import ACCESS_KEY, customer, write
from tests.support.sealing_keys import SECRET, ring
from tests.support.workers import make_topics, read_all, settings_for

NOTHING_TO_AUDIT = {
    # Each with the reason.
    ("run",): "a service: its work is in the delivery log",
    ("ingest",): "a service",
    ("attempts", "index"): "a copy of the delivery log on this machine",
    ("config", "init"): "a file that is not in use yet",
    ("sandbox",): "lives on one machine alone",
    ("sandbox", "bus"): "the same",
    ("destinations", "test"): "sends a test event and changes nothing of ours",
}
"""Commands that do more than look and change nothing of an installation."""
LOOKING = {
    "access aws", "access destination", "access kafka", "attempts", "audit", "backlog list", "check", "completion",
    "config schema", "config show", "destinations export", "destinations list", "destinations schema",
    "destinations show", "destinations validate", "dlq list", "dlq show", "doctor", "events asyncapi", "events check",
    "events schema", "ingest keys list", "keys list", "notices", "plan", "retry list", "sandbox inbox", "top",
    "topics describe", "usage",
}  # fmt: skip


def test_every_command_that_changes_something_is_audited() -> None:
    audited = {words for words, command in COMMANDS.items() if getattr(command.callback, "is_audited", False)}
    others = {words for words in COMMANDS if words} - audited
    assert {" ".join(words) for words in others - NOTHING_TO_AUDIT.keys()} == LOOKING
    assert not any(parameter.name == "dry_run" for words in others for parameter in COMMANDS[words].params)


@pytest.mark.parametrize(
    "record", [{}, {"who": 5, "changes": 5}, {"who": {"user": 5}, "changeCount": "many", "changes": [5]}], ids=str
)
def test_a_record_of_another_form_is_shown(record: dict[str, Any]) -> None:
    assert len(_row(record)) == 5


@pytest.fixture
def settings(real_kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings, in force, with documents in a folder and an audit trail."""
    monkeypatch.chdir(tmp_path)
    made = settings_for(
        real_kafka, "http://127.0.0.1:1", registry={"path": "documents"}, secrets={"keyring": "keyring.json"},
        audit={"enabled": True, "actor": "ticket 7"},
    )  # fmt: skip
    make_topics(made)
    values = made.model_dump(mode="json")
    values["kafka"].pop("client")
    (tmp_path / "pushrail.yaml").write_text(yaml.safe_dump(values))
    (tmp_path / "documents").mkdir()
    (tmp_path / "keyring.json").write_bytes(ring("first"))
    monkeypatch.setenv("PUSHRAIL_CONFIG", "pushrail.yaml")
    return load_settings()


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], settings: Settings) -> Shell:
    del settings
    return Shell(capsys, [SECRET.reveal()])


def trail(settings: Settings) -> list[dict[str, Any]]:
    values = [value or b"" for _, value, _ in read_all(settings, settings.topics.audit)]
    assert not any(SECRET.reveal().encode() in value for value in values)
    return [json.loads(value) for value in values]


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.mark.kafka
def test_each_change_of_documents_has_a_record(
    shell: Shell, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    given = write(Path("given"), a=customer("a"), b=customer("b", auth={**ACCESS_KEY, "secretAccessKey": "env:X_Y"}))
    added = (given / "a.json").read_bytes()
    assert shell("destinations", "put", "given", "--dry-run")[0] == 0
    assert shell("destinations", "put", "given")[0] == 0
    assert shell("destinations", "put", "given")[0] == 0, "nothing changes, and nothing is recorded"
    assert shell("destinations", "disable", "dst_a")[0] == 0
    assert shell("keys", "generate", "--id", "k")[0] == 0
    monkeypatch.setattr("sys.stdin", io.StringIO(SECRET.reveal()))
    assert shell("destinations", "seal", "dst_b")[0] == 0
    assert shell("destinations", "delete", "dst_a", "--yes")[0] == 0
    found = trail(settings)
    assert [one["command"] for one in found] == [
        "destinations put", "destinations disable", "keys generate", "destinations seal", "destinations delete",
    ]  # fmt: skip
    assert len({one["auditId"] for one in found}) == len(found)
    put, disabled, generated, _, deleted = found
    assert put["who"] == {
        "user": pwd.getpwuid(os.getuid()).pw_name, "host": socket.gethostname(), "actor": "ticket 7",
    }  # fmt: skip
    assert (put["outcome"], put["problem"], put["arguments"]) == ("done", "", {"files": ["given"]})
    assert [(Path(one["name"]).name, one["before"]) for one in put["changes"]] == [
        ("dst_a.json", None), ("dst_b.json", None),
    ]  # fmt: skip
    [change] = disabled["changes"]
    assert (change["before"], change["after"]) != (change["after"], change["before"])
    assert change["before"] == put["changes"][0]["after"] == digest(added)
    assert [one["kind"] for one in generated["changes"]] == ["keyring"]
    assert (deleted["changes"][0]["before"], deleted["changes"][0]["after"]) == (change["after"], None)

    head, *rows = shell("audit", "--command", "destinations")[1].splitlines()
    assert head.split() == ["time", "who", "command", "outcome", "changes"]
    assert len(rows) == 4
    assert "for ticket 7 at" in rows[0]
    named = shell("audit", "--name", "dst_b", "--json")[1].splitlines()
    assert [json.loads(line)["command"] for line in named] == ["destinations put", "destinations seal"]


@pytest.mark.kafka
def test_changes_at_kafka_and_of_api_keys_have_a_record(shell: Shell, settings: Settings) -> None:
    assert shell("replay", "offsets", "--to", "earliest")[0] == 0
    assert shell("replay", "dlq", "--all", "--yes")[0] == 0
    assert shell("ingest", "keys", "create", "--vendor", "acme")[0] == 0
    assert shell("topics", "create")[0] == 0, "all exist"
    assert shell("retry", "now", "--destination", "dst_a")[0] == 1, "no worker runs"
    found = trail(settings)
    assert [(one["command"], one["changes"][0]["kind"]) for one in found] == [
        ("replay offsets", "offset"), ("replay dlq", "replay"), ("ingest keys create", "api keys"),
        ("retry now", "retry"),
    ]  # fmt: skip
    assert [one["outcome"] for one in found] == ["done", "done", "done", "failed"]
    assert found[1]["changes"][0]["name"].startswith("rp-")
    assert found[0]["changeCount"] == 3


@pytest.mark.kafka
def test_the_topic_of_audits_is_created_by_an_audited_command(
    shell: Shell, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    name = f"{settings.topics.audit}.new"
    monkeypatch.setenv("PUSHRAIL_TOPICS__AUDIT", name)
    assert shell("topics", "create", "--dry-run")[0] == 0
    assert shell("topics", "create")[0] == 0
    [record] = trail(load_settings())
    assert (record["command"], [one["name"] for one in record["changes"]]) == ("topics create", [name])


@pytest.mark.kafka
def test_a_command_that_fails_is_recorded_as_failed(
    shell: Shell, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    write(Path("given"), a=customer("a"), b=customer("b"))

    def fail(file: Path, *_: object, **__: object) -> None:
        raise OSError(5, f"no disk for {file}")

    monkeypatch.setattr("pushrail_stream.registry.store.replace_file", fail)
    with pytest.raises(OSError, match="no disk"):
        shell("destinations", "put", "given")
    [record] = trail(settings)
    assert (record["outcome"], record["changeCount"]) == ("failed", 1)
    assert "no disk" in record["problem"]


@pytest.mark.kafka
def test_nothing_is_changed_when_it_could_not_be_audited(
    shell: Shell, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    write(Path("given"), a=customer("a"))
    monkeypatch.setenv("PUSHRAIL_TOPICS__AUDIT", "missing.audit")
    code, out, err = shell("destinations", "put", "given")
    assert (code, out) == (1, "")
    assert err.startswith("error: nothing is changed, because it could not be audited (audit.enabled): topic missing")
    assert list(settings.registry.path.iterdir()) == []
    assert shell("destinations", "put", "given", "--dry-run")[0] == 0
    assert shell("destinations", "list")[0] == 0
