"""Event rules and queues: a rule sends the events that match its pattern to a queue, and SQS clients read the queue."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final, NamedTuple

import orjson

from pushrail_stream.sandbox.bus.backend import Backend
from pushrail_stream.sandbox.bus.faults import FieldError
from pushrail_stream.sandbox.bus.ledger import Arrival
from pushrail_stream.sandbox.bus.patterns import Test, compile_pattern
from pushrail_stream.sandbox.bus.replies import json_error
from pushrail_stream.sandbox.bus.signature import Unauthenticated
from pushrail_stream.sandbox.bus.wire import JSON_1_1, Reply, Request

_QUEUE_ARN: Final = re.compile(r"arn:aws[\w-]*:sqs:[\w-]+:[0-9]{12}:[\w-]{1,80}", re.ASCII)
_MAX_RECEIVED: Final = 10
"""Messages that one ReceiveMessage may ask for (SQS's limit)."""
_VISIBILITY_SECS: Final = 30
"""Seconds that a received message stays hidden unless the call says otherwise (SQS's default)."""


class _Message(NamedTuple):
    """A message; ``visible_at`` is the time, in epoch seconds, from which it can be received again."""

    id: str
    body: str
    visible_at: float = 0.0


class _EventRule(NamedTuple):
    matches: Test
    queue: str


class Queues:
    """The event rules of all buses and the queues they send to. A queue exists once a rule names it."""

    def __init__(self) -> None:
        self._rules: dict[str, dict[str, _EventRule]] = {}
        self._messages: dict[str, dict[str, _Message]] = {}
        """By queue and message id, in the order of arrival."""

    def add_rule(self, bus: str, name: str, pattern: Any, queue: str) -> None:
        """Add a rule to a bus, in the place of one of that name. Raises ValueError for a wrong pattern or ARN."""
        if _QUEUE_ARN.fullmatch(queue) is None:
            raise FieldError(f"queue: {queue!r} is not the ARN of a queue")
        self._rules.setdefault(bus, {})[name] = _EventRule(compile_pattern(pattern), queue)
        self._messages.setdefault(queue, {})

    def route(self, arrival: Arrival, account: str, detail: dict[str, Any]) -> None:
        """Send an event to the queue of every rule that matches; ``detail`` is its decoded Detail."""
        rules = self._rules.get(arrival.bus_arn)
        if rules is None:
            return
        envelope = {
            "version": "0",
            "id": arrival.event_id,
            "detail-type": arrival.detail_type,
            "source": arrival.source,
            "account": account,
            "time": _timestamp(arrival.received_at if arrival.time is None else arrival.time),
            "region": arrival.bus_arn.split(":")[3],
            "resources": list(arrival.resources),
        }
        event = {**envelope, "detail": detail}
        # Detail is sent as it came: decoding and encoding it again could change it.
        body = f'{orjson.dumps(envelope).decode()[:-1]},"detail":{arrival.detail}}}'
        for number, rule in enumerate(rules.values()):
            if rule.matches(event):
                message = _Message(f"{arrival.event_id}-{number}", body)
                self._messages[rule.queue][message.id] = message

    def take_all(self, queue: str) -> list[str]:
        """Remove all messages of a queue, hidden ones included, and return their bodies. KeyError: no such queue."""
        messages = self._messages[queue]
        bodies = [message.body for message in messages.values()]
        messages.clear()
        return bodies

    def receive(self, queue: str, limit: int, now: float, hidden_secs: float) -> list[_Message]:
        """Return up to ``limit`` messages and hide them for ``hidden_secs``. KeyError: no such queue."""
        messages = self._messages[queue]
        visible = (message for message in messages.values() if message.visible_at <= now)
        taken = [message._replace(visible_at=now + hidden_secs) for message in islice(visible, limit)]
        messages.update((message.id, message) for message in taken)
        return taken

    def delete(self, queue: str, handle: str) -> None:
        """Remove a received message. KeyError: no such queue."""
        self._messages[queue].pop(handle, None)


class SqsService:
    """Handles requests with an ``AmazonSQS`` target: ReceiveMessage and DeleteMessage, for the queue's own account."""

    def __init__(self, backend: Backend, queues: Queues) -> None:
        self._backend = backend
        self._queues = queues

    def handle(self, request: Request, target: bytes) -> Reply:
        """Answer one request."""
        request_id = self._backend.ids.next()
        operation = target.decode("latin-1").removeprefix("AmazonSQS.")
        answer = {"ReceiveMessage": self._receive, "DeleteMessage": self._delete}.get(operation)
        if answer is None:
            return json_error(400, "UnsupportedOperation", f"{operation} is not supported here", request_id)
        caller = self._backend.verifier.verify(request, "sqs")
        if isinstance(caller, Unauthenticated):
            return json_error(403, "InvalidSecurity", caller.message, request_id)
        try:
            body = orjson.loads(request.body)
            name = body["QueueUrl"].rpartition("/")[2]
            queue_arn = f"arn:aws:sqs:{caller.region}:{caller.credential.account}:{name}"
            if not caller.credential.permissions.allow(f"sqs:{operation}", queue_arn):
                return json_error(403, "AccessDeniedException", f"{operation} is not allowed", request_id)
            return Reply(200, orjson.dumps(answer(queue_arn, body)), JSON_1_1, request_id)
        except KeyError:
            return json_error(400, "QueueDoesNotExist", "The specified queue does not exist.", request_id)

    def _receive(self, queue_arn: str, body: dict[str, Any]) -> dict[str, Any]:
        limit = min(_MAX_RECEIVED, body.get("MaxNumberOfMessages", 1))
        hidden_secs = body.get("VisibilityTimeout", _VISIBILITY_SECS)
        messages = self._queues.receive(queue_arn, limit, self._backend.clock(), hidden_secs)
        return {"Messages": [_received(message) for message in messages]} if messages else {}

    def _delete(self, queue_arn: str, body: dict[str, Any]) -> dict[str, Any]:
        self._queues.delete(queue_arn, body["ReceiptHandle"])
        return {}


def queue_url(bus_url: str, queue_arn: str) -> str:
    """Return the URL that SQS clients name a queue by."""
    account, name = queue_arn.split(":")[4:]
    return f"{bus_url}/{account}/{name}"


def _received(message: _Message) -> dict[str, str]:
    digest = hashlib.md5(message.body.encode(), usedforsecurity=False).hexdigest()
    return {"MessageId": message.id, "ReceiptHandle": message.id, "MD5OfBody": digest, "Body": message.body}


def _timestamp(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
