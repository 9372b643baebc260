"""Destination documents are put, found, sealed and deleted in a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pushrail_stream.core.destination import Secret
from pushrail_stream.errors import OperatorError, UsageError
from pushrail_stream.operations.document_changes import (
    delete_document,
    plan_put,
    plan_switch,
    require_keyring,
    seal_secret,
    show_document,
    unusable,
)  # fmt: skip
from pushrail_stream.operations.document_plan import write_plan
from pushrail_stream.ports.documents import DocumentChange
from pushrail_stream.registry.sealing import Place
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
    changes = plan_put(settings, [DocumentChange("given.json", json.dumps(document).encode())])
    if not is_dry_run:
        write_plan(settings, changes)
    [change] = changes
    return Path(change.name).name, change.effect


def files(settings: Settings) -> list[str]:
    return sorted(path.name for path in settings.registry.path.iterdir())


def test_a_document_keeps_its_file(settings: Settings) -> None:
    assert put(settings, customer("a")) == ("a.json", "unchanged")
    assert put(settings, customer("a", enabled=False)) == ("a.json", "changed")
    assert put(settings, customer("b")) == ("dst_b.json", "added")
    assert files(settings) == ["a.json", "dst_b.json"]


def refuse(name: str) -> None:
    """A person's no."""
    raise OperatorError(name)


def test_a_dry_run_writes_nothing(settings: Settings) -> None:
    assert put(settings, customer("b"), is_dry_run=True) == ("dst_b.json", "added")
    assert Path(delete_document(settings, "dst_a", refuse, is_dry_run=True)).name == "a.json"
    assert files(settings) == ["a.json"]


def test_a_clashing_document_is_refused(settings: Settings) -> None:
    with pytest.raises(UsageError, match="already another customer's"):
        put(settings, customer("b", external_id="ext-a"))
    assert files(settings) == ["a.json"]


def test_a_document_is_deleted_by_name_or_id(settings: Settings) -> None:
    put(settings, customer("b"))
    with pytest.raises(OperatorError, match=r"dst_b\.json"):
        delete_document(settings, "dst_b", refuse, is_dry_run=False)
    asked: list[str] = []
    for wanted, name in (("a.json", "a.json"), ("dst_b", "dst_b.json")):
        assert Path(delete_document(settings, wanted, asked.append, is_dry_run=False)).name == name
    assert files(settings) == []
    assert [Path(one).name for one in asked] == ["a.json", "dst_b.json"]
    with pytest.raises(OperatorError, match="no destination dst_a; `destinations list` names them"):
        delete_document(settings, "dst_a", refuse, is_dry_run=False)


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


def test_a_raw_document_is_shown_or_withheld(settings: Settings) -> None:
    assert show_document(settings, "dst_a")[1] == (settings.registry.path / "a.json").read_text()
    write(settings.registry.path, b=b'{"secretAccessKey": "x')
    with pytest.raises(UsageError, match="its text is not shown, because it may hold a secret"):
        show_document(settings, "b.json")


def test_a_changed_flag_needs_no_keyring(settings: Settings) -> None:
    token = require_keyring(settings).seal(Secret("x" * 40), Place("acme", "dst_a", "auth.secretAccessKey"))
    sealed = customer("a", auth={**ACCESS_KEY, "secretAccessKey": token})
    write(settings.registry.path, a=sealed)
    assert settings.secrets.keyring is not None
    Path(settings.secrets.keyring).unlink()
    write_plan(settings, plan_switch(settings, ["dst_a", "dst_a"], "enabled", on=False))
    assert json.loads((settings.registry.path / "a.json").read_text()) == {**sealed, "enabled": False}
