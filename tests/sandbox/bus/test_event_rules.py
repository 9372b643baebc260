"""The example rules of onboarding, in force on the sandbox's bus and on moto: the events that each of them matches."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import orjson
import pytest

from pushrail_stream.core.destination import Secret
from pushrail_stream.eventbridge.bus import EventBridge
from pushrail_stream.eventbridge.error_codes import Answered
from pushrail_stream.operations.onboarding_templates import Onboarding
from pushrail_stream.sandbox.bus.server import FaultBus
from pushrail_stream.settings.eventbridge import AccessKey
from pushrail_stream.settings.model import EventBridgeSettings, StsSettings
from tests.support.batches import batch_of
from tests.support.builders import destination
from tests.support.bus_clients import ACCOUNT, BUS, KEY, SECRET, client, entry
from tests.support.moto_server import moto_server, url_of
from tests.support.stock_client import stock_session

ONBOARDING = Onboarding(
    vendor="acme",
    customer="acct_1",
    region="us-east-1",
    account=ACCOUNT,
    bus="pushrail-events",
    external_id="acme-x",
    our_account=None,
)
EVENTS = {
    "all": ("acct_1", "order.created", {"currency": "USD"}),
    "tenant and type": ("acct_1", "order.created", {"currency": "EUR"}),
    "tenant": ("acct_1", "invoice.paid", {}),
    "type": ("acct_2", "order.cancelled", {"currency": ["EUR"]}),
    "field": ("acct_2", "orders", {"currency": "USD"}),
    "none": ("acct_12", "reorder.created", {"nested": {"currency": "USD"}}),
}
WANTED = {
    "by tenant": {"all", "tenant and type", "tenant"},
    "by event type": {"all", "tenant and type", "type"},
    "by payload field": {"all", "field"},
}


def value(name: str) -> bytes:
    customer, event_type, payload = EVENTS[name]
    return orjson.dumps(
        {
            "eventType": event_type,
            "occurredAt": "2026-05-26T14:21:08.493Z",
            "source": "orders",
            "customerExternalId": customer,
            "idempotencyKey": name,
            "payload": payload,
        }
    )


def options(url: str) -> dict[str, Any]:
    return {"region_name": "us-east-1", "endpoint_url": url, "aws_access_key_id": KEY, "aws_secret_access_key": SECRET}


def queue_arn(rule: str) -> str:
    return f"arn:aws:sqs:us-east-1:{ACCOUNT}:{rule.replace(' ', '-')}"


Inboxes = Callable[[str], Awaitable[list[Any]]]
"""The events that a rule's target has got."""


@asynccontextmanager
async def own_bus() -> AsyncIterator[tuple[str, Inboxes]]:
    async with FaultBus.serve() as bus:
        bus.add_key(KEY, SECRET)
        for rule, pattern in ONBOARDING.rules().items():
            bus.add_rule(ONBOARDING.bus_arn, rule, pattern)

        async def inbox(rule: str) -> list[Any]:
            return [json.loads(event) for event in bus.event_rules.inbox(ONBOARDING.bus_arn, rule)]

        yield bus.url, inbox


@asynccontextmanager
async def moto() -> AsyncIterator[tuple[str, Inboxes]]:
    with moto_server() as server:
        url = url_of(server)
        async with (
            stock_session().create_client("events", **options(url)) as events,
            stock_session().create_client("sqs", **options(url)) as sqs,
        ):
            await events.create_event_bus(Name="pushrail-events")
            for rule, pattern in ONBOARDING.rules().items():
                name = rule.replace(" ", "-")
                await sqs.create_queue(QueueName=name)
                on_bus: dict[str, Any] = {"EventBusName": "pushrail-events"}
                await events.put_rule(Name=name, EventPattern=json.dumps(pattern), **on_bus)
                await events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": queue_arn(rule)}], **on_bus)

            async def received(rule: str) -> list[Any]:
                """Read a queue empty: an event is there before PutEvents is answered."""
                found = []
                queue = f"{url}/{ACCOUNT}/{rule.replace(' ', '-')}"
                while messages := (await sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)).get("Messages"):
                    for message in messages:
                        found.append(json.loads(message["Body"]))
                        await sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
                return found

            yield url, received


@pytest.mark.parametrize("serve", [own_bus, moto])
async def test_each_rule_passes_only_its_events(
    serve: Callable[[], AbstractAsyncContextManager[tuple[str, Inboxes]]],
) -> None:
    async with (
        serve() as (url, inbox),
        stock_session().create_client("events", **options(url)) as events,
        EventBridge.open(EventBridgeSettings(endpoint_url=url), StsSettings()) as us,
    ):
        target = destination(auth=AccessKey(KEY, Secret(SECRET)), bus=BUS)
        reply = await us.call(batch_of(target, [value(name) for name in EVENTS]))
        # The customer's own applications put events on the bus too: no rule of ours matches their source.
        stray: Any = entry(Source="own.app", DetailType="order.created", Resources=["acct_1"],
                           Detail=value("all").decode(), EventBusName="pushrail-events")  # fmt: skip
        await events.put_events(Entries=[stray])
        arrived = {rule: await inbox(rule) for rule in WANTED}

    assert isinstance(reply, Answered)
    assert {rule: sorted(one["detail"]["idempotencyKey"] for one in there) for rule, there in arrived.items()} == {
        rule: sorted(names) for rule, names in WANTED.items()
    }
    assert {one["source"] for there in arrived.values() for one in there} == {"pushrail.acme"}


async def test_an_inbox_holds_the_delivered_event() -> None:
    async with FaultBus.serve() as bus:
        bus.add_key(KEY, SECRET)
        bus.add_rule(ONBOARDING.bus_arn, "all", {"source": [{"prefix": ""}]})
        async with client("events", bus) as events:
            detail = '{"idempotencyKey":"order_1", "amount":1e2,"note":"<id>"}'
            reply = await events.put_events(Entries=[entry(Detail=detail, Time=1779805268, Resources=["acct_1"])])
        (body,) = bus.event_rules.inbox(ONBOARDING.bus_arn, "all")
    event = json.loads(body)
    assert list(event) == [
        "version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail",
    ]  # fmt: skip
    assert event["id"] == reply["Entries"][0]["EventId"]
    assert (event["version"], event["account"], event["region"]) == ("0", ACCOUNT, "us-east-1")
    assert (event["time"], event["resources"]) == ("2026-05-26T14:21:08Z", ["acct_1"])
    assert body.endswith(f'"detail":{detail}}}')


async def test_the_newest_events_are_found_by_rule_and_key() -> None:
    async with FaultBus.serve() as bus:
        bus.add_key(KEY, SECRET)
        bus.add_rule(BUS, "orders", {"detail-type": [{"prefix": "order."}]})
        bus.add_rule(BUS, "paid", {"detail-type": ["order.paid", "invoice.paid"]})
        async with client("events", bus) as events:
            for number, event_type in enumerate(("order.paid", "order.sent", "invoice.paid", "user.created")):
                await events.put_events(Entries=[entry(DetailType=event_type, Resources=["acct_1", f"key_{number}"])])
            await events.put_events(Entries=[entry(DetailType="order.paid", EventBusName="default")])

        def found(limit: int, **wanted: str) -> list[tuple[str, tuple[str, ...]]]:
            newest = bus.event_rules.newest(limit, **wanted)
            return [(json.loads(one.event)["detail-type"], one.rules) for one in newest]

        assert found(9) == [
            ("order.paid", ("orders", "paid")), ("order.sent", ("orders",)), ("invoice.paid", ("paid",)),
        ]  # fmt: skip
        assert found(2) == found(9)[1:]
        assert found(9, rule="orders") == [("order.paid", ("orders",)), ("order.sent", ("orders",))]
        assert found(9, key="key_2") == [("invoice.paid", ("paid",))]
        assert found(9, rule="none") == found(9, key="key_3") == []
