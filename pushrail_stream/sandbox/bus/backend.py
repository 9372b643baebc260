"""The state that the bus's services share, and the reply that a fault puts in the place of theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final, NamedTuple, assert_never

from pushrail_stream.sandbox.bus.faults import (
    CallEffect,
    CallError,
    ExpireTokens,
    Garbage,
    Hang,
    ResetAfter,
    ResetBefore,
)
from pushrail_stream.sandbox.bus.identity import Directory
from pushrail_stream.sandbox.bus.injector import CallView, Fault, Injector
from pushrail_stream.sandbox.bus.ledger import Call, Ledger
from pushrail_stream.sandbox.bus.replies import ErrorStyle
from pushrail_stream.sandbox.bus.signature import EXPIRED_TOKEN, Caller, Unauthenticated, Verifier
from pushrail_stream.sandbox.bus.wire import JSON_1_1, Reply, Request

_HTML: Final = b"<html><head><title>Error</title></head><body><h1>An error page of a proxy</h1></body></html>"


class Injected(NamedTuple):
    """The faults of one call; ``reply`` is None where the service carries the call out."""

    fault: Fault
    reply: Reply | None

    def finish(self, reply: Reply) -> Reply:
        """Delay the service's reply, or withhold it where the connection is reset after the call."""
        if isinstance(self.fault.effect, ResetAfter):
            return Reply(0, action="abort", request_id=reply.request_id)
        return reply if self.fault.delay_secs == 0 else reply._replace(delay_secs=self.fault.delay_secs)


class Ids:
    """Unique ids in the form of UUIDs. They are counted: drawing each one would cost more than the call's checks."""

    def __init__(self, rng: Random) -> None:
        bits = rng.getrandbits(64)
        self._head = f"{bits >> 32:08x}-{bits >> 16 & 0xFFFF:04x}-4{bits & 0xFFF:03x}-8000-"
        self._count = 0

    def next(self) -> str:
        """Give the next id."""
        self._count += 1
        return f"{self._head}{self._count:012x}"


@dataclass(frozen=True, slots=True)
class Backend:
    """The shared state. ``clock`` gives epoch seconds."""

    directory: Directory
    verifier: Verifier
    injector: Injector
    ledger: Ledger
    ids: Ids
    clock: Callable[[], float]

    def begin(self, request: Request, style: ErrorStyle) -> tuple[Call, Caller] | Reply:
        """Begin a PutEvents call; its refusal when it is not signed well."""
        call = Call(self.ledger.next_call(), self.clock(), request_id=self.ids.next())
        caller = self.verifier.verify(request, "events")
        if isinstance(caller, Unauthenticated):
            return self.end(call, style.refuse(caller, call.request_id))
        return call._replace(access_key=caller.credential.access_key), caller

    def end(self, call: Call, reply: Reply) -> Reply:
        """Record a PutEvents call and its answer."""
        self.ledger.note_call(call._replace(status=reply.status, code=reply.error_type))
        return reply

    def inject(self, view: CallView, request_id: str, style: ErrorStyle) -> Injected:
        """Decide the faults of a call."""
        fault = self.injector.fault_of_call(view)
        return Injected(fault, None if fault.effect is None else _reply(fault.effect, request_id, style))


def _reply(effect: CallEffect, request_id: str, style: ErrorStyle) -> Reply | None:
    """Return the reply of a call that is not carried out; None for one that is."""
    match effect:
        case CallError(body="aws"):
            return style.write(effect.status, effect.code, effect.message, request_id)
        case CallError(body=body):
            return _page(effect.status, body, request_id)
        case ExpireTokens():
            return style.refuse(Unauthenticated("expired", EXPIRED_TOKEN), request_id)
        case Hang():
            return Reply(0, action="hang", request_id=request_id)
        case ResetBefore():
            return Reply(0, action="abort", request_id=request_id)
        case Garbage(body=body):
            return None if body == "short" else _page(200, body, request_id)
        case ResetAfter():
            return None
        case _ as unreachable:
            assert_never(unreachable)


def _page(status: int, body: str, request_id: str) -> Reply:
    if body == "html":
        return Reply(status, _HTML, "text/html", request_id)
    return Reply(status, b"{}" if body == "object" else b"", JSON_1_1, request_id)
