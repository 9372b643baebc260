"""Control: requests that commands send to all workers through Kafka, and the workers' answers.

Any client that may write to the topic can write anything, so reading refuses what `Request.encode` and `Answer.encode`
could not have written. CONTRACTS.md, "Workers and control", has the format.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, get_args

import orjson

RequestKind = Literal["retry_now"]
"""``retry_now``: begin a destination's waiting retries without further delay."""
MAX_BYTES: Final = 16_384
"""Largest request or answer. Ours have a few hundred bytes."""
_MAX_AGE_SECS: Final = 3_600
_MAX_CHARS: Final = 128
"""Longest id or argument."""


class Request(NamedTuple):
    """A request to every worker."""

    id: str
    kind: RequestKind
    at_ms: int
    """Epoch milliseconds, by the clock of the command."""
    max_age_secs: int
    arguments: Mapping[str, str]

    def encode(self) -> bytes:
        """The value of its record."""
        said = {"request": self.id, "kind": self.kind, "at": self.at_ms, "maxAgeSecs": self.max_age_secs}
        return orjson.dumps(said | {"arguments": dict(self.arguments)})

    def is_expired(self, now_ms: int) -> bool:
        """Whether it is too old to be carried out. A time that is as far in the future shows a wrong clock."""
        return abs(now_ms - self.at_ms) > self.max_age_secs * 1000

    @classmethod
    def read(cls, value: bytes | None) -> Request | None:
        """The request in a record; None for an answer and for anything else."""
        said = _object(value)
        kind, at_ms, max_age_secs, arguments = _values(said, "kind", "at", "maxAgeSecs", "arguments")
        if (
            not _is_text(said.get("request"))
            or kind not in get_args(RequestKind)
            or not _is_whole(at_ms)
            or not _is_whole(max_age_secs)
            or not 0 < max_age_secs <= _MAX_AGE_SECS
            or not isinstance(arguments, dict)
            or not all(map(_is_text, arguments.values()))
        ):
            return None
        return cls(said["request"], kind, at_ms, max_age_secs, arguments)


class Answer(NamedTuple):
    """One worker's answer to a request."""

    request_id: str
    worker_id: str
    result: Mapping[str, Any]
    """What was done. Its fields depend on the kind of the request."""
    problem: str = ""
    """Why nothing was done; empty when it was."""

    def encode(self) -> bytes:
        """The value of its record."""
        return orjson.dumps(
            {"answer": self.request_id, "worker": self.worker_id, "result": self.result, "problem": self.problem}
        )

    @classmethod
    def read(cls, value: bytes | None) -> Answer | None:
        """The answer in a record; None for a request and for anything else."""
        said = _object(value)
        request_id, worker_id, result, problem = _values(said, "answer", "worker", "result", "problem")
        if _is_text(request_id) and _is_text(worker_id) and isinstance(result, dict) and isinstance(problem, str):
            return cls(request_id, worker_id, result, problem)
        return None


def _object(value: bytes | None) -> dict[str, Any]:
    """The JSON object in a record's value; an empty one when it holds something else."""
    if value is None or len(value) > MAX_BYTES:
        return {}
    try:
        said = orjson.loads(value)
    except orjson.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}


def _values(said: Mapping[str, Any], *names: str) -> list[Any]:
    return [said.get(name) for name in names]


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_CHARS


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
