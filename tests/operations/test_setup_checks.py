"""The doctor's checks of settings, AWS, keys, documents, destinations and ports."""

from __future__ import annotations

import asyncio
import json
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from pushrail_stream.core.text import format_rfc3339
from pushrail_stream.errors import UsageError
from pushrail_stream.kafka.client_properties import checked_kafka
from pushrail_stream.kafka.fleet import FleetTopics
from pushrail_stream.observe.worker_record import DestinationSummary
from pushrail_stream.operations.findings import Check, Finding, Installation
from pushrail_stream.operations.setup_checks import (
    check_clock,
    check_destinations,
    check_documents,
    check_identity,
    check_keyring,
    check_ports,
    check_settings,
)
from pushrail_stream.operations.times import now_ms
from pushrail_stream.registry.sealing import Place
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.sandbox.bus.server import FaultBus
from pushrail_stream.settings.model import Settings
from pushrail_stream.settings.source import LoadedSettings
from tests.support.attempt_records import said
from tests.support.builders import KEY_ID
from tests.support.builders import SECRET as OUR_SECRET
from tests.support.documents import ACCESS_KEY, EXAMPLE, customer, document, write
from tests.support.ports import free_port
from tests.support.recording_server import Recorder, http
from tests.support.sealing_keys import FIELD, SECRET, keyring, ring
from tests.support.worker_records import worker_record
from tests.support.workers import make_topics, settings_for


def installation(home: Path, **sections: Any) -> Installation:
    values = {"vendor": "acme", "registry": {"path": str(home)}, "kafka": {"bootstrap_servers": "127.0.0.1:1"}}
    return Installation(LoadedSettings(Settings.model_validate(values | sections), None))


async def found(check: Check, case: Installation) -> list[Finding]:
    return await asyncio.to_thread(lambda: list(check(case)))


async def states(check: Check, case: Installation) -> list[str]:
    return [finding.state for finding in await found(check, case)]


async def test_settings_without_a_vendor_are_noted(tmp_path: Path) -> None:
    assert await states(check_settings, installation(tmp_path)) == ["ok"]
    assert await states(check_settings, installation(tmp_path, vendor=None)) == ["ok", "warning"]


async def test_sts_says_who_we_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", OUR_SECRET)
    async with FaultBus.serve() as bus:
        bus.add_key(KEY_ID, OUR_SECRET)
        case = installation(tmp_path, sts={"endpoint_url": bus.url})
        [identity] = await found(check_identity, case)
        assert (identity.state, identity.found.startswith("arn:aws:iam::")) == ("ok", True)
        assert KEY_ID not in identity.found, "the bus names users by their keys"
        assert await found(check_clock, case) == [Finding("clock", "ok", "our clock and that of STS differ by 0 s")]


@pytest.mark.parametrize(("auth", "state"), [(EXAMPLE["auth"], "problem"), (ACCESS_KEY, "warning")])
async def test_missing_credentials_matter_where_a_role_is_assumed(tmp_path: Path, auth: Any, state: str) -> None:
    write(tmp_path, acme=document(auth=auth))
    [finding] = await found(check_identity, installation(tmp_path))
    assert (finding.state, bool(finding.remedy)) == (state, state == "problem")
    assert finding.found.startswith("no credentials of our own to call AWS with")


@pytest.mark.parametrize(
    ("minutes", "state"),
    [(0, "ok"), (2, "warning"), (-2, "warning"), (6, "problem"), (-6, "problem")],
)
async def test_a_clock_that_breaks_signatures_is_a_problem(tmp_path: Path, minutes: int, state: str) -> None:
    theirs = datetime.now(UTC) + timedelta(minutes=minutes)
    refusal = http("403 Forbidden", b"", f"Date: {format_datetime(theirs, usegmt=True)}")
    async with Recorder.serve(refusal) as peer:
        assert await states(check_clock, installation(tmp_path, sts={"endpoint_url": peer.url})) == [state]


@pytest.mark.parametrize("headers", [[], ["Date: yesterday"]])
async def test_a_clock_without_a_date_is_not_known(tmp_path: Path, headers: list[str]) -> None:
    async with Recorder.serve(http("403 Forbidden", b"", *headers)) as peer:
        assert await states(check_clock, installation(tmp_path, sts={"endpoint_url": peer.url})) == ["unknown"]


async def test_a_clock_without_sts_is_not_known(tmp_path: Path) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    [finding] = await found(check_clock, installation(tmp_path, sts={"endpoint_url": away}))
    assert finding.state == "unknown"
    assert "ConnectionFailed" in finding.found


def sealed_by(home: Path, *names: str) -> tuple[Path, dict[str, Any]]:
    """A keyring file, and a document with a secret that it sealed."""
    path = home / "keyring.json"
    keys = keyring(path, ring(*names))
    path.chmod(0o600)
    return path, {**ACCESS_KEY, "secretAccessKey": keys.seal(SECRET, Place("acme", "dst_a", FIELD))}


async def test_the_keyring_opens_every_secret(tmp_path: Path) -> None:
    path, auth = sealed_by(tmp_path, "old")
    documents = write(tmp_path / "documents", a=customer("a", auth=auth))
    right = installation(documents, secrets={"keyring": str(path)})
    assert await found(check_keyring, right) == [Finding("keyring", "ok", "every sealed secret opens; primary key old")]

    path.write_bytes(ring("new"))
    path.chmod(0o644)
    exposed, shut = await found(check_keyring, right)
    assert (exposed.state, exposed.remedy) == ("warning", f"chmod 600 {path}")
    assert shut.state == "problem"
    assert "is sealed by key old, which the keyring does not have" in shut.found

    none, shut = await found(check_keyring, installation(documents))
    assert (none.state, shut.state) == ("ok", "problem")
    with pytest.raises(UsageError, match="there is no such keyring"):
        await found(check_keyring, installation(documents, secrets={"keyring": str(tmp_path / "missing.json")}))


async def test_refused_documents_are_problems(tmp_path: Path) -> None:
    assert await states(check_documents, installation(tmp_path)) == ["warning"], "no document at all"
    write(tmp_path, good=EXAMPLE, **{f"bad{n}": {"id": f"dst_{n}"} for n in range(12)})
    findings = await found(check_documents, installation(tmp_path))
    assert [one.state for one in findings] == ["problem"] * 11 + ["ok"]
    assert findings[-2].found.endswith(" documents more")
    assert findings[-1].found == "destinations in use: 1"


@pytest.mark.kafka
async def test_a_blocked_destination_is_a_problem(tmp_path: Path, embedded_broker: EmbeddedBroker) -> None:
    settings = settings_for(embedded_broker.bootstrap_servers, "http://127.0.0.1:1", registry={"path": str(tmp_path)})
    make_topics(settings, embedded_broker)
    write(tmp_path, a=customer("a"), b=customer("b"), c=customer("c"), d=customer("d"))
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers, "log_level": 0})
    blocked = {"status": "dead_lettered", "reason": "blocked", "code": "AccessDeniedException"}
    throttled = {"status": "retrying", "reason": "throttled", "code": "ThrottlingException"}
    for name, changes in (("a", {}), ("b", throttled), ("c", blocked), ("deleted", blocked)):
        record = said(0, at=format_rfc3339(now_ms() - 1000), destinationId=f"dst_{name}", **changes)
        producer.produce(settings.topics.attempts, json.dumps(record), f"dst_{name}")
    assert producer.flush(30) == 0

    bad, slow, good = await found(check_destinations, Installation(LoadedSettings(settings, None)))
    assert (bad.state, bad.found.split()[:2]) == ("problem", ["dst_c:", "blocked"])
    assert bad.remedy == "`pushrail-stream destinations test dst_c`, `pushrail-stream attempts --destination dst_c`"
    assert (slow.state, slow.found.split()[:2]) == ("warning", ["dst_b:", "slowed"])
    assert good.found == "ok: 1; without attempts in the last hour: 1"

    seen = DestinationSummary("dst_c", "ok", 0, 0, 8, 1.0)
    async with FleetTopics(checked_kafka(settings), settings.topics, "a") as link:
        await link.write_state(worker_record("a", now_ms(), seen, group=settings.kafka.group_id).encode())
    slow, good = await found(check_destinations, Installation(LoadedSettings(settings, None)))
    assert good.found == "ok: 2; without attempts in the last hour: 1", "workers know better"


async def test_a_port_of_another_program_is_a_problem(tmp_path: Path) -> None:
    ours = http("200 OK", b"{}", "Server: pushrail-stream")
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.listen()
        async with Recorder.serve(ours, closes=True) as worker:
            port = int(worker.url.rpartition(":")[2])
            served, foreign = await found(
                check_ports, installation(tmp_path, http={"port": port}, ingest={"port": other.getsockname()[1]})
            )
    assert (served.state, served.found) == ("ok", f"http.port {port} of 127.0.0.1: served by pushrail-stream")
    assert (foreign.state, foreign.found.endswith("another program listens")) == ("problem", True)


async def test_free_ports_and_foreign_addresses(tmp_path: Path) -> None:
    free, elsewhere = await found(
        check_ports, installation(tmp_path, http={"port": 0}, ingest={"host": "192.0.2.1", "port": free_port()})
    )
    assert free.state == "ok"
    assert (elsewhere.state, elsewhere.remedy) == ("problem", "correct ingest.host or .port")
    assert (await found(check_ports, installation(tmp_path, ingest={"port": free_port()})))[1].found.endswith("free")
