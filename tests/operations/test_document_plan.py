"""Changes of documents are planned as a whole, and written only where nothing has changed meanwhile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pushrail_stream.errors import OperatorError, UsageError
from pushrail_stream.operations.document_plan import (
    Plan,
    Prune,
    plan_documents,
    read_documents,
    stored_documents,
    write_plan,
)  # fmt: skip
from pushrail_stream.ports.documents import DocumentChange
from pushrail_stream.settings.model import Settings
from tests.support.documents import customer, write


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    folder = write(tmp_path / "documents", a=customer("a"), b=customer("b"), broken=b"{")
    return Settings.model_validate({"registry": {"path": str(folder)}})


def plan(settings: Settings, *given: dict[str, Any], prune: Prune | None = None) -> Plan:
    changes = [DocumentChange(f"given{n}.json", json.dumps(one).encode()) for n, one in enumerate(given)]
    return plan_documents(settings, changes, stored_documents(settings), prune=prune)


def effects(found: Plan) -> dict[str, str]:
    return {Path(change.name).name: change.effect for change in found.changes}


def test_every_effect_is_told(settings: Settings) -> None:
    found = plan(settings, customer("a"), customer("b", enabled=False), customer("c"), prune=Prune())
    assert effects(found) == {
        "a.json": "unchanged", "b.json": "changed", "dst_c.json": "added", "broken.json": "deleted",
    }  # fmt: skip
    assert found.refusals == []
    write_plan(settings, found.changes)
    assert sorted(path.name for path in settings.registry.path.iterdir()) == ["a.json", "b.json", "dst_c.json"]


def test_a_vendors_prune_keeps_what_has_no_vendor(settings: Settings) -> None:
    write(settings.registry.path, other=customer("other", vendor="globex"))
    assert effects(plan(settings, customer("a"), prune=Prune("acme"))) == {"a.json": "unchanged", "b.json": "deleted"}


def test_customers_swap_their_roles(settings: Settings) -> None:
    found = plan(settings, customer("a", role="b", external_id="ext-b"), customer("b", role="a", external_id="ext-a"))
    assert (found.refusals, set(effects(found).values())) == ([], {"changed"})


def test_a_claim_of_two_given_documents_is_refused(settings: Settings) -> None:
    found = plan(settings, customer("c"), customer("d", role="c"))
    assert {refusal.document for refusal in found.refusals} == {"given0.json", "given1.json"}


def test_nothing_is_written_over_another_change(settings: Settings) -> None:
    found = plan(settings, customer("c"), customer("a", enabled=False))
    write(settings.registry.path, a=customer("a", eventTypes=["*"]))
    with pytest.raises(OperatorError, match="was changed meanwhile: nothing is written"):
        write_plan(settings, found.changes)
    assert not (settings.registry.path / "dst_c.json").exists()


def test_files_and_folders_are_read_once(settings: Settings) -> None:
    folder = settings.registry.path
    assert len(read_documents([folder / "a.json", folder])) == 3
    assert read_documents([folder / "none.json"])[0].problem == "cannot be read: no such file or directory"


def test_no_folder_within_a_folder_is_passed_over(tmp_path: Path) -> None:
    for name in ("a.json", "eu/b.json", "..data/c.json", "eu/.git/d.json", "notes/e.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text("{}")
    with pytest.raises(UsageError) as error:
        read_documents([tmp_path])
    assert error.value.problems == (f"{tmp_path / 'eu'}: is not read with the folder above it: name it too",)
    found = {Path(document.name).name for document in read_documents([tmp_path, tmp_path / "eu"])}
    assert found == {"a.json", "b.json"}
