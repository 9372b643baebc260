"""``destinations onboard`` and ``destinations test``: a customer set up by an operator, and tried."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from pushrail_stream.sandbox.bus import FaultBus
from tests.cli.shell import Run, Shell
from tests.registry.documents import EXAMPLE, customer

BASE = ("AKIABASE000000000000", "base-secret")
BUS = "arn:aws:events:us-east-1:123456789012:event-bus/pushrail-events"
ROLE = "arn:aws:iam::123456789012:role/PushrailEventBridgeWriter"
NEW = {"vendor": "acme", "customer": "acct_new", "region": "us-east-1", "account": "123456789012"}
ID = "dst_acme_acct_new"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config" / "destinations").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys, [BASE[1]])


def onboard(shell: Shell, *words: str, **changes: str) -> Run:
    options = [word for name, value in (NEW | changes).items() for word in (f"--{name.replace('_', '-')}", value)]
    return shell("destinations", "onboard", *options, *words)


def documents(home: Path) -> dict[str, Any]:
    return {file.name: json.loads(file.read_bytes()) for file in (home / "config" / "destinations").glob("*.json")}


def put(home: Path, name: str, content: dict[str, Any]) -> None:
    (home / "config" / "destinations" / f"{name}.json").write_text(json.dumps(content))


def test_a_customer_is_onboarded(shell: Shell, home: Path) -> None:
    code, out, err = onboard(shell, our_account="111122223333")
    assert (code, err) == (0, "")
    [(name, document)] = documents(home).items()
    assert name == f"{ID}.json"
    assert document["enabled"] is False
    assert document["busArn"] == BUS
    external_id = document["auth"]["externalId"]
    assert external_id.startswith("acme-")
    assert len(external_id) > 30
    for part in ("cloudformation.yaml", "main.tf", "policies.json", "rules.json", external_id, ROLE, BUS):
        assert part in out
    assert f"pushrail-stream destinations test {ID}" in out
    assert shell("destinations", "validate")[0] == 0


def test_for_machines_it_is_one_object(shell: Shell, home: Path) -> None:
    code, out, _ = onboard(shell, "--json", "--archive-days", "7", our_account="111122223333")
    assert code == 0
    given = json.loads(out)
    assert given.keys() == {
        "document", "file", "cloudFormation", "terraform", "trustPolicy", "permissionsPolicy", "rules",
    }  # fmt: skip
    assert given["document"] == documents(home)[f"{ID}.json"]
    assert yaml.safe_load(given["cloudFormation"])["Resources"].keys() == {"Bus", "Writer", "Archive"}
    assert given["rules"].keys() == {"by tenant", "by event type", "by payload field"}
    assert given["trustPolicy"]["Statement"][0]["Principal"] == {"AWS": "arn:aws:iam::111122223333:root"}


def test_two_customers_get_two_external_ids(shell: Shell, home: Path) -> None:
    onboard(shell, our_account="111122223333")
    onboard(shell, customer="acct_other", our_account="111122223333", role="OtherWriter")
    ids = {document["auth"]["externalId"] for document in documents(home).values()}
    assert len(ids) == 2


def test_files_for_the_customer_go_where_they_are_wanted(shell: Shell, home: Path) -> None:
    code, _, err = onboard(shell, "--out", "for-acme", our_account="111122223333")
    assert (code, err) == (0, "written to for-acme: cloudformation.yaml, main.tf, policies.json, rules.json\n")
    assert {file.name for file in (home / "for-acme").iterdir()} == {
        "cloudformation.yaml", "main.tf", "policies.json", "rules.json",
    }  # fmt: skip
    (home / "taken").touch()
    code, _, err = onboard(shell, "--out", "taken/x", customer="acct_b", our_account="111122223333", role="B")
    assert code == 1
    assert err.startswith("error: --out: taken/x: ")


def test_a_rehearsal_writes_nothing(shell: Shell, home: Path) -> None:
    code, out, _ = onboard(shell, "--dry-run", our_account="111122223333")
    assert code == 0
    assert "not written (--dry-run)" in out
    assert documents(home) == {}


def test_without_a_word_from_sts_the_templates_leave_our_account_open(
    shell: Shell, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUSHRAIL_STS__ENDPOINT_URL", "http://127.0.0.1:1")
    code, out, err = onboard(shell)
    assert code == 0
    assert err.startswith("our own AWS account is not known (")
    assert err.endswith("): the templates leave it open; --our-account names it\n")
    assert "VendorAccountId" in out
    assert "vendor_account_id" in out
    assert documents(home)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"region": "mars"}, "region: must be an AWS region such as us-east-1"),
        ({"account": "12"}, "busArn: must be the full ARN of a bus: arn:aws:events:REGION:ACCOUNT:event-bus/NAME"),
        ({"our_account": "12"}, "--our-account: must be an AWS account id of 12 digits"),
        ({"bus": "a b"}, "busArn: must be the full ARN of a bus: arn:aws:events:REGION:ACCOUNT:event-bus/NAME"),
        ({"vendor": "a b"}, "vendor: must be 1 to 64 letters, digits, '.', '_' and '-'"),
        ({"customer": ""}, "customerExternalId: must be at least 1 characters long"),
        ({"role": "a b"}, "auth.roleArn: must be the full ARN of a role: arn:aws:iam::ACCOUNT:role/NAME"),
    ],
)
def test_what_would_be_refused_is_refused_before_it_is_written(
    changes: dict[str, str], error: str, shell: Shell, home: Path
) -> None:
    code, out, err = onboard(shell, **({"our_account": "111122223333"} | changes))
    assert (code, out) == (2, "")
    assert f"error: {error}" in err.splitlines()
    assert documents(home) == {}


def test_what_is_there_already_is_left_alone(shell: Shell, home: Path) -> None:
    onboard(shell, our_account="111122223333")
    before = documents(home)
    code, _, err = onboard(shell, our_account="111122223333")
    assert code == 1
    assert err == (f"error: {ID} is there already (config/destinations/{ID}.json): change or delete that one\n")
    assert documents(home) == before
    put(home, "other", customer("other", role="PushrailEventBridgeWriter"))
    (home / "config" / "destinations" / f"{ID}.json").unlink()
    code, _, err = onboard(shell, our_account="111122223333")
    assert code == 2
    assert err.startswith("error: auth.roleArn: is in use for another customer, with another external ID")
    assert err.endswith("; name another role with --role\n")


@contextmanager
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultBus]:
    """AWS in a loop of its own thread, for commands that run theirs; our credentials and its addresses are set."""
    started, loop = threading.Event(), asyncio.new_event_loop()
    buses: list[FaultBus] = []
    over = asyncio.Event()

    async def serve() -> None:
        async with FaultBus.serve() as bus:
            bus.add_key(*BASE, account="111122223333", buses=[])
            bus.add_bus(BUS)
            buses.append(bus)
            started.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=[serve()])
    thread.start()
    try:
        assert started.wait(10)
        for name in ("EVENTBRIDGE", "STS"):
            monkeypatch.setenv(f"PUSHRAIL_{name}__ENDPOINT_URL", buses[0].url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", BASE[0])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", BASE[1])
        yield buses[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        loop.close()


def test_a_customer_goes_from_nothing_to_enabled(shell: Shell, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The four commands of the README."""
    with served(monkeypatch) as aws:
        code, out, _ = onboard(shell, "--json")
        assert code == 0
        given = json.loads(out)
        assert given["trustPolicy"]["Statement"][0]["Principal"] == {"AWS": "arn:aws:iam::111122223333:root"}
        code, out, _ = shell("destinations", "test", ID)
        assert code == 1  # the customer has not done anything yet
        assert "FAILED" in out
        aws.add_role(ROLE, external_id=given["document"]["auth"]["externalId"], buses=[BUS])
        code, out, err = shell("destinations", "test", ID)
        assert code == 0
        assert [line.split()[0] for line in out.splitlines()] == ["ok"] * 6
        assert out.splitlines()[-1].startswith("ok       test event         pushrail.test with nonce ")
        assert "event id " in out.splitlines()[-1]
        assert err == 'it works; set "enabled" to true in the document to begin\n'
        [arrival] = aws.arrivals
        assert arrival.detail_type == "pushrail.test"
        document = json.loads(shell("destinations", "show", ID, "--json")[1])
        (home / "acme.json").write_text(json.dumps(document | {"enabled": True}))
        code, out, _ = shell("destinations", "put", "acme.json")
        assert (code, out) == (0, f"{ID}: changed (config/destinations/{ID}.json)\n")
        assert documents(home)[f"{ID}.json"]["enabled"] is True


def test_a_trial_for_machines_is_one_object(shell: Shell, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(home, "acme", EXAMPLE)
    with served(monkeypatch) as aws:
        aws.add_role(ROLE, external_id=None, buses=[BUS])
        code, out, err = shell("destinations", "test", EXAMPLE["id"], "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert (told["id"], told["ok"]) == (EXAMPLE["id"], True)
    found = {step["name"]: step for step in told["steps"]}
    assert found["wrong external ID"]["result"] == found["no external ID"]["result"] == "warning"
    assert found["test event"]["eventId"]
    assert found["test event"]["requestId"]


def test_a_trial_of_nobody_or_with_nobody_there_fails_in_words(
    shell: Shell, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(home, "acme", EXAMPLE)
    code, _, err = shell("destinations", "test", "dst_unknown")
    assert (code, err) == (
        1, "error: config/destinations: no destination dst_unknown; `destinations list` names them\n"
    )  # fmt: skip
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", BASE[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", BASE[1])
    for name in ("EVENTBRIDGE", "STS"):
        monkeypatch.setenv(f"PUSHRAIL_{name}__ENDPOINT_URL", "http://127.0.0.1:1")
    code, out, err = shell("destinations", "test", EXAMPLE["id"])
    assert (code, err) == (1, "")
    assert [line.split()[0] for line in out.splitlines()] == ["FAILED", "FAILED"]
    assert "Could not connect" in out
