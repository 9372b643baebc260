"""The part of the witness that stands beside AWS: it writes down every call, with the truth about each entry."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, final
from unittest.mock import patch

import orjson

from pushrail_stream.sandbox.bus.wire import Request
from tests.simulation.aws.cloud import Cloud
from tests.simulation.aws.eventbridge import EventBridgeService, arn_of
from tests.simulation.aws.records import Blame
from tests.simulation.aws.records import Call as AwsCall
from tests.simulation.aws.server import ServerSide
from tests.simulation.oracle.evidence import Call, Entry, Evidence

_REQUEST_ID: Final = re.compile(rb"(?:x-amzn-requestid: |<RequestId>)([\w-]+)", re.IGNORECASE)
_FAULTS: Final[dict[Blame, Any]] = {
    "": None,
    "event": "producer",
    "customer": "customer",
    "ours": "ours",
    "aws": "moment",
}
"""The oracle's names of the parties."""


class _Seen(NamedTuple):
    """A call with the facts that AWS itself does not keep."""

    call: AwsCall
    host: str
    body: bytes
    request_id: str


@final
class AwsWitness:
    """Fills the calls of the evidence."""

    def __init__(self, cloud: Cloud, evidence: Evidence) -> None:
        self._cloud = cloud
        self._evidence = evidence
        self._seen: list[_Seen] = []
        self._host = ""
        """The host whose request AWS handles now."""
        self._results: dict[int, list[dict[str, Any]]] = {}
        """By number of the call the results of its entries, as AWS itself answered."""

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch while the block lasts."""
        with (
            patch.object(ServerSide, "_react", self._watched_reactions()),
            patch.object(self._cloud, "handle", self._watched_calls()),
            patch.object(EventBridgeService, "put_events", self._watched_puts()),
        ):
            yield

    def finish(self) -> None:
        """Write the calls down, when the story has ended."""
        self._evidence.calls += [self._told(seen) for seen in self._seen]

    def _watched_reactions(self) -> Callable[..., None]:
        react = ServerSide._react

        def watched(side: ServerSide, request: Request) -> None:
            host = getattr(side._client, "_host", None)
            self._host = "" if host is None else host.name
            react(side, request)

        return watched

    def _watched_calls(self) -> Callable[..., Any]:
        handle = self._cloud.handle

        def watched(request: Request, name: str) -> Any:
            reaction = handle(request, name)
            if reaction.call is not None:
                found = _REQUEST_ID.search(b"".join(piece for _, piece in reaction.pieces))
                request_id = "" if found is None else found[1].decode()
                self._seen.append(_Seen(reaction.call, self._host, request.body, request_id))
            return reaction

        return watched

    def _watched_puts(self) -> Callable[..., Any]:
        put_events = EventBridgeService.put_events

        def watched(service: EventBridgeService, body: bytes, call: AwsCall, who: Any) -> Any:
            answer = put_events(service, body, call, who)
            self._results[call.number] = orjson.loads(answer.body).get("Entries") or []
            return answer

        return watched

    def _told(self, seen: _Seen) -> Call:
        call = seen.call
        is_as_made = "garbled" not in call.fault
        return Call(
            at=call.at,
            host=seen.host,
            api=call.api,
            target=_target(seen),
            request_id=seen.request_id,
            status=call.status or None,
            entries=tuple(self._entries(seen)),
            answered_at=call.answered_at if is_as_made else None,
            fault=_FAULTS[call.blame],
        )

    def _entries(self, seen: _Seen) -> Iterator[Entry]:
        if seen.call.api != "PutEvents":
            return
        results = self._results.get(seen.call.number, [])
        for index, (sent, truth) in enumerate(zip(_sent_entries(seen.body), seen.call.entries, strict=True)):
            # An entry for a bus that does not exist gets an id, and vanishes.
            event_id = results[index].get("EventId") if index < len(results) else None
            yield Entry(
                sent["Detail"].encode(), tuple(sent.get("Resources") or ()), event_id, truth.code, _FAULTS[truth.blame]
            )


def _sent_entries(body: bytes) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = orjson.loads(body)["Entries"]
    return entries


def _target(seen: _Seen) -> str:
    """The ARN of the bus or of the role that a call is about."""
    call = seen.call
    match call.api:
        case "PutEvents":
            return call.entries[0].bus if call.entries else ""
        case "DescribeEventBus":
            return arn_of(orjson.loads(seen.body)["Name"], call.region, "")
        case _:
            return call.role
