"""``sandbox inbox``: the events that arrived on the customers' buses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pushrail_stream.sandbox.bus.server import FaultBus
from tests.support.bus_clients import BUS, KEY, SECRET, client, entry
from tests.support.commands import Shell


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys, [SECRET])


@asynccontextmanager
async def bus_with_events(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FaultBus]:
    async with FaultBus.serve() as bus:
        monkeypatch.setenv("PUSHRAIL_EVENTBRIDGE__ENDPOINT_URL", bus.url)
        bus.add_key(KEY, SECRET)
        bus.add_rule(BUS, "all", {"source": [{"prefix": ""}]})
        bus.add_rule(BUS, "second", {"detail-type": ["second"]})
        async with client("events", bus) as events:
            await events.put_events(Entries=[entry(DetailType="first", Resources=["acct_1", "key_1"])])
            await events.put_events(Entries=[entry(DetailType="second", Resources=[])])
        yield bus


async def test_the_inbox_lists_what_arrived(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bus_with_events(monkeypatch):
        code, out, _ = await asyncio.to_thread(shell, "sandbox", "inbox")
        head, first, second = out.splitlines()
        assert code == 0
        assert head.split() == ["at", "event", "type", "customer", "key", "bus", "rules"]
        assert first.split()[1:] == ["first", "acct_1", "key_1", BUS, "all"]
        assert second.split()[1:] == ["second", BUS, "all,", "second"]
        code, out, _ = await asyncio.to_thread(shell, "sandbox", "inbox", "--rule", "second", "--json")
        [found] = map(json.loads, out.splitlines())
        assert (found["rules"], found["event"]["detail-type"]) == (["second"], "second")


async def test_one_event_is_shown_in_full(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bus_with_events(monkeypatch):
        code, out, _ = await asyncio.to_thread(shell, "sandbox", "inbox", "--key", "key_1")
        assert (code, json.loads(out)["resources"]) == (0, ["acct_1", "key_1"])


async def test_an_empty_inbox_fails(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bus_with_events(monkeypatch):
        code, _, err = await asyncio.to_thread(shell, "sandbox", "inbox", "--key", "other")
        assert (code, err) == (1, "error: no such event has arrived\n")


def test_the_inbox_needs_a_sandbox(shell: Shell) -> None:
    code, _, err = shell("sandbox", "inbox")
    assert code == 2
    assert "eventbridge.endpoint_url: is not set; `sandbox --keep` prints the command" in err
