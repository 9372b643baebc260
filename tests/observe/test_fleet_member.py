"""A worker as a member of the fleet: trouble with the topics is reported once, and bad records do no harm."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from pushrail_stream.core.signals import FleetTrouble
from pushrail_stream.errors import OperatorError
from pushrail_stream.observe.control import Answer, Request
from pushrail_stream.observe.fleet_member import FleetMember
from pushrail_stream.observe.worker_record import WorkerIdentity, WorkerRecord
from pushrail_stream.pipeline.stats import WorkerStats
from tests.support.fake_ports import Seen
from tests.support.virtual_time import VirtualClock, in_virtual_time

IDENTITY = WorkerIdentity.new("pushrail-stream", "group", 0)


class Link:
    """Topics that can be taken away."""

    def __init__(self) -> None:
        self.is_broken = False
        self.states: list[bytes | None] = []
        self.answers: list[Answer | None] = []
        self.given: asyncio.Queue[bytes] = asyncio.Queue()

    async def write_state(self, state: bytes | None) -> None:
        self._check()
        self.states.append(state)

    async def write_answer(self, answer: bytes) -> None:
        self._check()
        self.answers.append(Answer.read(answer))

    def others(self) -> Sequence[bytes]:
        return []

    async def begin(self) -> None:
        self._check()

    async def requests(self) -> Sequence[bytes]:
        self._check()
        return [await self.given.get()]

    def _check(self) -> None:
        if self.is_broken:
            raise OperatorError("no such topic")


def report() -> WorkerRecord:
    return IDENTITY.record(WorkerStats(), "host:1", [])


async def retry_now(arguments: Mapping[str, str]) -> Mapping[str, Any]:
    if arguments["destination"] != "dst_1":
        raise OperatorError("there is no such destination")
    return {"begun": 1}


def member(link: Link, observe: Seen) -> FleetMember:
    return FleetMember(link, report, {"retry_now": retry_now}, VirtualClock(), observe)


def ask(link: Link, request_id: str, destination: str, *, age_ms: int = 0, group: str = IDENTITY.group) -> None:
    at_ms = VirtualClock().now_ms() - age_ms
    request = Request(request_id, "retry_now", at_ms, 60, {"destination": destination}, group)
    link.given.put_nowait(request.encode())


@in_virtual_time
async def test_it_shows_itself_until_its_end() -> None:
    link, seen = Link(), Seen()
    task = asyncio.get_running_loop().create_task(member(link, seen).keep())
    await asyncio.sleep(12)
    task.cancel()
    await asyncio.wait([task])
    states = [None if state is None else WorkerRecord.read(state) for state in link.states]
    assert [state and state.id for state in states] == [IDENTITY.id] * 3 + [None]
    assert list(seen) == []


@in_virtual_time
async def test_requests_are_answered_and_others_ignored() -> None:
    link = Link()
    task = asyncio.get_running_loop().create_task(member(link, Seen()).keep())
    link.given.put_nowait(b"{")
    ask(link, "old", "dst_1", age_ms=61_000)
    ask(link, "other", "dst_1", group="other")
    ask(link, "good", "dst_1")
    ask(link, "for all", "dst_1", group="")
    ask(link, "bad", "dst_2")
    await asyncio.sleep(1)
    assert link.answers == [
        Answer("good", IDENTITY.id, {"begun": 1}),
        Answer("for all", IDENTITY.id, {"begun": 1}),
        Answer("bad", IDENTITY.id, {}, "there is no such destination"),
    ]
    task.cancel()
    await asyncio.wait([task])


@in_virtual_time
async def test_trouble_is_reported_once_until_it_ends() -> None:
    link, seen = Link(), Seen()
    link.is_broken = True
    task = asyncio.get_running_loop().create_task(member(link, seen).keep())
    await asyncio.sleep(100)
    assert [type(signal) for signal in seen] == [FleetTrouble, FleetTrouble], "of writing and of reading"
    link.is_broken = False
    await asyncio.sleep(40)
    assert link.states
    link.is_broken = True
    await asyncio.sleep(40)
    assert len(list(seen)) == 3
    task.cancel()
    await asyncio.wait([task])
