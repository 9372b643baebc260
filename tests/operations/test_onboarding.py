"""A customer is onboarded: the document and the customer's files are written, or nothing is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pushrail_stream.errors import UsageError
from pushrail_stream.operations.onboarding import onboard_customer
from pushrail_stream.operations.onboarding_files import customer_files
from pushrail_stream.operations.onboarding_templates import Onboarding
from pushrail_stream.settings.model import Settings
from tests.support.documents import customer, write


def onboarding(**changes: Any) -> Onboarding:
    given = {
        "vendor": "acme", "customer": "acct_1", "region": "eu-west-1", "account": "111122223333",
        "our_account": "210987654321", "external_id": "acme-ext-1",
    }  # fmt: skip
    return Onboarding(**(given | changes))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.model_validate({"registry": {"path": str(tmp_path / "documents")}})


def test_document_and_files_are_written(settings: Settings, tmp_path: Path) -> None:
    notes: list[str] = []
    made, name, known = onboard_customer(settings, onboarding(), tmp_path / "out", notes.append, is_dry_run=False)
    document = json.loads(Path(name).read_text())
    assert known is None
    assert (document["enabled"], document["customerExternalId"]) == (False, "acct_1")
    written = {str(path.relative_to(tmp_path / "out")): path.read_text() for path in (tmp_path / "out").rglob("*.*")}
    assert written == customer_files(made)
    assert notes == [
        f"made the directory {tmp_path / 'documents'}",
        f"written to {tmp_path / 'out'}: {', '.join(customer_files(made))}",
    ]


def test_existing_files_are_kept(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "main.tf").write_text("the customer's")
    with pytest.raises(UsageError, match="is there already, and is not overwritten"):
        onboard_customer(settings, onboarding(), tmp_path, list[str]().append, is_dry_run=False)
    assert (tmp_path / "main.tf").read_text() == "the customer's"
    assert list((tmp_path / "documents").iterdir()) == [], "no document stands in the way of the next attempt"


def test_a_customer_has_one_destination(settings: Settings, tmp_path: Path) -> None:
    write(tmp_path / "documents", known=customer("1", vendor="acme"))
    with pytest.raises(UsageError, match=r"^--customer: has a destination already, dst_1"):
        onboard_customer(settings, onboarding(), None, list[str]().append, is_dry_run=True)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"account": "12"}, "--account: "),
        ({"our_account": "12"}, "--our-account: "),
        ({"region": "eu-isoe-west-1"}, "--region: "),
        ({"region": "cn-north-1"}, "--region: cn-north-1 is of the partition aws-cn"),
        ({"bus": "aws.partner/x"}, "--bus: "),
    ],
)
def test_a_wrong_value_names_its_option(settings: Settings, changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        onboard_customer(settings, onboarding(**changes), None, list[str]().append, is_dry_run=True)
    assert str(caught.value).startswith(problem)
