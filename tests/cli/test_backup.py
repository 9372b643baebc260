"""``destinations export`` and ``import``, in a folder and on a topic."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pushrail_stream.settings.model import Settings
from pushrail_stream.settings.source import load_settings
from tests.support.commands import Shell
from tests.support.documents import ACCESS_KEY, customer, write
from tests.support.sealing_keys import SECRET, ring
from tests.support.workers import make_topics, settings_for

pytestmark = pytest.mark.kafka


def install(home: Path, kafka: str | None) -> Settings:
    """Settings in a folder of their own, with an empty registry."""
    (home / "documents").mkdir(parents=True)
    registry = {"path": "documents", "topic": kafka is not None}
    made = settings_for(kafka or "127.0.0.1:1", "http://127.0.0.1:1", registry=registry)
    if kafka is not None:
        make_topics(made)
    values = made.model_dump(mode="json") | {"secrets": {"keyring": "../keyring.json"}}
    values["kafka"].pop("client")
    (home / "pushrail.yaml").write_text(yaml.safe_dump(values))
    return load_settings(home / "pushrail.yaml")


@pytest.fixture(params=["folder", "topic"])
def shell(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
          capsys: pytest.CaptureFixture[str]) -> Shell:  # fmt: skip
    """The registry of `home` has two documents, that of `away` none."""
    monkeypatch.chdir(tmp_path)
    kafka = request.getfixturevalue("real_kafka") if request.param == "topic" else None
    (tmp_path / "keyring.json").write_bytes(ring("k"))
    install(tmp_path / "home", kafka)
    install(tmp_path / "away", kafka)
    shell = Shell(capsys, [SECRET.reveal()])
    key = {**ACCESS_KEY, "secretAccessKey": "env:TO_BE_SEALED"}
    write(tmp_path / "given", a=customer("a"), b=customer("b", auth=key))
    assert at("home", shell, "put", "given")[0] == 0
    monkeypatch.setattr("sys.stdin", io.StringIO(SECRET.reveal()))
    assert at("home", shell, "seal", "dst_b")[0] == 0
    return shell


def at(home: str, shell: Shell, *words: str) -> tuple[int, str, str]:
    return shell("destinations", *words, "--config", f"{home}/pushrail.yaml")


def test_a_registry_moves_as_one_file(shell: Shell) -> None:
    code, out, err = at("home", shell, "export", "--out", "all.jsonl")
    assert (code, out) == (0, "all.jsonl: 2 documents\n")
    assert err == "sealed by these keys of the keyring, which the file does not have: k\n"
    assert Path("all.jsonl").stat().st_mode & 0o077 == 0
    code, out, err = at("away", shell, "import", "all.jsonl", "--dry-run")
    assert (code, out.split()[3:6], err) == (0, ["would", "be", "added"], "2 would be added\n")
    assert at("away", shell, "export")[1].splitlines()[1:] == []
    assert at("away", shell, "import", "all.jsonl")[2] == "2 added\n"
    assert at("away", shell, "import", "all.jsonl")[2] == "2 unchanged\n"
    code, out, _ = at("away", shell, "export")
    assert (code, out) == (0, Path("all.jsonl").read_text())
    told = [json.loads(line) for line in at("away", shell, "list", "--json")[1].splitlines()]
    assert [(one["id"], one["auth"].get("secretAccessKey")) for one in told] == [("dst_a", None), ("dst_b", "***")]


def test_an_invalid_file_changes_nothing(shell: Shell) -> None:
    head, *documents = map(json.loads, at("home", shell, "export")[1].splitlines())
    del head["sha256"]
    documents[1]["auth"]["secretAccessKey"] = SECRET.reveal()
    Path("bad.jsonl").write_text("".join(json.dumps(one) + "\n" for one in (head, *documents)))
    code, out, err = at("away", shell, "import", "bad.jsonl")
    assert (code, out) == (2, "")
    assert err.startswith("error: bad.jsonl:3: auth.secretAccessKey: must not stand")
    assert at("away", shell, "list", "--json") == (0, "", "")
    assert at("away", shell, "import", "none.jsonl")[::2] == (2, "error: none.jsonl: there is no such file\n")


def test_documents_that_the_file_lacks_are_pruned(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    write(Path("given"), c=customer("c"))
    content = at("home", shell, "export")[1]
    assert at("home", shell, "put", "given/c.json")[0] == 0

    def stdin() -> Any:
        return type("", (), {"buffer": io.BytesIO(content.encode()), "isatty": lambda _: False})()

    monkeypatch.setattr("sys.stdin", stdin())
    code, _, err = at("home", shell, "import", "-", "--prune")
    assert (code, "add --vendor or --yes" in err) == (2, True)
    monkeypatch.setattr("sys.stdin", stdin())
    assert at("home", shell, "import", "-", "--prune", "--vendor", "acme")[2] == "2 unchanged, 1 deleted\n"
    monkeypatch.setattr("sys.stdin", stdin())
    assert at("home", shell, "import", "-", "--vendor", "acme")[::2] == (2, "error: --vendor: needs --prune\n")


def test_a_refused_document_is_left_out_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = install(tmp_path / "home", None)
    write(settings.registry.path, a=customer("a"), bad=customer("b", region="mars"))
    shell = Shell(capsys, [])
    config = ("--config", str(tmp_path / "home/pushrail.yaml"))
    code, out, err = shell("destinations", "export", *config)
    assert (code, len(out.splitlines())) == (1, 2)
    assert "bad.json: region: must be an AWS region" in err
    assert err.endswith("error: not all documents are in the export: refused ones are left out\n")
    code, out, _ = shell("destinations", "export", "--json", "--out", str(tmp_path / "all.jsonl"), *config)
    told = json.loads(out)
    assert (code, told["documents"], told["refusals"][0]["field"]) == (1, 1, "region")
