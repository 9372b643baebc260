"""Refusals and failures are answered as problem details."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.ingest_server import EVENT, ingest_door, members

PROBLEM = "application/problem+json"


async def test_one_bad_event_refuses_the_request(tmp_path: Path) -> None:
    async with ingest_door(tmp_path) as door:
        bad = members(eventType=None, occurredAt="yesterday", payload=[])
        status, answer, headers = await door.post([members(), bad, 7])
        assert (status, headers["Content-Type"]) == (422, PROBLEM)
        assert answer["type"] == "urn:pushrail:problem:invalid-events"
        assert answer["status"] == 422
        assert answer["detail"].startswith("2 of 3 events break a rule; the first: eventType: is missing")
        found = [(error["index"], error["field"], error["pointer"]) for error in answer["errors"]]
        assert found == [
            (1, "eventType", "#/1/eventType"),
            (1, "payload", "#/1/payload"),
            (1, "occurredAt", "#/1/occurredAt"),
            (2, "value", "#/2"),
        ]
        assert not door.producer.taken
        assert (door.answers[0].rejected, door.answers[0].accepted) == (2, 0)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "value"), (b"{", "value"), (b"[1,", "value"), (b"[]", "value"), (b"7", "value"), (b"null", "value"),
        (b"[" * 100_000, "value"), (b'{"a":' * 5_000, "value"), (b"\xff", "value"), (b'["\xff"]', "value"),
        (json.dumps([EVENT] * 501).encode(), "value"), (json.dumps([[EVENT]]).encode(), "value"),
        (json.dumps(members(payload=None)).encode(), "payload"),
        (json.dumps(members(eventType="")).encode(), "eventType"),
        (json.dumps(members(idempotencyKey="x" * 257)).encode(), "idempotencyKey"),
        (json.dumps(members(correlationId=7)).encode(), "correlationId"),
        (json.dumps(members(occurredAt="2026-05-26T14:21:08")).encode(), "occurredAt"),
    ],
)  # fmt: skip
async def test_a_bad_body_is_refused_by_field(tmp_path: Path, body: bytes, field: str) -> None:
    async with ingest_door(tmp_path) as door:
        status, answer, _ = await door.post(body)
        assert (status, answer["errors"][0]["field"]) == (422, field)
        assert not door.producer.taken


async def test_unacknowledged_events_are_named(tmp_path: Path) -> None:
    async with ingest_door(tmp_path) as door:
        door.producer.failures = {1: "Local: Message timed out"}
        status, answer, headers = await door.post([members(), members(idempotencyKey="second")])
        assert (status, headers["Retry-After"], answer["accepted"]) == (503, "5", 1)
        assert [result["status"] for result in answer["results"]] == ["accepted", "failed"]
        assert answer["results"][1]["detail"] == "Local: Message timed out"
        assert (door.answers[0].accepted, door.answers[0].failed) == (1, 1)


async def test_framework_errors_are_problems_too(tmp_path: Path) -> None:
    async with ingest_door(tmp_path) as door:
        for method, path, status in (("GET", "/nothing", 404), ("PUT", "/v1/events", 405)):
            async with door.session.request(method, door.url + path) as reply:
                assert (reply.status, reply.content_type) == (status, PROBLEM)
                assert (await reply.json(content_type=None))["status"] == status
                assert "uvicorn" not in str(reply.headers)
        assert [answer.status for answer in door.answers] == [404, 405]


async def test_a_bug_is_a_500_without_details(tmp_path: Path) -> None:
    async with ingest_door(tmp_path) as door:

        async def broken(_records: Any) -> Any:
            raise RuntimeError("secret detail")

        door.producer.publish_all = broken  # type: ignore[method-assign, assignment]
        status, answer, _ = await door.post(members())
        assert status == 500
        assert "secret" not in str(answer)
        assert door.answers[0].status == 500
        assert door.ingest.buffered_bytes == 0
