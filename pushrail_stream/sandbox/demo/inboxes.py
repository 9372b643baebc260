"""The customers' side: every queue read empty with the customer's own keys, in batches, as a consumer of SQS does."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from pushrail_stream.sandbox.demo.accounts import Inbox
from pushrail_stream.sandbox.demo.aws import StandIn

_BATCH: Final = 10
"""Messages that a call of SQS gives (its limit)."""
_HIDDEN_SECS: Final = 3600


def read_inboxes(stand_in: StandIn, inboxes: Iterable[Inbox]) -> dict[str, list[dict[str, Any]]]:
    """The events that arrived, by destination id. Nothing arrives meanwhile: the worker has stopped."""
    return {inbox.destination: _read(stand_in, inbox) for inbox in inboxes}


def _read(stand_in: StandIn, inbox: Inbox) -> list[dict[str, Any]]:
    sqs = stand_in.client("sqs", inbox.region, inbox.owner)
    batch = {"QueueUrl": inbox.queue_url, "MaxNumberOfMessages": _BATCH, "VisibilityTimeout": _HIDDEN_SECS}
    events: list[dict[str, Any]] = []
    while messages := sqs.receive_message(**batch).get("Messages"):
        events += [json.loads(message["Body"]) for message in messages]
    # What was read is hidden, and goes all at once: half the calls of deleting every batch.
    sqs.purge_queue(QueueUrl=inbox.queue_url)
    return events
