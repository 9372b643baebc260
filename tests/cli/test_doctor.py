"""The doctor's page: problems first, and an exit code for programs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from pushrail_stream.sandbox.broker import EmbeddedBroker
from tests.support.builders import VENDOR
from tests.support.commands import Shell
from tests.support.documents import ACCESS_KEY, EXAMPLE, write
from tests.support.ports import free_port
from tests.support.workers import make_topics, settings_for

pytestmark = [pytest.mark.usefixtures("one_destination"), pytest.mark.kafka]


@pytest.fixture
def healthy(embedded_broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings of an installation in which nothing is wrong."""
    away = f"http://127.0.0.1:{free_port()}"
    documents = write(Path("config/destinations"), acme=EXAMPLE | {"auth": ACCESS_KEY})
    monkeypatch.setenv("ACME_SECRET", "wJalrXUtnFEMI")
    settings = settings_for(
        embedded_broker.bootstrap_servers, away, registry={"path": str(documents)}, ingest={"port": 0}
    )
    make_topics(settings, embedded_broker)
    path = Path("pushrail.yaml")
    path.write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    return path


def test_an_installation_without_problems_exits_0(shell: Shell, healthy: Path) -> None:
    code, out, err = shell("doctor", "--config", str(healthy))
    assert (code, err) == (0, ""), out
    assert re.search(r"^ok +documents +destinations in use: 1$", out, re.MULTILINE)
    states = [line.split()[0] for line in out.splitlines()[1:-1] if not line.startswith(" ")]
    assert states == sorted(states, key=["warning", "unknown", "ok"].index)


def test_a_problem_comes_first_and_exits_1(shell: Shell, healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUSHRAIL_SECRETS__KEYRING", "missing.json")
    code, out, err = shell("doctor", "--config", str(healthy))
    assert (code, err) == (1, "error: there are problems: each one above says what to do\n")
    assert re.match(r"problem +keyring +missing.json: there is no such keyring: ", out.splitlines()[1])
    code, out, _ = shell("doctor", "--config", str(healthy), "--json")
    assert code == 1
    first = json.loads(out.splitlines()[0])
    assert (first["state"], first["check"]) == ("problem", "keyring")
    assert set(first) == {"state", "check", "found", "remedy"}


def test_settings_that_cannot_be_read_are_the_problem(shell: Shell) -> None:
    Path("bad.yaml").write_text(f"vendor: {VENDOR}\nkafka: {{group: x}}\n")
    code, out, _ = shell("doctor", "--config", "bad.yaml", "--output", "csv")
    assert code == 1
    assert out.splitlines()[0] == "state,check,found,remedy"
    assert out.splitlines()[1].startswith("problem,settings,bad.yaml: kafka.group: unknown setting")
