"""The rules for single values of a destination document. No message quotes the value: it may be a misplaced secret."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, ValidationInfo, WithJsonSchema
from pydantic.functional_validators import BeforeValidator

from pushrail_stream.settings.event_filter import check_filter
from pushrail_stream.settings.eventbridge import CLASSIC, FLAVOURS, MAX_SOURCE_BYTES, flavour_of
from pushrail_stream.settings.values import (
    ACCESS_KEY_ID,
    DESTINATION_ID,
    EVENT_TYPE_PATTERN,
    EXTERNAL_ID,
    REGION,
    ROLE_ARN,
    VARIABLE,
    VENDOR,
    whole,
)  # fmt: skip

_OUR_OWN: Final = ("env:AWS_", "env:PUSHRAIL_")
"""The process's own credentials and settings: they must not sign a customer's calls."""

SEALED: Final = "sealed:"


def _one_line(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    if not value.isprintable():
        raise ValueError("must be one line of printable text")
    return value


def _check_type(value: object) -> object:
    if value not in tuple(FLAVOURS):
        raise ValueError(f"must be {' or '.join(map(repr, FLAVOURS))}")
    return value


def _check_bus(arn: str, info: ValidationInfo) -> str:
    # A wrong type has a problem of its own.
    return flavour_of(info.data.get("type", CLASSIC.type), arn).check_arn(arn)


def _check_namespace(source: str) -> str:
    if source.startswith("aws."):
        raise ValueError("must not begin with aws.: EventBridge keeps those sources to itself")
    return source


def _check_reference(value: object) -> object:
    if isinstance(value, str) and value.startswith(_OUR_OWN):
        raise ValueError("must not name one of our own variables (AWS_..., PUSHRAIL_...)")
    if isinstance(value, str) and (is_sealed(value) or VARIABLE.pattern.fullmatch(value)):
        return value
    how = "`destinations seal` seals it, or env:NAME names a variable in capitals"
    raise ValueError(f"must not stand in the document in clear: {how}")


def _check_filter(pattern: dict[str, Any]) -> dict[str, Any]:
    check_filter(pattern)
    return pattern


def is_sealed(reference: str) -> bool:
    """Whether this has the form of a sealed secret; `Keyring.unseal` says whether it is one."""
    return reference.startswith(SEALED)


Id = Annotated[str, DESTINATION_ID]
Vendor = Annotated[str, VENDOR]
CustomerExternalId = Annotated[str, Field(min_length=1, max_length=256)]
Name = Annotated[
    str,
    Field(min_length=1, max_length=256),
    AfterValidator(_one_line),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 256, "pattern": r"^[^\n\r\t]*$"}),
]
Type = Annotated[str, BeforeValidator(_check_type), WithJsonSchema({"enum": list(FLAVOURS)})]
BusArn = Annotated[
    str,
    AfterValidator(_check_bus),
    WithJsonSchema({"type": "string", "pattern": "|".join(whole(f.arn.pattern.pattern) for f in FLAVOURS.values())}),
]
"""Behind a field ``type`` of `Type`."""
Region = Annotated[str, REGION]
SourceNamespace = Annotated[
    str,
    Field(min_length=1, max_length=MAX_SOURCE_BYTES),
    AfterValidator(_one_line),
    AfterValidator(_check_namespace),
    WithJsonSchema(
        {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_SOURCE_BYTES,
            "pattern": r"^(?!aws\.)[^\n\r\t]*$",
        }
    ),
]
Filter = Annotated[
    dict[str, Any],
    AfterValidator(_check_filter),
    WithJsonSchema({"type": "object", "minProperties": 1}),
]
RoleArn = Annotated[str, ROLE_ARN]
ExternalId = Annotated[str, EXTERNAL_ID]
AccessKeyId = Annotated[str, ACCESS_KEY_ID]
SecretReference = Annotated[
    str,
    BeforeValidator(_check_reference),
    WithJsonSchema({"type": "string", "pattern": rf"^{SEALED}|^(?!env:(?:AWS|PUSHRAIL)_){VARIABLE.pattern.pattern}$"}),
]
EventType = Annotated[str, EVENT_TYPE_PATTERN]
