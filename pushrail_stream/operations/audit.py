"""The audit trail: one record for each command that changes something (CONTRACTS.md, "The audit record").

A command opens the trail; the operations below note each change before they make it. Without an open trail, notes go
nowhere. Contents are told by their hash alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import pwd
import socket
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

from pushrail_stream.core.text import format_rfc3339
from pushrail_stream.errors import OperatorError
from pushrail_stream.operations.times import now_ms
from pushrail_stream.settings.model import KafkaSettings, Settings

_MAX_CHANGES: Final = 20_000
"""Changes that a record names, with about 250 bytes each; further ones are counted. Fits into the topic's largest
record, 16 MiB."""
_WRITE_SECS: Final = 15.0
"""Longest wait for Kafka to acknowledge the record, in seconds."""


class Change(NamedTuple):
    """A change that a command makes."""

    kind: str
    name: str
    before: str | None
    after: str | None


_trail: ContextVar[list[Change] | None] = ContextVar("audit_trail", default=None)


def note_change(kind: str, name: str, before: str | None = None, after: str | None = None) -> None:
    """Note a change that is about to be made; ``before`` and ``after`` are short and hold no secret."""
    if (changes := _trail.get()) is not None:
        changes.append(Change(kind, name, before, after))


def note_content(kind: str, name: str, before: bytes | None, after: bytes | None) -> None:
    """Note a change of a content, which is told by its hash; None where there is none."""
    note_change(kind, name, _digest(before), _digest(after))


@contextmanager
def audit_trail(
    settings: Settings, command: str, arguments: Mapping[str, Any], *, is_dry_run: bool, makes_topic: bool = False
) -> Iterator[None]:  # fmt: skip
    """Write what is noted in the block as one record, also when the block fails; nothing when nothing was noted.

    With ``audit.enabled``, raises `OperatorError` before the block when the topic cannot be used, so that nothing is
    changed then, and after it when Kafka does not take the record. The error then has the record. ``makes_topic``: the
    block may create the topic itself.
    """
    if is_dry_run or not settings.audit.enabled:
        yield
        return
    kafka = _open(settings, is_there=not makes_topic)
    changes: list[Change] = []
    token, began_ms = _trail.set(changes), now_ms()
    problem = ""
    try:
        yield
    except BaseException as error:
        problem = str(error) or type(error).__name__
        raise
    finally:
        _trail.reset(token)
        if changes:
            record = _record(settings, command, arguments, began_ms, problem, changes)
            _write(kafka, settings.topics.audit, command, record)


def _record(
    settings: Settings, command: str, arguments: Mapping[str, Any], began_ms: int, problem: str, changes: list[Change]
) -> bytes:
    """The audit record, as JSON in UTF-8: bytes of names and arguments that are no UTF-8 stand as ``?``."""
    record = {
        "auditId": str(uuid.uuid4()), "at": format_rfc3339(began_ms), "command": command,
        "arguments": _plain(arguments), "who": _who(settings), "group": settings.kafka.group_id,
        "outcome": "failed" if problem else "done", "problem": problem, "changeCount": len(changes),
        "changes": [change._asdict() for change in changes[:_MAX_CHANGES]],
    }  # fmt: skip
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def _open(settings: Settings, *, is_there: bool) -> KafkaSettings:
    """Check the topic before anything is changed, if it is there."""
    from pushrail_stream.kafka.reach import reached_kafka  # noqa: PLC0415 - commands without Kafka do not import it
    from pushrail_stream.kafka.topics import check_topics, topics_named  # noqa: PLC0415 - as above

    kafka = reached_kafka(settings)
    if not is_there:
        return kafka
    try:
        check_topics(kafka, topics_named(settings, settings.topics.audit))
    except OperatorError as error:
        raise OperatorError(f"nothing is changed, because it could not be audited (audit.enabled): {error}") from error
    return kafka


def _write(kafka: KafkaSettings, topic: str, command: str, record: bytes) -> None:
    from pushrail_stream.kafka.producer import KafkaPublisher  # noqa: PLC0415 - as above

    async def write() -> None:
        async with KafkaPublisher(kafka) as publisher, asyncio.timeout(_WRITE_SECS):
            await publisher.publish(topic, command.encode(), record, ())

    try:
        asyncio.run(write())
    except (OperatorError, TimeoutError) as error:
        why = str(error) or f"no answer within {_WRITE_SECS:.0f} s"
        raise OperatorError(
            f"what was changed is not audited: {topic}: {why}. Keep this record:", record.decode()
        ) from error


def _digest(content: bytes | None) -> str | None:
    return None if content is None else f"sha256:{hashlib.sha256(content).hexdigest()}"


def _who(settings: Settings) -> dict[str, str | None]:
    """The user of the system, and the person or program that the operator names in the settings."""
    uid = os.getuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:  # containers run as users without a name
        user = str(uid)
    return {"user": user, "host": socket.gethostname(), "actor": settings.audit.actor}


def _plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that were given, as JSON."""
    return {
        name: _value(value)
        for name, value in arguments.items()
        if value is not None and value is not False and value != ()
    }


def _value(value: object) -> Any:
    if isinstance(value, tuple | list):
        return [_value(one) for one in value]
    return value if isinstance(value, str | int | float | bool) else str(value)
