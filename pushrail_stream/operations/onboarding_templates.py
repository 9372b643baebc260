"""A new customer's destination document, and the templates that the customer applies in their AWS account.

All of them derive from the same few facts, so that they fit each other. The external ID is random, ours, and one per
customer: it binds the customer's role to us.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, Final

from pushrail_stream.operations.aws_access import UNKNOWN_ACCOUNT, account_principal, policy_of, trust_policy
from pushrail_stream.settings.eventbridge import BUS, CLASSIC, ROLE, V2, AssumeRole, Flavour
from pushrail_stream.settings.values import partition_of

_NOT_IN_ID: Final = re.compile(r"[^A-Za-z0-9._-]+")
_NOT_IN_STACK: Final = re.compile(r"[^A-Za-z0-9-]")
_NOT_IN_QUEUE: Final = re.compile(r"[^A-Za-z0-9_-]")
_ID_LENGTH: Final = 64
_ID_HASH_LENGTH: Final = 8
_NAME_LENGTH: Final = 256
_ARCHIVE_NAME_LENGTH: Final = 48
"""EventBridge's limit for the names of archives; a bus may have a longer one."""
_QUEUE_NAME_LENGTH: Final = 80
"""SQS's limit for the names of queues (SQS API Reference, "CreateQueue")."""
_LOG_POLICY_NAME_LENGTH: Final = 255
"""CloudFormation's limit for the names of resource policies (`AWS::Logs::ResourcePolicy`)."""
_EXTERNAL_ID_BYTES: Final = 24
"""192 bits cannot be guessed. AWS does not treat an external ID as a secret."""
_TEMPLATES: Final = Path(__file__).with_name("templates")
_OVERRIDES: Final = " \\\n#     --parameter-overrides VendorAccountId=VENDOR-ACCOUNT-ID"
"""The option of a deployment that does not know our account."""


def new_external_id(vendor: str) -> str:
    """A random external ID that begins with the vendor."""
    return f"{vendor}-{secrets.token_urlsafe(_EXTERNAL_ID_BYTES)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Onboarding:
    """The facts about one customer. Without ``our_account`` the templates have a parameter to fill in.

    The templates make a classic bus. Beside a bus of eventbridgev2 (``v2_bus``) they make none: AWS chooses the end of
    its ARN, which the document needs.
    """

    vendor: str
    customer: str
    region: str
    account: str
    external_id: str
    our_account: str | None
    bus: str = BUS
    role: str = ROLE
    archive_days: int | None = None
    v2_bus: str | None = None
    """The ARN of a bus of eventbridgev2 that the customer has made."""

    @property
    def flavour(self) -> Flavour:
        """The kind of the bus."""
        return CLASSIC if self.v2_bus is None else V2

    @property
    def partition(self) -> str:
        """The AWS partition of bus and role."""
        return partition_of(self.region)

    @property
    def destination_id(self) -> str:
        """A readable id. Where the customer's name has other characters than ids may have, a hash makes it unique."""
        wanted = f"dst_{self.vendor}_{self.customer}"
        known = _NOT_IN_ID.sub("-", wanted)
        if known == wanted and len(wanted) <= _ID_LENGTH:
            return wanted
        digest = hashlib.sha256(wanted.encode(errors="surrogatepass")).hexdigest()[:_ID_HASH_LENGTH]
        return f"{known[: _ID_LENGTH - _ID_HASH_LENGTH - 1]}-{digest}"

    @property
    def bus_arn(self) -> str:
        """The bus that the templates make, or that is there."""
        return self.v2_bus or f"arn:{self.partition}:events:{self.region}:{self.account}:event-bus/{self.bus}"

    @property
    def role_arn(self) -> str:
        """The role that the templates make."""
        return f"arn:{self.partition}:iam::{self.account}:role/{self.role}"

    @property
    def log_group(self) -> str:
        """The log group of the first rule. EventBridge's console offers names below ``/aws/events/`` only."""
        return f"/aws/events/{self.bus}"

    @property
    def log_group_arn(self) -> str:
        """The log group as a target of rules."""
        return f"arn:{self.partition}:logs:{self.region}:{self.account}:log-group:{self.log_group}"

    @property
    def failures(self) -> str:
        """The name of the queue for events that cannot be delivered to a target."""
        suffix = "-failures"
        return _NOT_IN_QUEUE.sub("-", self.bus)[: _QUEUE_NAME_LENGTH - len(suffix)] + suffix

    @property
    def failures_arn(self) -> str:
        """The same queue, for the ``DeadLetterConfig`` of targets."""
        return f"arn:{self.partition}:sqs:{self.region}:{self.account}:{self.failures}"

    @property
    def rules_arn(self) -> str:
        """All rules of the bus, as a pattern of ARNs."""
        return f"arn:{self.partition}:events:{self.region}:{self.account}:rule/{self.bus}/*"

    @property
    def source(self) -> str:
        """The ``Source`` of the events that arrive."""
        return f"pushrail.{self.vendor}"

    def document(self) -> dict[str, Any]:
        """The destination document, disabled until the customer has set up their side."""
        return {
            "id": self.destination_id,
            "vendor": self.vendor,
            "customerExternalId": self.customer,
            "type": self.flavour.type,
            "name": self._name(),
            "busArn": self.bus_arn,
            "region": self.region,
            "sourceNamespace": self.source,
            "auth": AssumeRole(self.role_arn, self.external_id).document(),
            "enabled": False,
        }

    def trust_policy(self) -> dict[str, Any]:
        """The role can be assumed by our account, and only with this customer's external ID."""
        return trust_policy(self._principal(self.our_account or UNKNOWN_ACCOUNT), self.external_id)

    def permissions_policy(self) -> dict[str, Any]:
        """The role may put events on this one bus, and ask whether it exists."""
        return policy_of(*self.flavour.permissions(self.bus_arn))

    def log_policy(self) -> dict[str, Any]:
        """EventBridge may write to the log group (AWS CLI Command Reference, "put-resource-policy")."""
        return policy_of(
            {
                "Effect": "Allow",
                "Principal": {"Service": ["events.amazonaws.com", "delivery.logs.amazonaws.com"]},
                "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
                "Resource": f"{self.log_group_arn}:*",
            }
        )

    def failures_policy(self) -> dict[str, Any]:
        """Every rule of the bus may send failed events to the queue."""
        return policy_of(
            {
                "Effect": "Allow",
                "Principal": {"Service": "events.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": self.failures_arn,
                "Condition": {"ArnLike": {"aws:SourceArn": self.rules_arn}},
            }
        )

    def rules(self) -> dict[str, dict[str, Any]]:
        """Example event patterns: by tenant, by event type, by a field of the payload."""
        return {
            "by tenant": {"source": [self.source], "resources": [self.customer]},
            "by event type": {"source": [self.source], "detail-type": [{"prefix": "order."}]},
            "by payload field": {"source": [self.source], "detail": {"payload": {"currency": ["USD"]}}},
        }

    def cloudformation(self) -> str:
        """A template for `aws cloudformation deploy --capabilities CAPABILITY_NAMED_IAM`, as YAML."""
        substitution = f'{{"Fn::Sub": "arn:{self.partition}:iam::${{VendorAccountId}}:root"}}'
        known = {
            "overrides": "" if self.our_account else _OVERRIDES,
            "principal": f'"{self._principal(self.our_account)}"' if self.our_account else substitution,
        }
        known["permissions"] = json.dumps(self.permissions_policy()["Statement"])
        return self._join("yaml", _quoted, known)

    def terraform(self) -> str:
        """The same for Terraform's AWS provider, formatted as `terraform fmt` would."""
        principal = self._principal(self.our_account or "${var.vendor_account_id}")
        return self._join("tf", _hcl, {"principal": f'"{principal}"'})

    def examples(self) -> dict[str, str]:
        """CloudFormation templates of consumers, by file name. They use the bus and the queue for failures."""
        files = sorted((_TEMPLATES / "examples").iterdir())
        return {file.name: self._fill(file, _quoted, {}) for file in files}

    def page(self, known: Mapping[str, str]) -> str:
        """The page for the customer, in Markdown; ``known`` has its examples."""
        return self._fill(_TEMPLATES / ("customer.md" if self.v2_bus is None else "customer_v2.md"), str, known)

    def _principal(self, account: str) -> str:
        return account_principal(self.partition, account)

    def _join(self, suffix: str, quote: Callable[[str], str], known: Mapping[str, str]) -> str:
        """The parts of a template that these facts ask for, filled with them."""
        asked = {"archive": self.archive_days is not None, "parameter": self.our_account is None}
        whole = ["main", "consumer"] if self.v2_bus is None else ["v2"]
        parts = [*whole, *(part for part, is_asked in asked.items() if is_asked)]
        return "\n".join(self._fill(_TEMPLATES / f"{part}.{suffix}", quote, known) for part in parts)

    def _fill(self, file: Path, quote: Callable[[str], str], known: Mapping[str, str]) -> str:
        texts = {
            "bus": self.bus,
            "bus_arn": self.bus_arn,
            "pattern": json.dumps({"source": [self.source]}),
            "role": self.role,
            "external_id": self.external_id,
            "archive": self.bus[:_ARCHIVE_NAME_LENGTH],
            "source": self.source,
            "vendor": self.vendor,
            "parameter": f"AWS account of {self.vendor}",
            "description": f"An event bus for {self.vendor}, and the role that may write to it",
            "purpose": f"Lets {self.vendor} put events on {self.bus}",
            "log_group": self.log_group,
            "log_policy": json.dumps(self.log_policy()),
            "log_policy_name": f"{self.bus}-log"[:_LOG_POLICY_NAME_LENGTH],
            "log_purpose": f"Every event of {self.vendor}",
            "failures": self.failures,
            "failures_arn": self.failures_arn,
            "rules_arn": self.rules_arn,
        }
        values = {
            **{name: quote(text) for name, text in texts.items()},
            **known,
            "actions": ", ".join(map(quote, self.flavour.actions)),
            "stack": _NOT_IN_STACK.sub("-", self.destination_id),
            "partition": self.partition,
            "account": self.account,
            "region": self.region,
            "days": str(self.archive_days),
        }
        return _Template(file.read_text(encoding="utf-8")).substitute(values)

    def _name(self) -> str:
        # A customer's id may be any text, a destination's name is one printable line.
        name = f"EventBridge bus of {self.customer}"
        return name if name.isprintable() and len(name) <= _NAME_LENGTH else f"EventBridge bus of {self.destination_id}"


class _Template(Template):
    """A part of a template, with ``@name`` for each value: Terraform and CloudFormation use ``$`` themselves."""

    delimiter = "@"


def _quoted(text: str) -> str:
    """A text in double quotes, as YAML and HCL read it: characters that are not printable are escaped."""
    quoted = text.replace("\\", r"\\").replace('"', r"\"")
    return '"' + "".join(c if c.isprintable() else _escape(c) for c in quoted) + '"'


def _hcl(text: str) -> str:
    """A quoted HCL string, in which template sequences are escaped too."""
    return _quoted(text).replace("${", "$${").replace("%{", "%%{")


def _escape(character: str) -> str:
    number = ord(character)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"  # noqa: PLR2004 - beyond four hex digits
