"""``destinations put`` and ``delete``, in a folder and on a topic: checked before anything is written."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pushrail_stream.cli.documents import write_document
from pushrail_stream.settings import Settings, load_settings
from tests.cli.shell import Shell
from tests.e2e.world import make_topics, settings_for
from tests.registry.documents import ACCESS_KEY, EXAMPLE, customer, document

ID = EXAMPLE["id"]


@pytest.fixture(params=["folder", "topic"])
def settings(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings, in force, of a registry that is empty yet."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "documents").mkdir()
    registry = {"path": "documents", "topic": request.param == "topic"}
    kafka = request.getfixturevalue("real_kafka") if request.param == "topic" else "127.0.0.1:1"
    made = settings_for(kafka, "http://127.0.0.1:1", registry=registry)
    if request.param == "topic":
        make_topics(made)
    values = made.model_dump(mode="json")
    values["kafka"].pop("client")
    (tmp_path / "pushrail.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.setenv("PUSHRAIL_CONFIG", "pushrail.yaml")
    return load_settings()


pytestmark = pytest.mark.kafka


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], settings: Settings) -> Shell:
    del settings
    return Shell(capsys, [])


class _Stdin(io.BytesIO):
    name = "<stdin>"


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Any:
    def stand(content: Any) -> None:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(_Stdin(raw)))

    return stand


def put(shell: Shell, stdin: Any, content: Any, *words: str) -> tuple[int, str, str]:
    stdin(content)
    return shell("destinations", "put", "-", *words)


def where(settings: Settings, destination_id: str) -> str:
    return destination_id if settings.registry.topic else f"documents/{destination_id}.json"


def test_a_document_is_added_changed_and_left(shell: Shell, stdin: Any, settings: Settings) -> None:
    place = where(settings, ID)
    assert put(shell, stdin, EXAMPLE) == (0, f"{ID}: added ({place})\n", "")
    assert put(shell, stdin, EXAMPLE) == (0, f"{ID}: unchanged ({place})\n", "")
    assert put(shell, stdin, document(enabled=False)) == (0, f"{ID}: changed ({place})\n", "")
    code, out, _ = put(shell, stdin, EXAMPLE, "--json")
    assert (code, json.loads(out)) == (0, {"id": ID, "result": "changed", "document": place})
    code, out, _ = shell("destinations", "list", "--json")
    assert [json.loads(line)["id"] for line in out.splitlines()] == [ID]


def test_a_rehearsal_writes_nothing(shell: Shell, stdin: Any, settings: Settings) -> None:
    place = where(settings, ID)
    assert put(shell, stdin, EXAMPLE, "--dry-run") == (0, f"{ID}: would be added ({place})\n", "")
    assert shell("destinations", "list", "--json") == (0, "", "")


def test_a_wrong_document_is_named_and_not_written(shell: Shell, stdin: Any) -> None:
    put(shell, stdin, EXAMPLE)
    for content, error in (
        (b"{", "<stdin>: is not valid JSON"),
        (document(region="mars"), "<stdin>: region: must be an AWS region such as us-east-1"),
        (document(auth={**ACCESS_KEY, "secretAccessKey": "in clear"}), "<stdin>: auth.secretAccessKey: must not stand"),
        (customer("thief", role="PushrailEventBridgeWriter"), "auth.roleArn: is in use for another customer"),
        (customer("thief", external_id="acme-ext-7Pq2"), "auth.externalId: is already another customer's"),
    ):
        code, out, err = put(shell, stdin, content)
        assert (code, out) == (2, "")
        assert error in err
    assert shell("destinations", "list", "--json")[1].count("\n") == 1


def test_a_destination_is_deleted(shell: Shell, stdin: Any, settings: Settings) -> None:
    place = where(settings, ID)
    put(shell, stdin, EXAMPLE)
    assert shell("destinations", "delete", ID, "--dry-run") == (0, f"{ID}: would be deleted ({place})\n", "")
    assert shell("destinations", "delete", ID) == (0, f"{ID}: deleted ({place})\n", "")
    assert shell("destinations", "list", "--json") == (0, "", "")
    code, out, err = shell("destinations", "delete", ID)
    registry = settings.topics.destinations if settings.registry.topic else "documents"
    assert (code, out) == (1, "")
    assert err == f"error: {registry}: no destination {ID}; `destinations list` names them\n"


@pytest.mark.parametrize("settings", ["folder"], indirect=True)
def test_a_document_stays_in_the_file_it_was_found_in(shell: Shell, tmp_path: Path, stdin: Any) -> None:
    (tmp_path / "documents" / "by-another-name.json").write_text(json.dumps(EXAMPLE))
    assert put(shell, stdin, document(enabled=False))[1] == f"{ID}: changed (documents/by-another-name.json)\n"
    assert [file.name for file in (tmp_path / "documents").iterdir()] == ["by-another-name.json"]


@pytest.mark.parametrize("settings", ["topic"], indirect=True)
def test_a_record_under_another_name_than_its_own_is_refused(shell: Shell, settings: Settings, stdin: Any) -> None:
    asyncio.run(write_document(settings, "dst_somebody_else", json.dumps(EXAMPLE).encode()))
    code, out, err = shell("destinations", "list", "--json")
    assert (code, out) == (0, "")
    assert err == "refused: dst_somebody_else: id: is not the record's key (dst_somebody_else)\n"
    assert put(shell, stdin, EXAMPLE)[0] == 0
