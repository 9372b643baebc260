"""Verification: each step says what it found, so that a wrong set-up is found before the first event."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from pushrail_stream.core.destination import AccessKey, AssumeRole, Auth, Secret
from pushrail_stream.eventbridge.client import EventBridge, EventBridgeOptions
from pushrail_stream.eventbridge.verify import Step, verify
from pushrail_stream.registry import Onboarding
from pushrail_stream.sandbox.bus import CallError, EntryError, FaultBus, Match, Rule
from tests.eventbridge.batches import BUS, batch_of, value
from tests.eventbridge.batches import destination as plain
from tests.eventbridge.stock import stock_session

ROLE = "arn:aws:iam::123456789012:role/PushrailEventBridgeWriter"
KEY, SECRET = "AKIACUSTOMER00000001", "customers-secret"
ASSUME = AssumeRole(ROLE, "acme-ext-7Pq2")


@asynccontextmanager
async def world(base: tuple[str, str] | None = None, **role: Any) -> AsyncIterator[tuple[FaultBus, EventBridgeOptions]]:
    """A customer with a bus, a role and a key, and us with our own."""
    async with FaultBus.serve() as bus:
        bus.add_bus(BUS)
        bus.add_key(KEY, SECRET, buses=[BUS])
        if base is not None:
            bus.add_key(*base, account="111122223333", buses=[])
        bus.add_role(ROLE, **({"external_id": ASSUME.external_id, "buses": [BUS]} | role))
        yield bus, EventBridgeOptions(endpoint_url=bus.url, sts_endpoint_url=bus.url, read_timeout_secs=1)


async def steps(auth: Auth, options: EventBridgeOptions, **changes: Any) -> dict[str, Step]:
    found = [step async for step in verify(replace(plain(auth), **changes), options)]
    assert not any(SECRET in repr(step) or "base-secret" in repr(step) for step in found)
    return {step.name: step for step in found}


def results(found: dict[str, Step]) -> dict[str, str]:
    return {name: step.result for name, step in found.items()}


async def test_a_good_role_passes_every_step(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as (bus, options):
        found = await steps(ASSUME, options)
    assert list(found) == [
        "our credentials", "AssumeRole", "wrong external ID", "no external ID", "bus", "test event",
    ]  # fmt: skip
    assert set(results(found).values()) == {"ok"}
    assert "111122223333" in found["our credentials"].message
    assert [asked.external_id == ASSUME.external_id for asked in bus.assumed] == [True, False, False]
    assert bus.assumed[1].external_id is not None
    assert bus.assumed[2].external_id is None
    [arrival] = bus.arrivals
    event = json.loads(arrival.detail)
    assert (arrival.detail_type, event["eventType"]) == ("pushrail.test", "pushrail.test")
    assert event["payload"]["nonce"] in found["test event"].message
    assert found["test event"].event_id == arrival.event_id
    assert found["test event"].request_id
    # The customer's bus is called with the session of their role alone.
    assert {call.access_key for call in bus.calls} == {bus.assumed[0].issued_key}


async def test_a_trust_policy_without_the_condition_is_a_warning_that_names_it(
    base_credentials: tuple[str, str],
) -> None:
    async with world(base_credentials, external_id=None) as (_, options):
        found = await steps(ASSUME, options)
    for name in ("wrong external ID", "no external ID"):
        assert found[name].result == "warning"
        assert '{"StringEquals": {"sts:ExternalId": "<this external ID>"}}' in found[name].message
    assert results(found)["test event"] == "ok"


async def test_a_role_that_cannot_be_assumed_ends_it(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials, external_id="another") as (bus, options):
        found = await steps(ASSUME, options)
    assert results(found) == {"our credentials": "ok", "AssumeRole": "failed"}
    assert "AccessDenied" in found["AssumeRole"].message
    assert "trust policy does not allow our account with this external ID" in found["AssumeRole"].message
    assert not bus.calls


async def test_a_refusal_for_another_reason_proves_nothing(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as (bus, options):
        found: dict[str, Step] = {}
        async for step in verify(plain(ASSUME), options):
            found[step.name] = step
            if step.name == "AssumeRole":
                bus.set_plan([Rule(CallError(503, "ServiceUnavailable"), Match(operation="AssumeRole"))])
    assert (found["wrong external ID"].result, found["no external ID"].result) == ("unknown", "unknown")


async def test_a_bus_that_is_gone_is_named_and_nothing_is_sent(base_credentials: tuple[str, str]) -> None:
    elsewhere = BUS.replace("pushrail-events", "deleted")
    async with world(base_credentials, buses=None) as (bus, options):
        found = await steps(ASSUME, options, bus_arn=elsewhere)
    assert found["bus"].result == "failed"
    assert found["bus"].message == f"{elsewhere} does not exist: events sent there would vanish (EventBusNotFound)"
    assert "test event" not in found
    assert not bus.calls


async def test_a_role_that_may_not_ask_is_told_which_statement_to_add(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as (bus, options):
        bus.set_plan([Rule(CallError(403, "AccessDeniedException", "no"), Match(operation="DescribeEventBus"))])
        found = await steps(ASSUME, options)
    assert found["bus"].result == "unknown"
    statement = json.loads(found["bus"].message.partition("add this statement to the role: ")[2])
    assert statement == {"Effect": "Allow", "Action": "events:DescribeEventBus", "Resource": BUS}
    assert found["test event"].result == "ok"


@pytest.mark.parametrize("level", ["call", "entry"])
async def test_a_test_event_that_is_refused_fails(level: str, base_credentials: tuple[str, str]) -> None:
    fault = (
        CallError(403, "AccessDeniedException", "not you")
        if level == "call"
        else EntryError("NotAuthorizedForSourceException", "not you")
    )
    async with world(base_credentials) as (bus, options):
        bus.set_plan([Rule(fault, Match(operation="PutEvents"))])
        found = await steps(ASSUME, options)
    assert found["test event"].result == "failed"
    assert "not you" in found["test event"].message


async def test_an_access_key_is_tried_as_it_is() -> None:
    async with world() as (bus, options):
        found = await steps(AccessKey(KEY, Secret(SECRET)), options)
        assert results(found) == {"credentials": "ok", "bus": "ok", "test event": "ok"}
        assert {call.access_key for call in bus.calls} == {KEY}
        wrong = await steps(AccessKey(KEY, Secret("wrong-secret")), options)
    assert wrong["credentials"].result == "failed"
    assert "wrong-secret" not in repr(wrong)


async def test_a_key_of_another_account_is_pointed_out() -> None:
    async with world() as (bus, options):
        bus.add_key("AKIAELSEWHERE0000001", "other", account="999999999999", buses=[BUS])
        found = await steps(AccessKey("AKIAELSEWHERE0000001", Secret("other")), options)
    assert found["credentials"].result == "warning"
    assert "is of another account than the bus (123456789012)" in found["credentials"].message


@pytest.mark.parametrize(
    "auth", [AccessKey(KEY, None), AccessKey(KEY, None, is_waiting=True), AccessKey("", Secret("x"))]
)
async def test_without_a_secret_nothing_is_sent(auth: AccessKey, base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as (bus, options):
        found = await steps(auth, options)
        assert bus.counts()["connections"] == 0
    assert results(found) == {"credentials": "failed"}


async def test_without_credentials_of_our_own_it_is_said_first() -> None:
    async with world() as (bus, options):
        found = await steps(ASSUME, options)
    assert found["our credentials"].result == "failed"
    assert "credentials" in found["our credentials"].message
    assert found["AssumeRole"].result == "failed"
    assert not bus.calls


async def test_nobody_there_is_a_step_that_failed(base_credentials: tuple[str, str]) -> None:
    del base_credentials
    options = EventBridgeOptions(endpoint_url="http://127.0.0.1:1", sts_endpoint_url="http://127.0.0.1:1")
    found = await steps(ASSUME, options)
    assert results(found) == {"our credentials": "failed", "AssumeRole": "failed"}


async def test_the_example_rules_match_what_arrives_and_nothing_else() -> None:
    """On a bus written by others: each pattern with a queue of its own, and events of four kinds."""
    onboarding = Onboarding(
        vendor="acme", customer="acct_1", region="us-east-1", account="123456789012", bus="onboarded",
        external_id="acme-x", our_account=None,
    )  # fmt: skip
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        arrived = await _deliver_by_rules(f"http://{host}:{port}", onboarding)
    finally:
        server.stop()
    assert arrived == {
        "by tenant": {"key_1", "key_2", "key_3"},
        "by event type": {"key_1", "key_2", "key_4"},
        "by payload field": {"key_1", "key_4"},
    }


async def _deliver_by_rules(url: str, onboarding: Onboarding) -> dict[str, set[str]]:
    keys: dict[str, Any] = {
        "region_name": "us-east-1",
        "endpoint_url": url,
        "aws_access_key_id": "AKIAMOTO000000000000",
        "aws_secret_access_key": "moto",
    }
    events = [
        _event(1, "order.completed", "acct_1", "USD"),
        _event(2, "order.created", "acct_1", "EUR"),
        _event(3, "invoice.paid", "acct_1", "EUR"),
        _event(4, "order.completed", "acct_2", "USD"),
    ]
    async with (
        stock_session().create_client("events", **keys) as bus,
        stock_session().create_client("sqs", **keys) as sqs,
        EventBridge.open(EventBridgeOptions(endpoint_url=url)) as us,
    ):
        await bus.create_event_bus(Name=onboarding.bus)
        queues = {}
        for number, (name, pattern) in enumerate(onboarding.rules().items()):
            queue = queues[name] = (await sqs.create_queue(QueueName=f"onboarded-{number}"))["QueueUrl"]
            arn = (await sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"]))["Attributes"][
                "QueueArn"
            ]
            rule = f"rule{number}"
            await bus.put_rule(Name=rule, EventBusName=onboarding.bus, EventPattern=json.dumps(pattern))
            await bus.put_targets(Rule=rule, EventBusName=onboarding.bus, Targets=[{"Id": "q", "Arn": arn}])
        ours = plain(AccessKey("AKIAMOTO000000000000", Secret("moto")))
        await us.put(batch_of(replace(ours, bus_arn=onboarding.bus_arn), events))
        return {name: await _keys_in(sqs, queue) for name, queue in queues.items()}


def _event(number: int, event_type: str, customer: str, currency: str) -> bytes:
    changes = {"eventType": event_type, "customerExternalId": customer, "payload": {"currency": currency}}
    return json.dumps(json.loads(value(number)) | changes).encode()


async def _keys_in(sqs: Any, queue: str) -> set[str]:
    found: set[str] = set()
    while messages := (await sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)).get("Messages"):
        for message in messages:
            found.add(json.loads(message["Body"])["detail"]["idempotencyKey"])
            await sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    return found
