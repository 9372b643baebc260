"""Requests to eventbridgev2 as pure functions of their bodies, in CBOR (Smithy's protocol RPC v2).

Shapes and limits are those of botocore's service model ``eventbridgev2``. AWS documents no texts of errors: the words
are ours.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeVar

import cbor2
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_pascal

from pushrail_stream.sandbox.bus.entries import MAX_RESOURCE, MAX_TOTAL_BYTES, Refusal, entry_bytes
from pushrail_stream.sandbox.bus.faults import FieldError
from pushrail_stream.sandbox.bus.identity import is_v2_bus

PATH: Final = "/service/AWSEventsV2/operation/"
"""The operation's name follows."""
DEDUPLICATION_SECS: Final = 300.0
"""Seconds for which a bus keeps an entry once (EventBridge User Guide)."""
_EPOCH: Final = 1
"""CBOR's tag of a time in seconds."""


def _check_bus(arn: str) -> str:
    if not is_v2_bus(arn):
        raise ValueError("must be the ARN of a bus")
    return arn


def _seconds(time: Any) -> Any:
    if not isinstance(time, cbor2.CBORTag):
        raise ValueError("must be a timestamp")  # noqa: TRY004 - pydantic words a ValueError
    return time.value


_Bus = Annotated[str, AfterValidator(_check_bus)]


class _Shape(BaseModel):
    model_config = ConfigDict(alias_generator=to_pascal, strict=True)


_S = TypeVar("_S", bound=_Shape)


class _SystemMetadata(_Shape):
    deduplication_id: Annotated[str, Field(min_length=1, max_length=128, pattern=r"\S")] | None = None


class _Entry(_Shape):
    source: Annotated[str, Field(min_length=1, max_length=256)]
    detail_type: Annotated[str, Field(min_length=1, max_length=128)]
    detail: str = "{}"
    resources: Annotated[list[Annotated[str, Field(max_length=MAX_RESOURCE)]], Field(max_length=100)] = []
    time: Annotated[float, BeforeValidator(_seconds)] | None = None
    system_metadata: _SystemMetadata = _SystemMetadata()


class _PutEvents(_Shape):
    event_bus_arn: _Bus
    entries: Annotated[list[_Entry], Field(min_length=1, max_length=100)]


class _DescribeEventBus(_Shape):
    event_bus_arn: _Bus


def read_entries_v2(body: bytes) -> tuple[str, list[dict[str, Any]]] | Refusal:
    """The bus of a PutEvents body, and its entries with every field; or the refusal of the call."""
    read = _read(_PutEvents, body)
    if isinstance(read, Refusal):
        return read
    entries = [entry.model_dump(by_alias=True) for entry in read.entries]
    if sum(map(entry_bytes, entries)) > MAX_TOTAL_BYTES:
        # AWS documents no number for these buses: that of classic ones is taken.
        return Refusal("InvalidInputException", "Total size of the entries in the request is over the limit.")
    return read.event_bus_arn, entries


def read_described_bus(body: bytes) -> str | Refusal:
    """The bus of a DescribeEventBus body, or the refusal of the call."""
    read = _read(_DescribeEventBus, body)
    return read if isinstance(read, Refusal) else read.event_bus_arn


def _read(shape: type[_S], body: bytes) -> _S | Refusal:
    try:
        fields = cbor2.loads(body, semantic_decoders={_EPOCH: lambda seconds, _: cbor2.CBORTag(_EPOCH, seconds)})
    except Exception:  # noqa: BLE001 - bytes that are no CBOR make its decoder raise almost anything
        return Refusal("SerializationException", "the body is no CBOR")
    try:
        return shape.model_validate(fields)
    except ValidationError as error:
        return Refusal("InvalidInputException", str(FieldError.of(error)))
