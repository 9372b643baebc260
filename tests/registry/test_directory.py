"""A folder of documents: good ones are found by customer and by id, bad ones are named and do not stop the others."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.core.destination import Secret
from pushrail_stream.core.signals import DocumentCaveat, DocumentRefused
from pushrail_stream.errors import UsageError
from pushrail_stream.ports.pipeline import Directory
from pushrail_stream.registry.catalog import Catalog
from pushrail_stream.registry.documents import parse_document
from pushrail_stream.settings.eventbridge import AccessKey
from tests.support import documents
from tests.support.documents import ACCESS_KEY, customer, document, write


def load(path: Path, **environ: str) -> tuple[Catalog, list[DocumentRefused]]:
    catalog, change = documents.load(path, partial(parse_document, environ=environ, default_max_in_flight=8))
    return catalog, list(change.refusals)


def caveats(path: Path, **environ: str) -> tuple[DocumentCaveat, ...]:
    return documents.load(path, partial(parse_document, environ=environ, default_max_in_flight=8))[1].caveats


def test_destinations_are_found_both_ways(tmp_path: Path) -> None:
    directory, refusals = load(write(tmp_path, acme=document(), other=customer("globex")))
    port: Directory = directory
    assert refusals == []
    assert [destination.id for destination in port.route("acme", "acct_8K2zRq")] == ["dst_acme_8K2zRq"]
    assert port.route("acme", "acct_unknown") == ()
    assert port.route("globex", "acct_8K2zRq") == ()
    found = port.get("dst_globex")
    assert found is not None
    assert found.customer_external_id == "acct_globex"
    assert port.get("dst_unknown") is None
    assert len(directory) == 2
    assert directory.document_of("dst_globex") == str(tmp_path / "other.json")
    assert directory.document_of("dst_unknown") is None


def test_destinations_are_ordered_by_id(tmp_path: Path) -> None:
    write(
        tmp_path, a=customer("x", id="dst_2"), b=customer("x", id="dst_1"), c=customer("x", id="dst_3", enabled=False)
    )
    directory, refusals = load(tmp_path)
    assert refusals == []
    assert [destination.id for destination in directory.route("acme", "acct_x")] == ["dst_1", "dst_2", "dst_3"]
    assert [destination.id for destination in directory] == ["dst_1", "dst_2", "dst_3"]


def test_a_bad_document_stops_no_other(tmp_path: Path) -> None:
    write(tmp_path, bad=b"{", good=document(), worse=document(id="", region="mars"))
    directory, refusals = load(tmp_path)
    assert [destination.id for destination in directory] == ["dst_acme_8K2zRq"]
    assert [(Path(refusal.document).name, refusal.field) for refusal in refusals] == [
        ("bad.json", ""),
        ("worse.json", "id"),
        ("worse.json", "region"),
    ]
    assert str(refusals[0]).startswith(f"{tmp_path / 'bad.json'}: is not valid JSON: line 1 column 2: ")
    assert str(refusals[2]) == f"{tmp_path / 'worse.json'}: region: must be an AWS region such as us-east-1"


def test_only_visible_json_files_are_documents(tmp_path: Path) -> None:
    write(tmp_path, acme=document())
    for name in (
        ".hidden.json",
        ".#acme.json",
        "#acme.json#",
        "acme.json~",
        "~acme.json",
        "notes.txt",
        "acme.json.swp",
    ):
        (tmp_path / name).write_text("not a document", encoding="utf-8")
    (tmp_path / "directory.json").mkdir()
    directory, refusals = load(tmp_path)
    assert (len(directory), refusals) == (1, [])


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "gone.json").symlink_to(tmp_path / "nowhere")
    directory, refusals = load(write(tmp_path, acme=document()))
    assert len(directory) == 1
    assert refusals == [DocumentRefused(str(tmp_path / "gone.json"), "", "cannot be read: no such file or directory")]


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent: no directory of destination documents: no such file"):
        load(tmp_path / "absent")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"file: no directory of destination documents: not a directory"):
        load(tmp_path / "file")


def test_an_empty_directory_has_no_destinations(tmp_path: Path) -> None:
    directory, refusals = load(tmp_path)
    assert (list(directory), refusals) == ([], [])


def test_an_id_claimed_by_two_documents_is_refused(tmp_path: Path) -> None:
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    directory, refusals = load(write(tmp_path, a=customer("x", id="dst_1"), b=customer("y", id="dst_1")))
    assert list(directory) == []
    assert refusals == [
        DocumentRefused(str(a), "id", f"dst_1 is already the id of {b}"),
        DocumentRefused(str(b), "id", f"dst_1 is already the id of {a}"),
    ]


@pytest.mark.parametrize("other", ["shared", "ShareD", "path/to/shared"])
def test_a_role_of_two_customers_is_refused(tmp_path: Path, other: str) -> None:
    """IAM knows one role of a name in an account, whatever its path and case."""
    write(tmp_path, a=customer("x", role="shared"), b=customer("y", role=other), c=customer("z"))
    directory, refusals = load(tmp_path)
    assert [destination.id for destination in directory] == ["dst_z"]
    assert [(Path(refusal.document).name, refusal.field) for refusal in refusals] == [
        ("a.json", "auth.roleArn"),
        ("b.json", "auth.roleArn"),
    ]
    assert refusals[0].problem == f"is in use for another customer, with another external ID ({tmp_path / 'b.json'})"


def test_a_customer_may_reuse_its_role(tmp_path: Path) -> None:
    directory, refusals = load(write(tmp_path, a=customer("x", id="dst_1"), b=customer("x", id="dst_2")))
    assert (len(directory), refusals) == (2, [])


@pytest.mark.parametrize("role", [None, "shared"])
def test_an_external_id_of_two_customers_is_refused(tmp_path: Path, role: str | None) -> None:
    """Whichever is read first: workers must not disagree, and a restart must not change whose it is."""
    write(tmp_path, a=customer("x", role=role, external_id="ext"), b=customer("y", role=role, external_id="ext"))
    directory, refusals = load(tmp_path)
    assert list(directory) == []
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    problem = "is already another customer's ({}): every customer needs one of their own"
    assert refusals == [
        DocumentRefused(str(a), "auth.externalId", problem.format(b)),
        DocumentRefused(str(b), "auth.externalId", problem.format(a)),
    ]


def test_a_customer_belongs_to_its_vendor(tmp_path: Path) -> None:
    write(tmp_path, a=customer("x", external_id="ext"), b=customer("x", id="dst_2", vendor="globex", external_id="ext"))
    _, refusals = load(tmp_path)
    assert [refusal.field for refusal in refusals] == ["auth.externalId"] * 2


def test_a_missing_secret_is_a_caveat(tmp_path: Path) -> None:
    path = write(tmp_path, a=document(auth=ACCESS_KEY))
    _, refusals = load(path)
    assert refusals == []
    (caveat,) = caveats(path)
    problem = "environment variable ACME_SECRET is not set: nothing is sent"
    assert caveat == DocumentCaveat(str(tmp_path / "a.json"), "auth.secretAccessKey", problem)
    assert str(caveat).startswith(f"{tmp_path / 'a.json'}: auth.secretAccessKey: environment variable")
    assert caveats(path, ACME_SECRET="x") == ()
    (destination,) = load(path, ACME_SECRET="x")[0]
    assert destination.bus.auth == AccessKey("AKIDEXAMPLE123456", Secret("x"))


@given(
    st.lists(
        st.tuples(*(st.sampled_from("xyz") for _ in range(4))).map(
            lambda drawn: customer(drawn[0], id=f"dst_{drawn[1]}", role=drawn[2], external_id=f"ext-{drawn[3]}")
        ),
        max_size=6,
    )
)
def test_accepted_documents_never_clash(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[dict[str, object]]
) -> None:
    path = tmp_path_factory.mktemp("clash")
    write(path, **{f"d{index}": content for index, content in enumerate(drawn)})
    directory, refusals = load(path)
    assert len(directory) + len({refusal.document for refusal in refusals}) == len(drawn)
    owners: dict[str, str] = {}
    for destination in directory:
        external_id = getattr(destination.bus.auth, "external_id")  # noqa: B009 - an AssumeRole by construction
        assert owners.setdefault(external_id, destination.customer_external_id) == destination.customer_external_id
        assert destination in directory.route(destination.vendor, destination.customer_external_id)
