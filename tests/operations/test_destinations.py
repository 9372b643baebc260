"""`destinations test` and the question to STS, as a shell runs them, against the fault-injecting bus."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pushrail_stream.sandbox.bus.server import FaultBus
from tests.support.documents import EXAMPLE, document, write
from tests.support.forked_command import run_forked

OWN = ("AKIABASE000000000000", "our-own-secret")
ID = "dst_acme_8K2zRq"
NOWHERE = "http://127.0.0.1:1"


class Done(NamedTuple):
    code: int
    out: str
    err: str


@asynccontextmanager
async def bus(external_id: str | None = "acme-ext-7Pq2") -> AsyncIterator[FaultBus]:
    async with FaultBus.serve() as server:
        server.add_bus(EXAMPLE["busArn"])
        server.add_role(EXAMPLE["auth"]["roleArn"], external_id=external_id)
        server.add_key(*OWN, account="210987654321")
        yield server


async def program(home: Path, url: str, *arguments: str, **environ: str) -> Done:
    """Run the program in a process of its own, as this one serves the bus. No secret is ever shown."""
    variables = {
        **{name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
        "PUSHRAIL_EVENTBRIDGE__ENDPOINT_URL": url,
        "PUSHRAIL_STS__ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": OWN[0],
        "AWS_SECRET_ACCESS_KEY": OWN[1],
        **environ,
    }
    code, out, err = await run_forked(["destinations", *arguments], variables, home=home)
    shown = Done(code or 0, out, err)
    assert "Traceback" not in shown.err
    assert OWN[1] not in shown.out + shown.err
    return shown


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "config").mkdir()
    write(tmp_path / "config/destinations", acme=EXAMPLE)
    return tmp_path


def shows_no_session(server: FaultBus, done: Done) -> None:
    for key in filter(None, (assumed.issued_key for assumed in server.assumed)):
        issued = server.directory.credential(key)
        assert issued is not None
        assert issued.session_token is not None
        assert issued.secret not in done.out + done.err
        assert issued.session_token not in done.out + done.err


async def test_each_step_is_a_line(home: Path) -> None:
    async with bus() as server:
        done = await program(home, server.url, "test", ID)
        lines = done.out.splitlines()
        assert (done.code, done.err, len(lines)) == (0, "", 6)
        assert all(line.startswith("ok ") for line in lines)
        assert f"event id {server.arrivals[0].event_id}" in lines[-1]
        assert f"request id {server.calls[0].request_id}" in lines[-1]
        shows_no_session(server, done)


async def test_json_is_one_object(home: Path) -> None:
    async with bus(external_id=None) as server:
        done = await program(home, server.url, "test", ID, "--json")
        told: dict[str, Any] = json.loads(done.out)
        assert (done.code, told["id"], told["ok"], told["enabled"]) == (0, ID, True, True)
        assert {step["name"]: step["result"] for step in told["steps"]} == {
            "our credentials": "ok",
            "AssumeRole": "ok",
            "wrong external ID": "warning",
            "no external ID": "warning",
            "bus": "ok",
            "test event": "ok",
        }
        assert all(set(step) == {"name", "result", "message", "eventId", "requestId"} for step in told["steps"])
        assert told["steps"][-1]["eventId"] == server.arrivals[0].event_id
        shows_no_session(server, done)


@pytest.mark.parametrize(
    ("external_id", "advice"),
    [("acme-ext-7Pq2", "it works; begin"), (None, "it works; correct the warnings, then begin")],
)
async def test_a_disabled_destination_can_be_tried(external_id: str | None, advice: str, home: Path) -> None:
    write(home / "config/destinations", acme=document(enabled=False))
    async with bus(external_id) as server:
        done = await program(home, server.url, "test", ID)
        assert done.code == 0
        assert done.err.startswith(advice)
        assert f"destinations enable {ID}" in done.err
        assert len(server.arrivals) == 1


@pytest.mark.parametrize("options", [[], ["--json"]])
async def test_a_step_that_fails_is_exit_code_1(options: list[str], home: Path) -> None:
    write(home / "config/destinations", acme=document(enabled=False))
    async with bus(external_id="another") as server:
        done = await program(home, server.url, "test", ID, *options)
        assert (done.code, done.err) == (1, "")
        assert done.out.count("\n") == (1 if options else 2)
        assert server.arrivals == []


@pytest.mark.parametrize(("external_id", "code"), [("acme-ext-7Pq2", 0), (None, 1)])
async def test_strictly_an_open_role_is_exit_code_1(external_id: str | None, code: int, home: Path) -> None:
    async with bus(external_id) as server:
        assert (await program(home, server.url, "test", ID)).code == 0
        done = await program(home, server.url, "test", ID, "--strict")
        assert (done.code, done.err) == (code, "")
        assert done.out.count("FAILED ") == 2 * code


async def test_an_unreachable_endpoint_is_one_line(home: Path) -> None:
    done = await program(home, NOWHERE, "test", ID)
    assert (done.code, done.err) == (1, "")
    (line,) = done.out.splitlines()
    assert line.startswith("FAILED   our credentials")
    assert "Cannot connect to host 127.0.0.1:1" in line


async def test_missing_credentials_are_one_line(home: Path) -> None:
    done = await program(home, NOWHERE, "test", ID, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
    assert done.code == 1
    (line,) = done.out.splitlines()
    assert "no provider of AWS's standard chain has any" in line


async def test_a_missing_secret_is_named(home: Path) -> None:
    auth = {"mode": "ACCESS_KEY", "accessKeyId": "AKIDEXAMPLE123456", "secretAccessKey": "env:ACME_SECRET"}
    write(home / "config/destinations", acme=document(auth=auth))
    done = await program(home, NOWHERE, "test", ID)
    assert done.code == 1
    assert "auth.secretAccessKey: environment variable ACME_SECRET is not set" in done.err
    assert done.out.startswith("FAILED   credentials")


async def test_an_unknown_id_is_refused(home: Path) -> None:
    done = await program(home, NOWHERE, "test", "dst_x")
    assert (done.code, done.out) == (1, "")
    assert "no destination dst_x" in done.err


async def test_a_refused_document_is_named(home: Path) -> None:
    write(home / "config/destinations", acme=document(region="us-west-2"))
    done = await program(home, NOWHERE, "test", ID)
    assert (done.code, done.out) == (1, "")
    refusal, problem = done.err.splitlines()
    assert refusal.startswith(f"refused: {home}/config/destinations/acme.json: region: ")
    assert problem == f"error: {home}/config/destinations/acme.json: is refused as it stands: nothing is sent by it"


NEW = ("onboard", "--vendor", "globex", "--customer", "acct_1", "--account", "111122223333", "--json")


async def test_onboarding_asks_sts_who_we_are(home: Path) -> None:
    async with bus() as server:
        done = await program(home, server.url, *NEW, "--region", "us-east-1")
    told = json.loads(done.out)
    assert (done.code, done.err) == (0, "")
    assert told["trustPolicy"]["Statement"][0]["Principal"]["AWS"] == "arn:aws:iam::210987654321:root"


async def test_another_partitions_account_is_refused(home: Path) -> None:
    async with bus() as server:
        done = await program(home, server.url, *NEW, "--region", "cn-north-1", PUSHRAIL_STS__REGION="cn-north-1")
    assert done.code == 0
    assert "is of the partition aws, which cannot assume a role of aws-cn" in done.err
    assert "210987654321" not in done.out
