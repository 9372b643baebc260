"""The simulated AWS as a whole: it takes a request of HTTP, carries it out, and says which bytes answer it, and how."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final, NamedTuple, cast
from urllib.parse import parse_qsl

import cbor2
import orjson

from pushrail_stream.sandbox.bus.entries_v2 import PATH as V2_PATH
from pushrail_stream.sandbox.bus.identity import Directory
from pushrail_stream.sandbox.bus.signature import Unauthenticated, Verifier
from pushrail_stream.sandbox.bus.wire import Request
from tests.simulation.aws import corpus
from tests.simulation.aws.accounts import Credential
from tests.simulation.aws.answers import Answer, error, json_error, unauthenticated, wire
from tests.simulation.aws.eventbridge import EventBridgeService, account_of_body
from tests.simulation.aws.eventbridge_v2 import EventBridgeV2Service
from tests.simulation.aws.faults import CALL_ERRORS, Fault, Stage
from tests.simulation.aws.kms import KmsService
from tests.simulation.aws.reactions import Reaction, answered, hang, spoil
from tests.simulation.aws.records import Api, Blame, Call
from tests.simulation.aws.state import State
from tests.simulation.aws.sts import StsService
from tests.simulation.history import History
from tests.simulation.scheduler import Scheduler

DOMAIN: Final = ".sim"
"""Hosts are ``SERVICE.REGION.sim``."""
NEAR_SECS: Final = (0.002, 0.030)
"""Shortest and longest way of a packet, in one direction, to a region that is near."""
_TARGETS: Final[dict[bytes, Api]] = {
    b"AWSEvents.PutEvents": "PutEvents",
    b"AWSEvents.DescribeEventBus": "DescribeEventBus",
    b"TrentService.Decrypt": "Decrypt",
    b"TrentService.GenerateDataKey": "GenerateDataKey",
}
_SERVICES: Final[dict[Api, str]] = {
    "PutEvents": "events",
    "DescribeEventBus": "events",
    "AssumeRole": "sts",
    "GetCallerIdentity": "sts",
    "Decrypt": "kms",
    "GenerateDataKey": "kms",
}
"""The name by which a signature is scoped."""
_OK: Final = 200
_NO_ANSWER: Final = Answer(_OK, (), b"")
"""The answer that a proxy garbles when AWS never got the request."""


class _Received(NamedTuple):
    """A request and its account of it."""

    request: Request
    call: Call
    form: dict[str, str]
    account: str
    """The account that the call is about, as far as its text says so."""


class Cloud:
    """AWS. ``history`` notes arrivals, calls and faults."""

    def __init__(self, scheduler: Scheduler, dice: Random, history: History) -> None:
        self.state = State(scheduler, dice, history)
        self.accounts = self.state.accounts
        self.faults = self.state.faults
        self.quotas = self.state.quotas
        self.arrivals = self.state.arrivals
        self.calls = self.state.calls
        self.kms = KmsService(self.state)
        self.latency_secs = NEAR_SECS
        """Shortest and longest way of a packet at present."""
        self.delays: dict[str, float] = {}
        """By account the seconds by which the answers about it come later."""
        self._events = EventBridgeService(self.state)
        self._events_v2 = EventBridgeV2Service(self.state, self._events)
        self._sts = StsService(self.state)
        directory = cast("Directory", self.accounts)  # the two members that the check of signatures reads
        self._verifier = Verifier(directory, self.state.clock, check_signatures=True)

    def latency(self) -> float:
        """The time of one packet's way."""
        return self.state.dice.uniform(*self.latency_secs)

    def connect_fault(self, stage: Stage, host: str) -> str:
        """The kind of fault that keeps a connection to this host from coming about; empty for none."""
        service, _, region = host.removesuffix(DOMAIN).partition(".")
        if not host.endswith(DOMAIN) or service not in _SERVICES.values():
            return "dns_failure"
        fault = self.faults.draw(stage, None, region, "")
        if fault is None:
            return ""
        self.state.count(fault.kind)
        return fault.kind

    def handle(self, request: Request, host: str) -> Reaction:
        """Carry a request out, faults included."""
        state = self.state
        received = self._receive(request, host.removesuffix(DOMAIN).partition(".")[2])
        if received is None:
            return answered(wire(json_error(404, "UnknownOperationException", "", state.new_id()), state.clock()))
        call = received.call
        state.calls.append(call)
        fault = state.faults.draw("before", call.api, call.region, received.account)
        if fault is not None:
            reaction = self._refuse_by_fault(fault, received)
        else:
            answer = self._carry_out(received)
            fault = state.faults.draw("after", call.api, call.region, received.account)
            reaction = answered(self._wire(answer, call)) if fault is None else self._spoil(fault, answer, call)
        state.note("call", number=call.number, api=call.api, status=call.status, code=call.code, fault=call.fault)
        later = self.delays.get(received.account, 0.0)
        pieces = tuple((secs + later * (place == 0), piece) for place, (secs, piece) in enumerate(reaction.pieces))
        return reaction._replace(call=call, pieces=pieces)

    def _receive(self, request: Request, region: str) -> _Received | None:
        """The request with a record for it; None for an operation that AWS does not have."""
        form: dict[str, str] = {}
        target = request.headers.get(b"x-amz-target")
        is_v2 = request.path.startswith(V2_PATH)
        if is_v2:
            api: Api | None = "PutEvents" if request.path == f"{V2_PATH}PutEvents" else None
        elif target is not None:
            api = _TARGETS.get(target)
        else:
            form = dict(parse_qsl(request.body.decode("latin-1"), encoding="utf-8"))
            # A call without a body asks for AWS's time.
            api = cast("Api | None", form.get("Action", "GetCallerIdentity"))
        if api not in _SERVICES:
            return None
        role = form.get("RoleArn", "")
        account = role.split(":")[4] if role.count(":") > 4 else account_of_body(request.body)
        call = Call(len(self.calls), api, region, self.state.scheduler.now, role=role, is_v2=is_v2)
        return _Received(request, call, form, account)

    def _carry_out(self, received: _Received) -> Answer:
        """AWS's own answer."""
        request, call, form, _ = received
        who = self._verifier.verify(request, _SERVICES[call.api])
        if isinstance(who, Unauthenticated):
            call.blame = self._blame_of_signer(request, call, who)
            answer = unauthenticated(call, who, self.state.new_id())
            call.code = answer.code
            self._note_refused(received, call.blame)
            return answer
        credential = cast("Credential", who.credential)
        call.access_key, call.principal = credential.access_key, credential.arn
        call.role = call.role or credential.role
        services: dict[Api, Callable[[], Answer]] = {
            "PutEvents": lambda: self._events_of(call).put_events(request.body, call, credential),
            "DescribeEventBus": lambda: self._events.describe_bus(request.body, call, credential),
            "AssumeRole": lambda: self._sts.assume_role(form, call, credential),
            "GetCallerIdentity": lambda: self._sts.caller_identity(call, credential),
        }
        handle = services.get(call.api)
        return handle() if handle is not None else self.kms.handle(request.body, call, credential)

    def _events_of(self, call: Call) -> EventBridgeService | EventBridgeV2Service:
        return self._events_v2 if call.is_v2 else self._events

    def _blame_of_signer(self, request: Request, call: Call, refused: Unauthenticated) -> Blame:
        """The party at fault for a refused signature, key or token."""
        if refused.message.startswith("Signature "):
            return "ours"  # the clock
        header = request.headers.get(b"authorization", b"").decode("latin-1")
        access_key = header.partition("Credential=")[2].partition("/")[0]
        known = self.accounts.credential(access_key)
        if request.headers.get(b"x-amz-security-token") is not None:
            # A session that has ended has no cause to blame; one that AWS never gave came from a garbled answer.
            return "aws"
        return "ours" if known is None and _SERVICES[call.api] == "sts" else _owner(known)

    def _refuse_by_fault(self, fault: Fault, received: _Received) -> Reaction:
        """The reaction to a request that AWS does not carry out."""
        call = received.call
        self._count(fault.kind, call)
        code = fault.code_of_call
        call.blame, call.code = ("aws" if not code else CALL_ERRORS[code].blame), code
        self._note_refused(received, call.blame)
        if code:
            known = CALL_ERRORS[code]
            return answered(self._wire(error(call, known.status, code, known.message, self.state.new_id()), call))
        if fault.kind == "garbled_before":
            return self._garble(fault, _NO_ANSWER, call, with_ids=False)
        return hang() if fault.kind == "hang" else Reaction((), "reset" if fault.kind == "reset_before" else "close")

    def _spoil(self, fault: Fault, answer: Answer, call: Call) -> Reaction:
        """The reaction to a call that was carried out, with an answer that suffers."""
        self._count(fault.kind, call)
        call.blame = call.blame or "aws"
        if fault.kind == "garbled_after":
            return self._garble(fault, answer, call, with_ids=answer.status == _OK)
        reaction = spoil(fault.kind, self._wire(answer, call), self.state.dice)
        if not reaction.pieces:
            call.status = 0
        return reaction

    def _garble(self, fault: Fault, answer: Answer, call: Call, *, with_ids: bool) -> Reaction:
        if call.is_v2:
            answer = answer._replace(body=_json(answer.body))
        if fault.detail:
            garbled = corpus.take(call.api, answer, fault.detail)
        else:
            garbled = corpus.draw(call.api, answer, self.state.dice, with_ids=with_ids)
        if call.is_v2:
            garbled = garbled._replace(answer=garbled.answer._replace(body=_cbor(garbled.answer.body)))
        call.fault = f"{call.fault} {garbled.name}"
        call.entries = [one._replace(confirmed=False) for one in call.entries]
        call.blame, call.code = "aws", ""
        return answered(self._wire(garbled.answer, call))

    def _wire(self, answer: Answer, call: Call) -> bytes:
        call.status = answer.status
        call.request_id = dict(answer.headers).get("x-amzn-RequestId", "")
        return wire(answer, self.state.clock())

    def _note_refused(self, received: _Received, blame: Blame) -> None:
        if received.call.api in {"PutEvents", "DescribeEventBus"}:
            self._events_of(received.call).note_refused(received.request.body, received.call, blame)

    def _count(self, kind: str, call: Call) -> None:
        call.fault = kind
        self.state.count(kind)


def _json(body: bytes) -> bytes:
    """The fields of a body in CBOR, for the corpus."""
    return orjson.dumps(cbor2.loads(body)) if body else body


def _cbor(body: bytes) -> bytes:
    """Fields in CBOR; anything else as it is, such as a page of a proxy."""
    try:
        fields: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body
    return cbor2.dumps(fields)


def _owner(known: Credential | None) -> Blame:
    return "ours" if known is not None and known.is_ours else "customer"
