"""The rules for single values of a destination document. No message quotes the value: it may be a misplaced secret."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field
from pydantic.functional_validators import BeforeValidator

from pushrail_stream.settings.partitions import PARTITION

_REGION: Final = r"[a-z]+-[a-z]+-[a-z0-9-]+"
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VENDOR: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_BUS: Final = re.compile(rf"arn:{PARTITION}:events:{_REGION}:[0-9]{{12}}:event-bus/[._A-Za-z0-9-]{{1,256}}")
"""PutEvents' EventBusName as a full ARN (``NonPartnerEventBusNameOrArn`` of the botocore service model)."""
_ROLE: Final = re.compile(rf"arn:{PARTITION}:iam::[0-9]{{12}}:role/[\w+=,.@/-]{{1,576}}", re.ASCII)
"""A path of at most 512 and a name of at most 64 characters (IAM quotas)."""
_EXTERNAL_ID: Final = re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII)
"""AssumeRole's ExternalId (botocore service model)."""
_ACCESS_KEY_ID: Final = re.compile(r"[A-Z0-9]{16,128}")
"""AccessKeyId (botocore service model), in capitals as AWS makes them: most secrets do not pass for one."""
_SECRET: Final = re.compile(r"env:[A-Z_][A-Z0-9_]{0,127}")
"""Capitals alone: a secret pasted behind ``env:`` does not pass for a name, and so is never printed as one."""
_OUR_OWN: Final = ("env:AWS_", "env:PUSHRAIL_")
"""The process's own credentials and settings: they must not sign a customer's calls."""
_EVENT_TYPE: Final = re.compile(r"\*|[^*]{1,126}\.\*|[^*]{1,128}", re.DOTALL)

SEALED: Final = "sealed:"


def _matching(pattern: re.Pattern[str], what: str) -> AfterValidator:
    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(f"must be {what}")
        return value

    return AfterValidator(check)


def _one_line(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    if not value.isprintable():
        raise ValueError("must be one line of printable text")
    return value


def _check_bus(arn: str) -> str:
    if ":event-busv2/" in arn:
        raise ValueError("is the ARN of an eventbridgev2 bus, which classic PutEvents cannot take: name an event-bus")
    if ":event-bus/aws.partner/" in arn:
        raise ValueError(
            "is the ARN of a partner's bus, which PutEvents cannot write to: name a bus of the customer's own"
        )
    if not _BUS.fullmatch(arn):
        raise ValueError("must be the full ARN of a bus: arn:aws:events:REGION:ACCOUNT:event-bus/NAME")
    return arn


def _check_namespace(source: str) -> str:
    if source.startswith("aws."):
        raise ValueError("must not begin with aws.: EventBridge keeps those sources to itself")
    return source


def _check_reference(value: object) -> object:
    if isinstance(value, str) and value.startswith(_OUR_OWN):
        raise ValueError("must not name one of our own variables (AWS_..., PUSHRAIL_...)")
    if isinstance(value, str) and (is_sealed(value) or _SECRET.fullmatch(value)):
        return value
    how = "`destinations seal` seals it, or env:NAME names a variable in capitals"
    raise ValueError(f"must not stand in the document in clear: {how}")


def is_sealed(reference: str) -> bool:
    """Whether this means to be a sealed secret; `Keyring.unseal` says whether it is one."""
    return reference.startswith(SEALED)


Id = Annotated[str, _matching(_ID, "1 to 64 letters, digits, '.', '_' and '-', the first a letter or digit")]
Vendor = Annotated[str, _matching(_VENDOR, "1 to 64 letters, digits, '.', '_' and '-'")]
CustomerExternalId = Annotated[str, Field(min_length=1, max_length=256)]
Name = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_one_line)]
BusArn = Annotated[str, AfterValidator(_check_bus)]
Region = Annotated[str, _matching(re.compile(_REGION), "an AWS region such as us-east-1")]
SourceNamespace = Annotated[
    str, Field(min_length=1, max_length=256), AfterValidator(_one_line), AfterValidator(_check_namespace)
]
RoleArn = Annotated[str, _matching(_ROLE, "the full ARN of a role: arn:aws:iam::ACCOUNT:role/NAME")]
ExternalId = Annotated[str, _matching(_EXTERNAL_ID, "2 to 1224 letters, digits and any of _+=,.@:/-")]
AccessKeyId = Annotated[str, _matching(_ACCESS_KEY_ID, "16 to 128 capital letters and digits")]
SecretReference = Annotated[str, BeforeValidator(_check_reference)]
EventType = Annotated[str, _matching(_EVENT_TYPE, "an event type of 1 to 128 characters, prefix.* or *")]
