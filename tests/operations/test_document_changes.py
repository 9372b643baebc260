"""Destination documents are put, found, sealed and deleted in a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pushrail_stream.core.destination import Secret
from pushrail_stream.errors import OperatorError, UsageError
from pushrail_stream.operations.document_changes import delete_document, put_document, seal_secret, unusable
from pushrail_stream.settings.model import Settings
from tests.support.documents import ACCESS_KEY, customer, write
from tests.support.sealing_keys import ring


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    write(tmp_path / "documents", a=customer("a"))
    (tmp_path / "keyring.json").write_bytes(ring("k"))
    return Settings.model_validate(
        {"registry": {"path": str(tmp_path / "documents")}, "secrets": {"keyring": str(tmp_path / "keyring.json")}}
    )


def put(settings: Settings, document: dict[str, Any], *, is_dry_run: bool = False) -> tuple[str, str]:
    done = put_document(settings, "given.json", json.dumps(document).encode(), is_dry_run=is_dry_run)
    return Path(done.name).name, done.effect


def files(settings: Settings) -> list[str]:
    return sorted(path.name for path in settings.registry.path.iterdir())


def test_a_document_keeps_its_file(settings: Settings) -> None:
    assert put(settings, customer("a")) == ("a.json", "unchanged")
    assert put(settings, customer("a", enabled=False)) == ("a.json", "changed")
    assert put(settings, customer("b")) == ("dst_b.json", "added")
    assert files(settings) == ["a.json", "dst_b.json"]


def test_a_dry_run_writes_nothing(settings: Settings) -> None:
    assert put(settings, customer("b"), is_dry_run=True) == ("dst_b.json", "added")
    assert Path(delete_document(settings, "dst_a", is_dry_run=True)).name == "a.json"
    assert files(settings) == ["a.json"]


def test_a_clashing_document_is_refused(settings: Settings) -> None:
    with pytest.raises(UsageError, match="already another customer's"):
        put(settings, customer("b", external_id="ext-a"))
    assert files(settings) == ["a.json"]


def test_a_document_is_deleted_by_name_or_id(settings: Settings) -> None:
    put(settings, customer("b"))
    for wanted, name in (("a.json", "a.json"), ("dst_b", "dst_b.json")):
        assert Path(delete_document(settings, wanted, is_dry_run=False)).name == name
    assert files(settings) == []
    with pytest.raises(OperatorError, match="no destination dst_a; `destinations list` names them"):
        delete_document(settings, "dst_a", is_dry_run=False)


def test_a_secret_is_asked_for_only_with_a_place(settings: Settings) -> None:
    def ask() -> Secret:
        raise AssertionError("a role has no secret")

    with pytest.raises(UsageError, match=r"auth\.mode: must be ACCESS_KEY"):
        seal_secret(settings, "dst_a", ask, None, is_dry_run=False)


def test_a_secret_is_sealed_into_its_document(settings: Settings) -> None:
    write(settings.registry.path, a=customer("a", auth=ACCESS_KEY))
    name, key = seal_secret(settings, "dst_a", lambda: Secret("x" * 40), "AKIDEXAMPLE999999", is_dry_run=False)
    auth = json.loads(Path(name).read_text())["auth"]
    assert (key, auth["accessKeyId"], auth["secretAccessKey"][:7]) == ("k", "AKIDEXAMPLE999999", "sealed:")


def test_an_edit_during_the_question_is_kept(settings: Settings) -> None:
    write(settings.registry.path, a=customer("a", auth=ACCESS_KEY))

    def ask() -> Secret:
        write(settings.registry.path, a=customer("a", auth=ACCESS_KEY, enabled=False))
        return Secret("x" * 40)

    with pytest.raises(OperatorError, match="was changed meanwhile: nothing is written"):
        seal_secret(settings, "dst_a", ask, None, is_dry_run=False)
    assert json.loads((settings.registry.path / "a.json").read_text())["enabled"] is False


def test_an_unusable_destination_says_why(settings: Settings) -> None:
    write(settings.registry.path, a=customer("a", region=5))
    assert "is refused as it stands: nothing is sent by it" in str(unusable(settings, "dst_a"))
    assert "no destination dst_x" in str(unusable(settings, "dst_x"))
