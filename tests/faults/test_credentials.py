"""Traps about credentials: whose sign a call, and what binds a customer's role to us."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pushrail_stream.core.destination import Secret
from pushrail_stream.core.signals import (
    Attempted,
    Membership,
    OwnCredentialsFailed,
    OwnCredentialsFound,
    Suspended,
)
from pushrail_stream.documents import open_registry
from pushrail_stream.eventbridge import identity_watch
from pushrail_stream.ports.documents import DocumentChange
from pushrail_stream.registry.catalog import Catalog
from pushrail_stream.registry.documents import parse_document, to_document
from pushrail_stream.registry.keyring import Keyring
from pushrail_stream.registry.sealing import Place
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.sandbox.bus.faults import CallError, Latency, Match, Rule
from pushrail_stream.settings.eventbridge import AccessKey, AssumeRole
from tests.support.builders import KEY_ID, SECRET, bus_arn, event, with_access_key
from tests.support.sealing_keys import keyring, ring
from tests.support.workers import letters, outside, produce, running

pytestmark = pytest.mark.kafka
OURS = ("AKIABASE000000000000", "base-secret")
NEW_KEY_ID, NEW_SECRET = "AKIAIOSFODNN8EXAMPLE", "another-secret-of-the-customer"
ROLE = "arn:aws:iam::123456789012:role/PushrailEventBridgeWriter"


@pytest.fixture
def our_own_credentials(monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """The variables that AWS's libraries read first."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", OURS[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", OURS[1])
    return OURS


async def test_the_external_id_is_always_sent(
    embedded_broker: EmbeddedBroker, our_own_credentials: tuple[str, str]
) -> None:
    async with outside(embedded_broker) as (bus, settings):
        bus.add_key(*our_own_credentials, buses=[])
        bus.add_role(ROLE, external_id="acme-ext-7Pq2", buses=[bus_arn(0)])
        async with running(settings, [with_access_key(0, auth=AssumeRole(ROLE, "acme-ext-7Pq2"))]) as worker:
            await produce(settings, [("acct_0", event(0, 1))])
            await worker.settled(1)
        [asked] = bus.assumed
        assert (asked.role_arn, asked.external_id) == (ROLE, "acme-ext-7Pq2")
        assert "7Pq2" not in asked.session_name, "it is a condition and no name"
        [arrival] = bus.arrivals
        assert arrival.access_key == asked.issued_key


async def test_a_revoked_session_is_replaced(
    embedded_broker: EmbeddedBroker, our_own_credentials: tuple[str, str]
) -> None:
    """The old session is denied for the rest of its hour; a new one works at once, and no event pays for it."""
    async with outside(embedded_broker) as (bus, settings):
        bus.add_key(*our_own_credentials, buses=[])
        bus.add_role(ROLE, external_id="acme-ext-7Pq2", buses=[bus_arn(0)])
        async with running(settings, [with_access_key(0, auth=AssumeRole(ROLE, "acme-ext-7Pq2"))]) as worker:
            await produce(settings, [("acct_0", event(0, 1))])
            await worker.settled(1)
            [old] = bus.assumed
            denial = CallError(400, "AccessDeniedException", "with an explicit deny in an identity-based policy")
            bus.set_plan([Rule(denial, Match(access_key=old.issued_key))])
            await produce(settings, [("acct_0", event(0, number)) for number in range(2, 42)])
            await worker.settled(41)
        assert letters(settings) == []
        assert len(bus.arrivals) == 41
        assert len(bus.assumed) == 2


@pytest.mark.parametrize("secret", [None, Secret("")], ids=["no secret", "an empty one"])
async def test_empty_keys_never_mean_our_own(
    embedded_broker: EmbeddedBroker, our_own_credentials: tuple[str, str], secret: Secret | None
) -> None:
    async with outside(embedded_broker) as (bus, settings):
        bus.add_key(*our_own_credentials)  # allowed everything: a call signed with them would be taken
        async with running(settings, [with_access_key(0, auth=AccessKey(KEY_ID, secret))]) as worker:
            await produce(settings, [("acct_0", event(0, 1))])
            await worker.settled(1)
        assert bus.counts()["connections"] == 0
        assert letters(settings) == [(event(0, 1), "blocked", "CredentialsMissing")]


async def test_changed_credentials_are_used(embedded_broker: EmbeddedBroker) -> None:
    """Keys are rotated under a running worker. The next batch uses the new ones; calls in flight keep the old."""
    secrets = {"OLD": SECRET, "NEW": NEW_SECRET}
    catalog = Catalog(lambda _, content: parse_document(content, environ=secrets, default_max_in_flight=8))

    def document(key_id: str, secret: str) -> DocumentChange:
        form: dict[str, Any] = to_document(with_access_key(0))
        form["auth"] |= {"accessKeyId": key_id, "secretAccessKey": f"env:{secret}"}
        return DocumentChange("acme.json", json.dumps(form).encode())

    async with outside(embedded_broker) as (bus, settings):
        bus.add_key(NEW_KEY_ID, NEW_SECRET)
        assert not catalog.apply([document(KEY_ID, "OLD")]).refusals
        bus.set_plan([Rule(Latency(0.5), Match(operation="PutEvents", access_key=KEY_ID))])
        async with running(settings, catalog) as worker:
            await produce(settings, [("acct_0", event(0, 1))])
            await bus.wait_for_calls(1)
            assert not catalog.apply([document(NEW_KEY_ID, "NEW")]).refusals
            await produce(settings, [("acct_0", event(0, 2))])
            await worker.settled(2)
        assert [(call.access_key, call.status) for call in bus.calls] == [(KEY_ID, 200), (NEW_KEY_ID, 200)]
        assert [a.detail.encode() for a in bus.arrivals] == [event(0, 1), event(0, 2)]


def sealed_document(keys: Keyring, customer: int) -> dict[str, Any]:
    form: dict[str, Any] = to_document(with_access_key(customer))
    place = Place("acme", f"dst_{customer}", "auth.secretAccessKey")
    form["auth"]["secretAccessKey"] = keys.seal(Secret(SECRET), place)
    return form


def sealed_catalog(keys: Keyring, *documents: dict[str, Any]) -> Catalog:
    catalog = Catalog(
        lambda _, content: parse_document(content, environ={}, default_max_in_flight=8, unseal=keys.unseal)
    )
    catalog.apply([DocumentChange(form["id"], json.dumps(form).encode()) for form in documents])
    return catalog


async def test_sealed_secrets_open_for_their_owner_only(embedded_broker: EmbeddedBroker, tmp_path: Path) -> None:
    """Two swapped secrets: no call is made for either customer, their events say why, and a third goes on."""
    keys = keyring(tmp_path / "keyring.json", ring("k"))
    one, two, three = (sealed_document(keys, customer) for customer in range(3))
    one["auth"], two["auth"] = two["auth"], one["auth"]
    async with outside(embedded_broker, customers=3) as (bus, settings):
        async with running(settings, sealed_catalog(keys, one, two, three)) as worker:
            await produce(settings, [(f"acct_{n % 3}", event(n % 3, n)) for n in range(9)])
            await worker.settled(9)
        assert {arrival.bus_arn for arrival in bus.arrivals} == {bus_arn(2)}
        assert len(bus.arrivals) == 3
        assert {(reason, code) for _, reason, code in letters(settings)} == {("blocked", "CredentialsMissing")}
        assert len(letters(settings)) == 6


async def test_a_missing_sealing_key_kills_nothing(embedded_broker: EmbeddedBroker, tmp_path: Path) -> None:
    """A worker without the newest key keeps the deliveries that it cannot sign until the key is there."""
    path = tmp_path / "keyring.json"
    form = sealed_document(keyring(path, ring("new")), 0)
    keys = keyring(path, ring("old"))
    quick = {"hold_secs": 0.5, "flush_ms": 20}
    async with outside(embedded_broker, tiers=(1,), delivery=quick) as (bus, settings):
        catalog = sealed_catalog(keys, form)
        async with running(settings, catalog) as worker:
            await produce(settings, [("acct_0", event(0, n)) for n in range(20)])
            await worker.until(lambda: sum(isinstance(signal, Attempted) for signal in worker.signals) >= 2)
            path.write_bytes(ring("new", "old"))
            assert catalog.apply(catalog.waiting).put == ("dst_0",)
            await bus.wait_for_arrivals(20)
            assert not [signal for signal in worker.signals if isinstance(signal, Suspended)]
        assert letters(settings) == []
        assert len(bus.arrivals) == 20


async def test_missing_own_credentials_are_told_without_an_event(
    embedded_broker: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page and the log tell it at the start. The worker stays ready: another one could do no more."""
    monkeypatch.setattr(identity_watch, "_FAILED_SECS", 0.2)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    documents = tmp_path / "documents"
    documents.mkdir()
    document = to_document(with_access_key(0, auth=AssumeRole(ROLE, "acme-ext-7Pq2")))
    (documents / "acme.json").write_text(json.dumps(document))
    async with outside(embedded_broker, registry={"path": documents}) as (bus, settings):
        bus.add_key(*OURS, buses=[])
        async with (
            open_registry(settings, {}) as (catalog, updater),
            running(settings, catalog, updater=updater) as worker,
            aiohttp.ClientSession() as session,
        ):

            async def get(path: str) -> str:
                async with session.get(f"http://127.0.0.1:{worker.worker.http_port}{path}") as reply:
                    return await reply.text()

            await worker.until(lambda: any(isinstance(s, OwnCredentialsFailed) for s in worker.signals))
            page = await get("/")
            assert "badge bad'>no AWS credentials</span> BaseCredentialsMissing: no credentials of our own" in page
            assert ">own credentials</td>" in page
            await worker.until(lambda: Membership(settings.kafka.group_id, active=True) in worker.signals)
            await worker.until(lambda: Membership(f"{settings.kafka.group_id}.retry", active=True) in worker.signals)
            assert '"ready": true' in await get("/readyz")
            keys = f"[default]\naws_access_key_id={OURS[0]}\naws_secret_access_key={OURS[1]}\n"
            (tmp_path / "credentials").write_text(keys)
            await worker.until(lambda: OwnCredentialsFound() in worker.signals)
            page = await get("/")
            assert "no AWS credentials" not in page
        assert bus.counts()["connections"] > 0


async def test_missing_own_credentials_kill_nothing(
    embedded_broker: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The profile names a program that prints no JSON. Deliveries wait, however old they are, until it is mended."""
    program = tmp_path / "keys.sh"
    program.write_text("echo no JSON\n")
    (tmp_path / "config").write_text(f"[profile ours]\ncredential_process=/bin/sh {program}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "ours")
    quick = {"hold_secs": 0.5, "flush_ms": 20, "max_age_secs": 2}
    async with outside(embedded_broker, tiers=(1,), delivery=quick) as (bus, settings):
        bus.add_key(*OURS, buses=[])
        bus.add_role(ROLE, external_id="acme-ext-7Pq2", buses=[bus_arn(0)])
        async with running(settings, [with_access_key(0, auth=AssumeRole(ROLE, "acme-ext-7Pq2"))]) as worker:
            await produce(settings, [("acct_0", event(0, n)) for n in range(20)])
            await worker.until(lambda: sum(isinstance(signal, Attempted) for signal in worker.signals) >= 5)
            assert bus.counts()["connections"] == 0
            told = [signal.own_fault for signal in worker.signals if isinstance(signal, Attempted)]
            assert {fault and fault.code for fault in told} == {"BaseCredentialsMissing"}
            keys = json.dumps({"Version": 1, "AccessKeyId": OURS[0], "SecretAccessKey": OURS[1]})
            program.write_text(f"echo '{keys}'\n")
            await bus.wait_for_arrivals(20)
            assert not [signal for signal in worker.signals if isinstance(signal, Suspended)]
        assert letters(settings) == []
        assert len(bus.arrivals) == 20
