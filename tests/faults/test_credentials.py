"""Traps about credentials: whose sign a call, and what binds a customer's role to us."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pushrail_stream.core.destination import AccessKey, AssumeRole, Secret
from pushrail_stream.ports import DocumentChange
from pushrail_stream.registry import Catalog, parse_document, to_document
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.sandbox.bus import Latency, Match, Rule
from tests.e2e.world import KEY_ID, SECRET, bus_arn, destination, event, produce, running
from tests.faults.world import letters, outside

pytestmark = pytest.mark.kafka
OURS = ("AKIABASE000000000000", "base-secret")
NEW_KEY_ID, NEW_SECRET = "AKIAIOSFODNN8EXAMPLE", "another-secret-of-the-customer"
ROLE = "arn:aws:iam::123456789012:role/PushrailEventBridgeWriter"


@pytest.fixture
def our_own_credentials(monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Where the standard chain of AWS's libraries looks first."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", OURS[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", OURS[1])
    return OURS


async def test_external_id_never_sent(embedded_broker: EmbeddedBroker, our_own_credentials: tuple[str, str]) -> None:
    async with outside(embedded_broker) as (bus, settings):
        bus.add_key(*our_own_credentials, buses=[])
        bus.add_role(ROLE, external_id="acme-ext-7Pq2", buses=[bus_arn(0)])
        async with running(settings, [destination(0, auth=AssumeRole(ROLE, "acme-ext-7Pq2"))]) as worker:
            await produce(settings, [("acct_0", event(0, 1))])
            await worker.settled(1)
        [asked] = bus.assumed
        assert (asked.role_arn, asked.external_id) == (ROLE, "acme-ext-7Pq2")
        assert "7Pq2" not in asked.session_name, "it is a condition and no name"
        [arrival] = bus.arrivals
        assert arrival.access_key == asked.issued_key


@pytest.mark.parametrize("secret", [None, Secret("")], ids=["no secret", "an empty one"])
async def test_empty_keys_fall_through_to_our_own(
    embedded_broker: EmbeddedBroker, our_own_credentials: tuple[str, str], secret: Secret | None
) -> None:
    async with outside(embedded_broker) as (bus, settings):
        bus.add_key(*our_own_credentials)  # allowed everything: a call signed with them would be taken
        async with running(settings, [destination(0, auth=AccessKey(KEY_ID, secret))]) as worker:
            await produce(settings, [("acct_0", event(0, 1))])
            await worker.settled(1)
        assert bus.counts()["connections"] == 0
        assert letters(settings) == [(event(0, 1), "blocked", "CredentialsMissing")]


async def test_client_cached_by_config_not_by_credentials(embedded_broker: EmbeddedBroker) -> None:
    """Keys are rotated under a running worker: the next batch has the new ones, what is under way ends on the old."""
    secrets = {"OLD": SECRET, "NEW": NEW_SECRET}
    catalog = Catalog(lambda _, content: parse_document(content, environ=secrets, default_max_in_flight=8))

    def document(key_id: str, secret: str) -> DocumentChange:
        form: dict[str, Any] = to_document(destination(0))
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
