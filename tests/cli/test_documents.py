"""``destinations put`` and ``delete``, in a folder and on a topic: checked before anything is written."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pushrail_stream.operations.document_changes import write_document
from pushrail_stream.operations.document_plan import stored_documents
from pushrail_stream.registry.sealing import Place
from pushrail_stream.settings.model import Settings
from pushrail_stream.settings.source import load_settings
from tests.support.commands import Shell
from tests.support.documents import ACCESS_KEY, EXAMPLE, customer, document, write
from tests.support.sealing_keys import SECRET, keyring, ring
from tests.support.workers import make_topics, settings_for

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


def test_a_document_is_added_then_changed(shell: Shell, stdin: Any, settings: Settings) -> None:
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


def test_an_invalid_document_is_not_written(shell: Shell, stdin: Any) -> None:
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


def add(settings: Settings, name: str, content: Any) -> str:
    """Write a document past all checks; its name in the registry."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    write_document(settings, where(settings, name), raw)
    return where(settings, name)


def test_a_person_is_asked_before_a_deletion(shell: Shell, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    add(settings, "dst_a", customer("a"))
    asked: list[str] = []
    answers = ["", "y"]

    def answer(question: str, **_: object) -> str:
        asked.append(question)
        return answers.pop(0)

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.prompt", answer)
    assert shell("destinations", "delete", "dst_a") == (1, "", "error: nothing is done: the answer was no\n")
    assert shell("destinations", "show", "dst_a")[0] == 0
    assert shell("destinations", "delete", "dst_nobody")[0] == 1
    assert shell("destinations", "delete", "dst_a")[0] == 0
    add(settings, "dst_a", customer("a"))
    assert shell("destinations", "delete", "dst_a", "--yes")[0] == 0
    assert (len(asked), len(set(asked)), "dst_a" in asked[0]) == (2, 1, True)


def test_a_refused_document_is_fixed_or_deleted(shell: Shell, stdin: Any, settings: Settings) -> None:
    place = add(settings, ID, document(region="mars"))
    for command in ("show", "test"):
        code, out, err = shell("destinations", command, ID)
        assert (code, out) == (1, "")
        assert err.splitlines() == [
            f"refused: {place}: region: must be an AWS region such as us-east-1",
            f"error: {place}: is refused as it stands: nothing is sent by it",
        ]
    assert put(shell, stdin, EXAMPLE)[:2] == (0, f"{ID}: changed ({place})\n")
    add(settings, ID, document(region="mars"))
    assert shell("destinations", "delete", ID) == (0, f"{ID}: deleted ({place})\n", "")
    assert shell("destinations", "list")[2] == ""


def test_without_an_id_the_name_deletes(shell: Shell, settings: Settings) -> None:
    place = add(settings, "half", b'{"id": "dst')
    for name in (place, Path(place).name):
        assert shell("destinations", "delete", name, "--dry-run")[0] == 0
    assert shell("destinations", "delete", place) == (0, f"{place}: deleted ({place})\n", "")
    assert shell("destinations", "list")[2] == ""


def test_disputing_documents_are_told_by_name(shell: Shell, stdin: Any, settings: Settings) -> None:
    put(shell, stdin, customer("a"))
    thief = add(settings, "dst_thief", customer("thief", role="a"))
    code, out, err = shell("destinations", "list", "--json")
    assert (code, out, err.count("refused: ")) == (0, "", 2)
    assert shell("destinations", "delete", "dst_thief") == (0, f"dst_thief: deleted ({thief})\n", "")
    assert shell("destinations", "list", "--json")[2] == ""


def test_validate_reads_folder_and_topic(shell: Shell, stdin: Any, settings: Settings) -> None:
    assert shell("destinations", "validate") == (0, "0 accepted, 0 refused\n", "")
    put(shell, stdin, EXAMPLE)
    unset = add(settings, "dst_unset", customer("unset", auth=ACCESS_KEY))
    assert shell("destinations", "validate") == (0, (
        f"warning: {unset}: auth.secretAccessKey: environment variable ACME_SECRET is not set: nothing is sent\n"
        "2 accepted, 0 refused\n"
    ), "")  # fmt: skip
    # Nothing else is reported of a refused document.
    other = add(settings, "dst_other", customer("other", id="dst_unset", auth=ACCESS_KEY))
    code, out, _ = shell("destinations", "validate", "--json")
    assert code == 2
    found = json.loads(out)
    if settings.registry.topic:
        assert [refusal["file"] for refusal in found["refusals"]] == [other]
    else:
        assert {refusal["file"] for refusal in found["refusals"]} == {unset, other}
        assert (found["accepted"], found["refused"], found["warnings"]) == (1, 2, [])


def test_a_missing_secret_can_be_sealed_next(
    shell: Shell, stdin: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUSHRAIL_SECRETS__KEYRING", "keyring.json")
    shell("keys", "generate", "--id", "k")
    auth = {name: ACCESS_KEY[name] for name in ("mode", "accessKeyId")}
    for secret in ({}, {"secretAccessKey": "***"}):
        code, out, err = put(shell, stdin, document(auth=auth | secret))
        assert (code, out) == (2, "")
        assert 'put "env:TO_BE_SEALED" there, then `destinations seal`' in err
        assert 'keep its "sealed:..." text, which `show` masks' in err
    assert put(shell, stdin, document(auth={**auth, "secretAccessKey": "env:TO_BE_SEALED"}))[0] == 0
    stdin(b"secret-of-the-customer")
    place = where(settings, ID)
    assert shell("destinations", "seal", ID) == (0, f"{ID}: sealed by key k ({place})\n", "")


@pytest.mark.parametrize("settings", ["folder"], indirect=True)
def test_another_document_is_not_overwritten(shell: Shell, tmp_path: Path, stdin: Any) -> None:
    file = tmp_path / "documents" / "dst_new.json"
    for other in (EXAMPLE, document(region="mars")):
        file.write_text(json.dumps(other))
        code, out, err = put(shell, stdin, customer("new"))
        assert (code, out) == (2, "")
        assert err.endswith(
            "documents/dst_new.json: is there already, and not the document of dst_new: rename it first\n"
        )
        assert json.loads(file.read_bytes()) == other
    file.write_bytes(b'{"id": ')  # it belongs to no destination, and it has the name of this one
    assert put(shell, stdin, customer("new"))[:2] == (0, "dst_new: changed (documents/dst_new.json)\n")


@pytest.mark.parametrize("settings", ["folder"], indirect=True)
def test_an_ambiguous_id_is_refused(shell: Shell, settings: Settings, stdin: Any) -> None:
    first, second = add(settings, "first", customer("a")), add(settings, "second", customer("b", id="dst_a"))
    for command in (("delete", "dst_a"), ("show", "dst_a")):
        code, _, err = shell("destinations", *command)
        assert code == 2
        error = f"error: dst_a: is the id of several documents ({first}, {second}): delete one of them by its name"
        assert err.splitlines()[-1] == error
    assert put(shell, stdin, customer("a"))[0] == 2
    assert shell("destinations", "delete", "second.json") == (0, f"second.json: deleted ({second})\n", "")
    assert put(shell, stdin, customer("a"))[:2] == (0, f"dst_a: unchanged ({first})\n")


@pytest.mark.parametrize("settings", ["folder"], indirect=True)
def test_a_document_stays_in_its_file(shell: Shell, tmp_path: Path, stdin: Any) -> None:
    (tmp_path / "documents" / "by-another-name.json").write_text(json.dumps(EXAMPLE))
    assert put(shell, stdin, document(enabled=False))[1] == f"{ID}: changed (documents/by-another-name.json)\n"
    assert [file.name for file in (tmp_path / "documents").iterdir()] == ["by-another-name.json"]


@pytest.mark.parametrize("settings", ["topic"], indirect=True)
def test_a_record_under_a_wrong_key_is_refused(shell: Shell, settings: Settings, stdin: Any) -> None:
    write_document(settings, "dst_somebody_else", json.dumps(EXAMPLE).encode())
    code, out, err = shell("destinations", "list", "--json")
    assert (code, out) == (0, "")
    assert err == "refused: dst_somebody_else: id: is not the record's key (dst_somebody_else)\n"
    assert put(shell, stdin, EXAMPLE)[0] == 0


def contents(settings: Settings) -> dict[str, bytes]:
    """Every document by its name, as commands show it."""
    here = f"{Path.cwd()}/"
    return {document.name.removeprefix(here): document.content or b"" for document in stored_documents(settings)}


def test_only_the_flag_changes_in_a_document(shell: Shell, settings: Settings, tmp_path: Path) -> None:
    token = keyring(tmp_path / "keyring.json", ring("k")).seal(SECRET, Place("acme", "dst_b", "auth.secretAccessKey"))
    sealed = customer("b", auth={**ACCESS_KEY, "secretAccessKey": token}, enabled=...)
    texts = [b'{"enabled" : false,\n' + json.dumps(EXAMPLE).encode()[1:].replace(b', "enabled": true', b""), sealed]
    a, b = (add(settings, name, text) for name, text in zip((ID, "dst_b"), texts, strict=True))
    before = contents(settings)
    code, out, err = shell("destinations", "enable", ID, "dst_b", "--dry-run")
    assert (code, err) == (0, "1 would be enabled, 1 would be unchanged\n")
    assert [line.split()[-2:] for line in out.splitlines()[1:]] == [[ID, a], ["dst_b", b]]
    assert contents(settings) == before
    assert shell("destinations", "enable", ID) == (0, f"{ID}: enabled ({a})\n", "")
    assert shell("destinations", "disable", "dst_b") == (0, f"dst_b: disabled ({b})\n", "")
    after = contents(settings)
    assert after[a] == before[a].replace(b'"enabled" : false', b'"enabled" : true')
    assert after[b] == before[b][:-1] + b', "enabled": false}'


def test_a_refused_document_is_not_enabled(shell: Shell, settings: Settings) -> None:
    add(settings, ID, document(enabled=False))
    place = add(settings, "dst_b", customer("b", region="mars", enabled=False))
    code, out, err = shell("destinations", "enable", ID, "dst_b")
    assert (code, out, err) == (2, "", f"error: {place}: region: must be an AWS region such as us-east-1\n")
    assert shell("destinations", "list", "--enabled", "--json")[1] == ""
    code, out, _ = shell("destinations", "show", "dst_b", "--raw")
    assert (code, json.loads(out)["region"]) == (0, "***")
    assert shell("destinations", "enable", "dst_nobody")[0] == 1


def test_a_folder_is_put_and_the_rest_pruned(
    shell: Shell, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(settings, "dst_kept", customer("kept"))
    add(settings, "dst_old", customer("old"))
    add(settings, "dst_other", customer("other", vendor="globex"))
    git = write(tmp_path / "git", kept=customer("kept"), new=customer("new", role="old"))
    code, out, err = shell("destinations", "put", str(git), "--prune", "--vendor", "acme", "--dry-run", "--json")
    assert (code, err) == (0, "")
    assert [(row["result"], row["id"]) for row in map(json.loads, out.splitlines())] == [
        ("would be unchanged", "dst_kept"), ("would be added", "dst_new"), ("would be deleted", "dst_old"),
    ]  # fmt: skip
    assert shell("destinations", "put", str(git))[0] == 2, "without the deletion the role is another customer's"
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.prompt", lambda *_, **__: "")
    code, out, err = shell("destinations", "put", str(git), "--prune", "--vendor", "acme")
    assert (code, out, err) == (1, "", "error: nothing is done: the answer was no\n")
    code, out, err = shell("destinations", "put", str(git), "--prune", "--vendor", "acme", "--yes")
    assert (code, err) == (0, "1 unchanged, 1 added, 1 deleted\n")
    ids = {json.loads(line)["id"] for line in shell("destinations", "list", "--json")[1].splitlines()}
    assert ids == {"dst_kept", "dst_new", "dst_other"}
    code, out, err = shell("destinations", "put", str(git), "--prune", "--json", "--yes")
    assert [json.loads(line)["result"] for line in out.splitlines()] == ["unchanged", "unchanged", "deleted"]


def test_another_vendors_documents_are_not_pruned_unasked(shell: Shell, settings: Settings, tmp_path: Path) -> None:
    """Without a terminal nobody could say no."""
    add(settings, "dst_old", customer("old"))
    add(settings, "dst_other", customer("other", vendor="globex"))
    git = write(tmp_path / "git", new=customer("new"))
    put = ("destinations", "put", str(git), "--prune")
    code, out, err = shell(*put)
    assert (code, out) == (2, "")
    assert err == (
        "error: --prune: would delete 2 documents regardless of vendor, and there is no terminal to ask on: "
        "add --vendor or --yes\n"
    )
    assert len(shell("destinations", "list", "--json")[1].splitlines()) == 2
    assert shell(*put, "--dry-run")[0] == 0
    assert shell(*put, "--vendor", "acme")[::2] == (0, "1 added, 1 deleted\n")
    assert shell(*put, "--yes")[::2] == (0, "1 unchanged, 1 deleted\n")


def test_one_refused_document_stops_all(shell: Shell, settings: Settings, tmp_path: Path) -> None:
    add(settings, "dst_old", customer("old"))
    git = write(tmp_path / "git", a=customer("a"), b=customer("b", region="mars"), c=customer("c", vendor="globex"))
    code, out, err = shell("destinations", "put", str(git), "--prune", "--vendor", "acme")
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "error: git/c.json: vendor: is not acme (--vendor)",
        "error: git/b.json: region: must be an AWS region such as us-east-1",
    ]
    (tmp_path / "empty").mkdir()
    assert "no document is given" in shell("destinations", "put", str(tmp_path / "empty"), "--prune")[2]
    assert "--vendor: needs --prune" in shell("destinations", "put", str(git), "--vendor", "acme")[2]
    assert [json.loads(line)["id"] for line in shell("destinations", "list", "--json")[1].splitlines()] == ["dst_old"]


def test_validate_refuses_as_put_does(shell: Shell, settings: Settings, tmp_path: Path) -> None:
    add(settings, ID, EXAMPLE)
    git = write(tmp_path / "git", thief=customer("thief", role="PushrailEventBridgeWriter"), own=document(name="new"))
    file, place = f"{git}/thief.json", where(settings, ID)
    code, out, _ = shell("destinations", "validate", file)
    assert (code, out.splitlines()) == (2, [
        f"refused: git/thief.json: auth.roleArn: is in use for another customer, with another external ID ({place})",
        "0 accepted, 1 refused",
    ])  # fmt: skip
    assert shell("destinations", "put", file)[0] == 2
    assert shell("destinations", "validate", f"{git}/own.json") == (0, "1 accepted, 0 refused\n", "")
    assert shell("destinations", "validate", file, "--alone") == (0, "1 accepted, 0 refused\n", "")
    for name in ("twice", "again"):
        write(git, **{name: customer("twice")})
    code, out, _ = shell("destinations", "validate", f"{git}/twice.json", f"{git}/again.json", "--alone")
    assert (code, out.count("dst_twice is already the id of")) == (2, 2)
