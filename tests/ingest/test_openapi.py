"""The description of ingest's API, for programs and for people."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from pushrail_stream.core.event import MAX_EVENT_TYPE, MAX_ID, VENDOR_HEADER
from pushrail_stream.ingest.errors import HttpProblem
from pushrail_stream.ingest.limits import MAX_HEAD_BYTES
from pushrail_stream.ingest.openapi import describe
from pushrail_stream.ingest.request import MAX_EVENTS, MAX_IDEMPOTENCY_KEY
from tests.support.browser import Browser
from tests.support.ingest_server import EVENT, ingest_door


async def test_the_page_shows_every_field(tmp_path: Path) -> None:
    async with ingest_door(tmp_path) as door:
        async with door.session.get(f"{door.url}/") as reply:
            page = await reply.text()
            assert (reply.status, reply.url.path) == (200, "/docs")
            assert reply.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert not re.search(r"<script|src=|@import|<link|`", page)
        assert "In an array, <code>-</code> and" in page
        assert all(name in page for name in (*EVENT, "Idempotency-Key", "429", "503"))
        addresses = set(re.findall(r"https?://[\w.-]+", page))
        assert addresses == {"https://YOUR-HOST"}


@pytest.mark.parametrize("width", [400, 1280])
async def test_a_real_browser_shows_all_of_the_page(tmp_path: Path, width: int) -> None:
    async with ingest_door(tmp_path) as door, Browser.open(tmp_path) as browser:
        await browser.show(f"{door.url}/docs", width)
        assert await browser.overflowing() == []
        assert "idempotencyKey" in await browser.evaluate("document.body.innerText")
        if folder := os.environ.get("PUSHRAIL_TEST_SCREENSHOTS"):
            (Path(folder) / f"docs-{width}.png").write_bytes(await browser.screenshot())


async def test_the_description_is_openapi(tmp_path: Path) -> None:
    async with ingest_door(tmp_path) as door, door.session.get(f"{door.url}/openapi.json") as reply:
        document = await reply.json()
    assert document["openapi"].startswith("3.1")
    assert "://" not in json.dumps(document), "no address of anybody's"
    validate(document, cls=OpenAPIV31SpecValidator)


def test_the_description_has_the_limits_of_the_decoder() -> None:
    document = describe()
    operation, event = document["paths"]["/v1/events"]["post"], document["components"]["schemas"]["Event"]
    lengths = {name: field["maxLength"] for name, field in event["properties"].items() if "maxLength" in field}
    assert lengths == {"eventType": MAX_EVENT_TYPE, "customerExternalId": MAX_ID, "idempotencyKey": MAX_ID}
    one, several = operation["requestBody"]["content"]["application/json"]["schema"]["oneOf"]
    assert (several["items"], several["maxItems"]) == (one, MAX_EVENTS)
    assert operation["summary"] == f"Post one event, or up to {MAX_EVENTS}"
    headers = {header["name"]: header["schema"] for header in operation["parameters"]}
    assert headers["Idempotency-Key"]["maxLength"] == MAX_IDEMPOTENCY_KEY
    assert VENDOR_HEADER in headers


def test_the_description_has_the_refusals_of_the_service() -> None:
    responses = describe()["paths"]["/v1/events"]["post"]["responses"]
    kinds = {status: json.loads(HttpProblem(int(status), "").body()) for status in responses if status != "202"}
    assert all(not kind["type"].endswith(":other") for kind in kinds.values())
    example = responses["422"]["content"]["application/problem+json"]["example"]
    assert example.items() >= {name: kinds["422"][name] for name in ("type", "title", "status")}.items()
    assert f"{MAX_HEAD_BYTES // 2**10} KiB" in responses["431"]["description"]
