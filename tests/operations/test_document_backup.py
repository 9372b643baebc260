"""The registry as one file: what an export writes, and what an import takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pushrail_stream.errors import UsageError
from pushrail_stream.operations.document_backup import export_documents, plan_import, read_backup
from pushrail_stream.operations.document_plan import Prune, write_plan
from pushrail_stream.registry.sealing import Place
from pushrail_stream.settings.model import Settings
from tests.support.documents import ACCESS_KEY, customer, document, write
from tests.support.sealing_keys import FIELD, SECRET, keyring, ring


def settings_of(home: Path, ring_of: str = "k") -> Settings:
    home.mkdir(exist_ok=True)
    (home / "documents").mkdir(exist_ok=True)
    (home / "keyring.json").write_bytes(ring(ring_of))
    return Settings.model_validate(
        {"registry": {"path": str(home / "documents")}, "secrets": {"keyring": str(home / "keyring.json")}}
    )


def sealed(home: Path, name: str) -> dict[str, Any]:
    token = keyring(home / "other.json", ring("k")).seal(SECRET, Place("acme", f"dst_{name}", FIELD))
    return customer(name, auth={**ACCESS_KEY, "secretAccessKey": token})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = settings_of(tmp_path / "one")
    write(
        made.registry.path, b=sealed(tmp_path, "b"), a=document(name="Zoë", id="dst_a"), c=customer("c", vendor="zeta")
    )
    return made


def lines(content: bytes) -> list[Any]:
    return [json.loads(line) for line in content.splitlines()]


def test_an_export_has_a_head_and_the_documents_in_order(settings: Settings) -> None:
    backup = export_documents(settings)
    head, *documents = lines(backup.content)
    assert (head["format"], head["version"], head["documents"]) == ("pushrail-destinations", 1, 3)
    assert [document["id"] for document in documents] == ["dst_a", "dst_b", "dst_c"]
    assert (backup.documents, backup.sealing_keys, backup.refusals) == (3, {"k": 1}, [])
    assert backup.content.isascii()
    assert export_documents(settings).content == backup.content


def test_no_secret_is_exported_in_clear(settings: Settings, tmp_path: Path) -> None:
    clear = {**ACCESS_KEY, "secretAccessKey": SECRET.reveal()}
    behind = {**ACCESS_KEY, "secretAccessKey": f"sealed:{SECRET.reveal()}"}
    write(
        settings.registry.path,
        d=customer("d", auth=clear),
        e=customer("e", auth=behind),
        f=b"{",
        g=document(id="dst_a"),
    )
    backup = export_documents(settings)
    assert SECRET.reveal().encode() not in backup.content
    refused = {(Path(name).name, field) for name, field, _ in backup.refusals}
    assert refused == {("d.json", FIELD), ("e.json", FIELD), ("f.json", ""), ("g.json", "id")}
    assert not any(SECRET.reveal() in str(refusal) for refusal in backup.refusals)
    assert backup.documents == 3
    assert sealed(tmp_path, "b")["auth"]["secretAccessKey"].startswith("sealed:1:k:")


def test_one_vendors_documents_are_exported(settings: Settings) -> None:
    assert [one["id"] for one in lines(export_documents(settings, "zeta").content)[1:]] == ["dst_c"]


def test_an_import_makes_an_empty_registry_equal(settings: Settings, tmp_path: Path) -> None:
    content = export_documents(settings).content
    other = settings_of(tmp_path / "two")
    changes = plan_import(other, read_backup("backup.jsonl", content))
    assert [change.effect for change in changes] == ["added"] * 3
    write_plan(other, changes)
    assert export_documents(other).content == content
    assert "Zoë" in (other.registry.path / "dst_a.json").read_text()


def test_equal_values_are_unchanged_and_keep_their_text(settings: Settings) -> None:
    given = read_backup("backup.jsonl", export_documents(settings).content)
    assert {change.effect for change in plan_import(settings, given)} == {"unchanged"}
    (settings.registry.path / "a.json").write_text(json.dumps(document(id="dst_a", enabled=False)))
    changes = plan_import(settings, given)
    assert [change.destination_id for change in changes if change.effect == "changed"] == ["dst_a"]
    pruned = plan_import(settings, given[:2], Prune("acme"))
    assert [change.effect for change in pruned] == ["changed", "unchanged"], "another vendor's document stays"
    assert [change.effect for change in plan_import(settings, given[:2], Prune())] == [
        "changed",
        "unchanged",
        "deleted",
    ]


def test_true_in_the_place_of_1_is_a_change(settings: Settings) -> None:
    stored, given = ({"detail": {"payload": {"flag": [value]}}} for value in (1, True))
    (settings.registry.path / "a.json").write_text(json.dumps(document(id="dst_a", filter=stored)))
    lines = export_documents(settings).content.splitlines()
    head = json.dumps({"format": "pushrail-destinations", "version": 1, "documents": 1}).encode()
    line = json.dumps(json.loads(lines[1]) | {"filter": given}).encode()
    [change] = plan_import(settings, read_backup("backup.jsonl", head + b"\n" + line))
    assert (change.destination_id, change.effect) == ("dst_a", "changed")


def test_a_refused_document_is_named_by_line_and_field(settings: Settings) -> None:
    head, *documents = lines(export_documents(settings).content)
    del head["sha256"]
    documents[0]["region"] = "mars"
    documents[2] = [1]
    edited = "".join(json.dumps(one) + "\n" for one in (head, *documents)).encode() + b"\n"
    with pytest.raises(UsageError) as refused:
        plan_import(settings, read_backup("backup.jsonl", edited))
    told = str(refused.value).splitlines()
    assert told[0].startswith("backup.jsonl:2: region: must be an AWS region")
    assert told[1].startswith("backup.jsonl:4: must be a JSON object")
    broken = edited.replace(b'{"id"', b'{{"id"', 1)
    with pytest.raises(UsageError, match=r"backup.jsonl:2: is not valid JSON"):
        plan_import(settings, read_backup("backup.jsonl", broken))


def test_sealed_secrets_must_open_unless_told_otherwise(settings: Settings, tmp_path: Path) -> None:
    given = read_backup("backup.jsonl", export_documents(settings).content)
    other = settings_of(tmp_path / "two", "another")
    with pytest.raises(UsageError, match="is sealed by key k, which the keyring"):
        plan_import(other, given)
    assert len(plan_import(other, given, decrypt=False)) == 3


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda _: b"", "line 1: is not the head"),
        (lambda content: content.split(b"\n", 1)[1], "line 1: is not the head"),
        (lambda content: content.replace(b'"version":1', b'"version":2'), "line 1: is not the head"),
        (lambda content: content[: content.index(b'{"id":"dst_c"')], "has 2 documents, and line 1 says 3"),
        (lambda content: content.replace(b"us-east-1", b"us-east-2"), "is not as it was exported"),
    ],
)
def test_a_damaged_file_is_refused(settings: Settings, spoil: Any, problem: str) -> None:
    with pytest.raises(UsageError, match=f"backup.jsonl: {problem}"):
        read_backup("backup.jsonl", spoil(export_documents(settings).content))
