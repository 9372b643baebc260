"""The rule for each kind of value, once for settings, documents, options, API keys and templates.

No message quotes the value: it may be a misplaced secret.
"""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from pushrail_stream.errors import UsageError

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic_core import CoreSchema

MASK: Final = "***"
"""The text shown in place of a secret."""
_DEFAULT_PARTITION: Final = "aws"
"""The partition that botocore presumes for a region that fits no partition's pattern."""


@cache
def _partitions() -> dict[str, re.Pattern[str]]:
    """AWS's partitions, each with the pattern of its regions, from botocore's data file.

    A partition is a separate cloud: no credentials and no roles are valid in another one. The file is read without
    loading botocore.
    """
    package = find_spec("botocore")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("botocore is not installed")
    path = Path(package.submodule_search_locations[0], "data", "partitions.json")
    data: dict[str, Any] = json.loads(path.read_bytes())
    return {str(partition["id"]): re.compile(partition["regionRegex"]) for partition in data["partitions"]}


def partition_of(region: str) -> str:
    """The partition of a region, as ARNs name it."""
    return next((name for name, pattern in _partitions().items() if pattern.match(region)), _DEFAULT_PARTITION)


class Arn(NamedTuple):
    """The parts of an Amazon Resource Name."""

    partition: str
    service: str
    region: str
    account: str
    resource: str
    """``event-bus/NAME``"""

    @classmethod
    def of(cls, arn: str) -> Self:
        """Raises ``ValueError`` for a text with fewer parts."""
        _, *parts = arn.split(":", 5)
        if len(parts) != len(cls._fields):
            raise ValueError("must be an ARN")
        return cls(*parts)

    @property
    def name(self) -> str:
        """The resource without its type."""
        return self.resource.partition("/")[2]


class Rule(NamedTuple):
    """A pattern that a value must match as a whole, and the requirement in words."""

    pattern: re.Pattern[str]
    requirement: str
    """Completes the sentence "must be ..."."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let ``Annotated[str, RULE]`` be checked by the rule."""
        from pydantic_core import core_schema  # noqa: PLC0415 - commands without settings check options by rules too

        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Let JSON Schemas have the pattern."""
        return handler(schema) | {"pattern": whole(self.pattern.pattern)}

    def check(self, value: str) -> str:
        """Return the value. Raises ``ValueError`` when it breaks the rule."""
        if not self.pattern.fullmatch(value):
            raise ValueError(f"must be {self.requirement}")
        return value


def whole(pattern: str) -> str:
    """The regular expression for a whole value in a JSON Schema, which else searches in it (ECMA 262)."""
    return f"^(?:{pattern})$"


def check_options(*options: tuple[str, Rule, str | None]) -> None:
    """Check each option's value by its rule; None breaks none. Raises `UsageError` with every one that is broken."""
    problems = []
    for option, rule, value in options:
        try:
            if value is not None:
                rule.check(value)
        except ValueError as error:
            problems.append(f"{option}: {error}")
    if problems:
        raise UsageError(*problems)


def _rule(pattern: str, requirement: str) -> Rule:
    return Rule(re.compile(pattern, re.ASCII), requirement)


PARTITION: Final = f"(?:{'|'.join(_partitions())})"
"""A regular expression for the partition in an ARN, as ECMA 262 takes it too: ``\\-`` is an error there."""
_REGION: Final = "[a-z]{2,4}(?:-[a-z]+)+-[0-9]{1,2}"
_ACCOUNT: Final = "[0-9]{12}"
_BUS_NAME: Final = "[._A-Za-z0-9-]{1,256}"
_ROLE_CHARACTER: Final = "[A-Za-z0-9_+=,.@-]"

VENDOR: Final = _rule("[A-Za-z0-9._-]{1,64}", "1 to 64 letters, digits, '.', '_' and '-'")
CUSTOMER: Final = Rule(re.compile("[^\ud800-\udfff]{1,256}"), "1 to 256 characters of UTF-8")
"""A customerExternalId. A lone surrogate has no UTF-8."""
TOPIC: Final = _rule(
    r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}", "a Kafka topic name: 1 to 249 letters, digits, '.', '_' and '-'"
)
"""Kafka's own rule (org.apache.kafka.common.internals.Topic)."""
DESTINATION_ID: Final = _rule(
    "[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "1 to 64 letters, digits, '.', '_' and '-', the first a letter or digit"
)
EVENT_TYPE_PATTERN: Final = Rule(
    re.compile(r"\*|[^*]{1,126}\.\*|[^*]{1,128}"), "an event type of 1 to 128 characters, prefix.* or *"
)

REGION: Final = _rule(_REGION, "an AWS region such as us-east-1")
ACCOUNT: Final = _rule(_ACCOUNT, "an AWS account id of 12 digits")
NEW_BUS: Final = _rule(f"(?!default$){_BUS_NAME}", "1 to 256 letters, digits, '.', '_' and '-', not default")
"""The name of a bus to be made. Every account has its default bus already, and "/" is for partners' buses."""
BUS_ARN: Final = _rule(
    f"arn:{PARTITION}:events:{_REGION}:{_ACCOUNT}:event-bus/{_BUS_NAME}",
    "the full ARN of a bus: arn:aws:events:REGION:ACCOUNT:event-bus/NAME",
)
"""``NonPartnerEventBusNameOrArn`` of botocore's model of PutEvents, as a full ARN."""
BUS_V2_ARN: Final = _rule(
    f"arn:{PARTITION}:events:{_REGION}:{_ACCOUNT}:event-busv2/[A-Za-z0-9][._A-Za-z0-9-]{{0,255}}/[a-z0-9]{{25}}",
    "the full ARN of a bus: arn:aws:events:REGION:ACCOUNT:event-busv2/NAME/ID, with the 25 characters of its id",
)
"""``EventBusArn`` of botocore's model of eventbridgev2."""
_PARTNER_PART: Final = "/[._A-Za-z0-9-]+"
PARTNER_NAMESPACE: Final = _rule(
    rf"(?=.{{1,200}}$)aws\.partner(?:{_PARTNER_PART})+",
    "the beginning of event sources, such as aws.partner/example.com",
)
PARTNER_BUS_ARN: Final = _rule(
    rf"arn:{PARTITION}:events:{_REGION}:{_ACCOUNT}:event-bus/(?=.{{1,256}}$)aws\.partner(?:{_PARTNER_PART}){{2,}}",
    "the full ARN of a partner's bus: arn:aws:events:REGION:ACCOUNT:event-bus/aws.partner/NAME/NAMESPACE/EVENT",
)
"""The bus that a customer has made for an event source of ours, named as it is (``EventSourceName`` of botocore's
model)."""
ROLE_NAME: Final = _rule(f"{_ROLE_CHARACTER}{{1,64}}", "1 to 64 letters, digits and any of _+=,.@-")
ROLE_ARN: Final = _rule(
    rf"arn:{PARTITION}:iam::{_ACCOUNT}:role/(?:{_ROLE_CHARACTER}|/){{1,576}}",
    "the full ARN of a role: arn:aws:iam::ACCOUNT:role/NAME",
)
"""A path of at most 512 and a name of at most 64 characters (IAM and STS quotas)."""
EXTERNAL_ID: Final = _rule("[A-Za-z0-9_+=,.@:/-]{2,1224}", "2 to 1224 letters, digits and any of _+=,.@:/-")
"""``ExternalId`` of botocore's model of AssumeRole."""
ACCESS_KEY_ID: Final = _rule("[A-Z0-9]{16,128}", "16 to 128 capital letters and digits")
"""``AccessKeyId`` of botocore's model, in capitals as AWS makes them: most secrets do not pass for one."""
KMS_KEY_ARN: Final = _rule(
    rf"arn:{PARTITION}:kms:[a-z0-9-]+:{_ACCOUNT}:key/[A-Za-z0-9-]{{1,64}}",
    "the ARN of a KMS key: arn:aws:kms:REGION:ACCOUNT:key/ID",
)
"""An alias does not pass: it may come to mean another key, which does not open what the first key sealed."""
VARIABLE: Final = _rule("env:[A-Z_][A-Z0-9_]{0,127}", "env:NAME, with NAME in capitals")
"""An environment variable. Capitals alone: a secret pasted behind ``env:`` does not pass for a name."""
SEALING_KEY_ID: Final = VENDOR
"""The id of a key in a keyring follows the same rule as a vendor."""
