"""Control: requests that commands send to all workers of a group through Kafka, and the workers' answers.

Any client that may write to the topic can write anything, so reading refuses records of another form. CONTRACTS.md,
"Workers and control", has the format.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

RequestKind = Literal["retry_now"]
"""``retry_now``: begin a destination's waiting retries without further delay."""
MAX_BYTES: Final = 16_384
"""Largest request or answer. Ours have a few hundred bytes."""
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
"""An id or an argument."""
_Record = TypeVar("_Record")


class Request(msgspec.Struct, frozen=True, rename={"id": "request", "at_ms": "at", "max_age_secs": "maxAgeSecs"}):
    """A request to every worker of a consumer group."""

    id: _Text
    kind: RequestKind
    at_ms: int
    """Epoch milliseconds, by the clock of the command."""
    max_age_secs: Annotated[int, msgspec.Meta(gt=0, le=3_600)]
    arguments: Mapping[str, _Text]
    group: str = ""
    """The consumer group of the events: workers of other groups ignore the request. Empty: it is for every worker."""

    def encode(self) -> bytes:
        """The value of its record."""
        return msgspec.json.encode(self)

    def is_expired(self, now_ms: int) -> bool:
        """Whether it is too old to be carried out. A time that is as far in the future shows a wrong clock."""
        return abs(now_ms - self.at_ms) > self.max_age_secs * 1000

    @classmethod
    def read(cls, value: bytes | None) -> Request | None:
        """The request in a record; None for an answer and for anything else."""
        return read_record(value, cls)


class Answer(msgspec.Struct, frozen=True, rename={"request_id": "answer", "worker_id": "worker"}):
    """One worker's answer to a request."""

    request_id: _Text
    worker_id: _Text
    result: Mapping[str, Any]
    """The outcome. Its fields depend on the kind of the request."""
    problem: str = ""
    """The reason why nothing was done; empty when it was."""

    def encode(self) -> bytes:
        """The value of its record."""
        return msgspec.json.encode(self)

    @classmethod
    def read(cls, value: bytes | None) -> Answer | None:
        """The answer in a record; None for a request and for anything else."""
        return read_record(value, cls)


def read_record(value: bytes | None, form: type[_Record], max_bytes: int = MAX_BYTES) -> _Record | None:
    """The value of a record in this form; None for any other one, and for a longer one."""
    try:
        return None if value is None or len(value) > max_bytes else msgspec.json.decode(value, type=form)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
