"""Notices of a whole worker: they are on their topic, and a topic that takes none delays nothing."""

from __future__ import annotations

import base64
import json

import pytest

from pushrail_stream.core.signals import Suspended
from pushrail_stream.sandbox.bus.faults import CallError, Match, Rule
from tests.support.builders import event, with_access_key
from tests.support.recording_server import Recorder, http
from tests.support.workers import committed, ends, outside, produce, read_all, running, until

pytestmark = pytest.mark.kafka
DENIED = Rule(CallError(403, "AccessDeniedException", "no"), Match(operation="PutEvents"))


async def test_a_suspension_is_on_the_topic_once_and_posted(
    real_kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setenv("HOOK", "whsec_" + base64.b64encode(bytes(32)).decode())
    async with (
        Recorder.serve(http("204 No Content")) as receiver,
        outside(real_kafka, notices={"webhook_url": receiver.url, "webhook_secret": "env:HOOK"}) as (bus, settings),
    ):
        bus.set_plan([DENIED])
        async with running(settings, [with_access_key(0)]) as worker:
            await produce(settings, [("acct_0", event(0, n)) for n in range(200)])
            await worker.settled(200)
            await until(lambda: bool(receiver.requests))
        records = read_all(settings, settings.topics.notices)
    [(key, value, headers)] = records
    notice = json.loads(value or b"")
    assert [request.body for request in receiver.requests] == [value]
    assert (key, headers) == (b"dst_0", {"content-type": "application/cloudevents+json; charset=UTF-8"})
    assert (notice["type"], notice["subject"]) == ("pushrail.destination.suspended", "dst_0")
    assert (notice["data"]["worker"], notice["data"]["code"]) == (worker.worker.id, "AccessDeniedException")


async def test_a_missing_topic_delays_nothing(real_kafka: str, capfd: pytest.CaptureFixture[str]) -> None:
    async with outside(real_kafka) as (bus, made):
        settings = made.model_copy(update={"topics": made.topics.model_copy(update={"notices": "missing.notices"})})
        bus.set_plan([DENIED])
        async with running(settings, [with_access_key(0)]) as worker:
            await produce(settings, [("acct_0", event(0, n)) for n in range(200)])
            await worker.until(lambda: any(isinstance(one, Suspended) for one in worker.signals))
            await worker.settled(200)
            await until(lambda: committed(settings) == ends(settings, settings.topics.events))
    said = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    [caveat] = [line for line in said if line.get("setting") == "topics.notices"]
    assert "Notices are lost until then" in caveat["problem"]
    assert [line["records"] for line in said if line["event"] == "notices_lost"] == [1]
