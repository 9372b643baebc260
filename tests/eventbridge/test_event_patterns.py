"""The example rules a customer gets, in force on a bus written by others: which events they let through."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson

from pushrail_stream.core.destination import AccessKey, Secret
from pushrail_stream.core.outcome import Answered
from pushrail_stream.eventbridge.bus import EventBridge, EventBridgeOptions
from pushrail_stream.operations.onboarding import Onboarding
from tests.support.batches import batch_of, destination
from tests.support.stock_client import stock_session

KEY, SECRET = "AKIAMOTO000000000000", "moto"
RULES = Onboarding(
    vendor="acme",
    customer="acct_1",
    region="us-east-1",
    account="123456789012",
    bus="pushrail-events",
    external_id="acme-x",
    our_account=None,
).rules()
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


@asynccontextmanager
async def moto() -> AsyncIterator[str]:
    """The sandbox's stand-in for AWS, in a process of its own: its corrections must not reach other tests."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pushrail_stream.sandbox.demo.moto_server"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield json.loads(await process.stdout.readline())["url"]
    finally:
        process.stdin.close()
        await process.wait()


async def received(sqs: Any, queue: str) -> list[Any]:
    """All that is in the queue: moto puts an event there before PutEvents is answered."""
    events = []
    while messages := (await sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)).get("Messages"):
        for message in messages:
            events.append(json.loads(message["Body"]))
            await sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    return events


async def test_each_rule_lets_through_what_it_says_and_nothing_else() -> None:
    async with moto() as url:
        options: dict[str, Any] = {"region_name": "us-east-1", "endpoint_url": url, "aws_access_key_id": KEY,
                                   "aws_secret_access_key": SECRET}  # fmt: skip
        async with (
            stock_session().create_client("events", **options) as events,
            stock_session().create_client("sqs", **options) as sqs,
            EventBridge.open(EventBridgeOptions(endpoint_url=url)) as us,
        ):
            await events.create_event_bus(Name="pushrail-events")
            queues = {}
            for rule, pattern in RULES.items():
                name = rule.replace(" ", "-")
                queues[rule] = (await sqs.create_queue(QueueName=name))["QueueUrl"]
                arn = f"arn:aws:sqs:us-east-1:123456789012:{name}"
                await events.put_rule(Name=name, EventBusName="pushrail-events", EventPattern=json.dumps(pattern))
                await events.put_targets(
                    Rule=name, EventBusName="pushrail-events", Targets=[{"Id": "queue", "Arn": arn}]
                )
            target = destination(AccessKey(KEY, Secret(SECRET)))
            reply = await us.put(batch_of(target, [value(name) for name in EVENTS]))
            # An event of another source: what the customer's own applications put on the bus is in no rule of ours.
            stray: Any = {"Source": "own.app", "DetailType": "order.created", "Resources": ["acct_1"],
                     "Detail": value("all").decode(), "EventBusName": "pushrail-events"}  # fmt: skip
            await events.put_events(Entries=[stray])
            arrived = {rule: await received(sqs, queue) for rule, queue in queues.items()}

    assert isinstance(reply, Answered)
    assert {rule: sorted(one["detail"]["idempotencyKey"] for one in there) for rule, there in arrived.items()} == {
        rule: sorted(names) for rule, names in WANTED.items()
    }
    assert {one["source"] for there in arrived.values() for one in there} == {"pushrail.acme"}
