"""A check against a bus by other authors: our events reach the target of a rule."""

from __future__ import annotations

from typing import Any

import orjson

from pushrail_stream.core.destination import Secret
from pushrail_stream.eventbridge.bus import EventBridge
from pushrail_stream.eventbridge.error_codes import Answered
from pushrail_stream.settings.eventbridge import AccessKey
from pushrail_stream.settings.model import EventBridgeSettings, StsSettings
from tests.support.batches import BUS, batch_of, value
from tests.support.builders import destination
from tests.support.moto_server import moto_server, url_of
from tests.support.stock_client import stock_session


async def test_an_event_reaches_a_queue_by_a_rule() -> None:
    with moto_server() as server:
        await _through(url_of(server))


async def _through(url: str) -> None:
    settings: dict[str, Any] = {
        "region_name": "us-east-1",
        "endpoint_url": url,
        "aws_access_key_id": "AKIAMOTO000000000000",
        "aws_secret_access_key": "moto",
    }
    async with (
        stock_session().create_client("events", **settings) as events,
        stock_session().create_client("sqs", **settings) as sqs,
        EventBridge.open(EventBridgeSettings(endpoint_url=url), StsSettings()) as us,
    ):
        target = destination(auth=AccessKey("AKIAMOTO000000000000", Secret("moto")))
        assert await us.check(target) == "gone"
        await events.create_event_bus(Name="bus-acme")
        assert await us.check(target) == "there"
        queue = (await sqs.create_queue(QueueName="arrived"))["QueueUrl"]
        arn = (await sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"]))["Attributes"]["QueueArn"]
        pattern = orjson.dumps({"source": ["pushrail.acme"], "resources": ["acct_acme"]}).decode()
        await events.put_rule(Name="all", EventBusName="bus-acme", EventPattern=pattern)
        await events.put_targets(Rule="all", EventBusName="bus-acme", Targets=[{"Id": "q", "Arn": arn}])

        raw = value(1, note="Zoë")
        reply = await us.call(batch_of(target, [raw]))
        (message,) = (await sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=5))["Messages"]

    assert isinstance(reply, Answered)
    event = orjson.loads(message["Body"])
    assert BUS.endswith("bus-acme")
    assert event["detail"] == orjson.loads(raw)
    assert (event["source"], event["detail-type"]) == ("pushrail.acme", "order.completed")
    assert (event["time"], event["resources"]) == ("2026-05-26T14:21:08Z", ["acct_acme", "key-1"])
    assert event["id"] == reply.entries[0].event_id
