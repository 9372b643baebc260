"""A new customer's destination document, and the templates that the customer applies in their AWS account.

All of them derive from the same few facts, so that they fit each other. The external ID is random, ours, and one per
customer: it binds the customer's role to us.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Any, Final

import yaml

from pushrail_stream.settings.values import partition_of

BUS: Final = "pushrail-events"
ROLE: Final = "PushrailEventBridgeWriter"
"""The role's name, unless the account has one of that name for another customer."""
_NOT_IN_ID: Final = re.compile(r"[^A-Za-z0-9._-]+")
_NOT_IN_STACK: Final = re.compile(r"[^A-Za-z0-9-]")
_ID_LENGTH: Final = 64
_ID_HASH_LENGTH: Final = 8
_NAME_LENGTH: Final = 256
_ARCHIVE_NAME_LENGTH: Final = 48
"""EventBridge's limit for the names of archives; a bus may have a longer one."""
_EXTERNAL_ID_BYTES: Final = 24
"""192 bits cannot be guessed. AWS does not treat an external ID as a secret."""
ACTIONS: Final = ("events:PutEvents", "events:DescribeEventBus")
"""Deliver, and find out whether the bus exists: PutEvents succeeds for a missing bus too."""


def new_external_id(vendor: str) -> str:
    """A random external ID that begins with the vendor."""
    return f"{vendor}-{secrets.token_urlsafe(_EXTERNAL_ID_BYTES)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Onboarding:
    """The facts about one customer. Without ``our_account`` the templates have a parameter to fill in."""

    vendor: str
    customer: str
    region: str
    account: str
    external_id: str
    our_account: str | None
    bus: str = BUS
    role: str = ROLE
    archive_days: int | None = None

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
        """The bus that the templates make."""
        return f"arn:{self.partition}:events:{self.region}:{self.account}:event-bus/{self.bus}"

    @property
    def role_arn(self) -> str:
        """The role that the templates make."""
        return f"arn:{self.partition}:iam::{self.account}:role/{self.role}"

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
            "type": "EVENTBRIDGE",
            "name": self._name(),
            "busArn": self.bus_arn,
            "region": self.region,
            "sourceNamespace": self.source,
            "auth": {"mode": "ASSUME_ROLE", "roleArn": self.role_arn, "externalId": self.external_id},
            "enabled": False,
        }

    def trust_policy(self) -> dict[str, Any]:
        """The role can be assumed by our account, and only with this customer's external ID."""
        principal = f"arn:{self.partition}:iam::{self.our_account or 'OUR-ACCOUNT-ID'}:root"
        return _policy(
            {
                "Effect": "Allow",
                "Principal": {"AWS": principal},
                "Action": "sts:AssumeRole",
                "Condition": {"StringEquals": {"sts:ExternalId": self.external_id}},
            }
        )

    def permissions_policy(self) -> dict[str, Any]:
        """The role may put events on this one bus, and ask whether it exists."""
        return _policy({"Effect": "Allow", "Action": list(ACTIONS), "Resource": self.bus_arn})

    def rules(self) -> dict[str, dict[str, Any]]:
        """Example event patterns: by tenant, by event type, by a field of the payload."""
        return {
            "by tenant": {"source": [self.source], "resources": [self.customer]},
            "by event type": {"source": [self.source], "detail-type": [{"prefix": "order."}]},
            "by payload field": {"source": [self.source], "detail": {"payload": {"currency": ["USD"]}}},
        }

    def cloudformation(self) -> str:
        """A template for `aws cloudformation deploy --capabilities CAPABILITY_NAMED_IAM`, as YAML."""
        template: dict[str, Any] = {
            "AWSTemplateFormatVersion": "2010-09-09",
            "Description": f"An event bus for {self.vendor}, and the role that may write to it",
        }
        if self.our_account is None:
            template["Parameters"] = {
                "VendorAccountId": {
                    "Type": "String",
                    "Description": f"AWS account of {self.vendor}",
                    "AllowedPattern": "[0-9]{12}",
                }
            }
        template["Resources"] = self._cloudformation_resources()
        template["Outputs"] = {
            "BusArn": {"Value": {"Fn::GetAtt": ["Bus", "Arn"]}},
            "RoleArn": {"Value": {"Fn::GetAtt": ["Writer", "Arn"]}},
        }
        parameter = "" if self.our_account else " \\\n#     --parameter-overrides VendorAccountId=VENDOR-ACCOUNT-ID"
        head = _CLOUDFORMATION_HEAD.format(
            account=self.account, region=self.region, stack=_NOT_IN_STACK.sub("-", self.destination_id)
        )
        return f"{head}{parameter}\n" + yaml.dump(template, Dumper=_Quoting, sort_keys=False, width=120)

    def terraform(self) -> str:
        """The same for Terraform's AWS provider, formatted as `terraform fmt` would."""
        blocks = [self._terraform_head(), _TERRAFORM_BUS.format(bus=_hcl(self.bus)), self._terraform_role()]
        if self.archive_days is not None:
            blocks.append(
                _TERRAFORM_ARCHIVE.format(
                    name=_hcl(self.bus[:_ARCHIVE_NAME_LENGTH]), days=self.archive_days, source=_hcl(self.source)
                )
            )
        return "\n".join([*blocks, _TERRAFORM_OUTPUTS])

    def _name(self) -> str:
        # A customer's id may be any text, a destination's name is one printable line.
        name = f"EventBridge bus of {self.customer}"
        return name if name.isprintable() and len(name) <= _NAME_LENGTH else f"EventBridge bus of {self.destination_id}"

    def _cloudformation_resources(self) -> dict[str, Any]:
        writing = {"Effect": "Allow", "Action": list(ACTIONS), "Resource": {"Fn::GetAtt": ["Bus", "Arn"]}}
        resources: dict[str, Any] = {
            "Bus": {"Type": "AWS::Events::EventBus", "Properties": {"Name": self.bus}},
            "Writer": {
                "Type": "AWS::IAM::Role",
                "Properties": {
                    "RoleName": self.role,
                    "Description": f"Lets {self.vendor} put events on {self.bus}",
                    "AssumeRolePolicyDocument": self._cloudformation_trust(),
                    "Policies": [{"PolicyName": "PutEvents", "PolicyDocument": _policy(writing)}],
                },
            },
        }
        if self.archive_days is not None:
            resources["Archive"] = {
                "Type": "AWS::Events::Archive",
                "Properties": {
                    "SourceArn": {"Fn::GetAtt": ["Bus", "Arn"]},
                    "RetentionDays": self.archive_days,
                    "EventPattern": {"source": [self.source]},
                },
            }
        return resources

    def _cloudformation_trust(self) -> dict[str, Any]:
        trust = self.trust_policy()
        if self.our_account is None:
            trust["Statement"][0]["Principal"]["AWS"] = {
                "Fn::Sub": f"arn:{self.partition}:iam::${{VendorAccountId}}:root"
            }
        return trust

    def _terraform_head(self) -> str:
        head = _TERRAFORM_HEAD.format(account=self.account, region=self.region)
        if self.our_account is not None:
            return head
        return head + _TERRAFORM_VARIABLE.format(description=_hcl(f"AWS account of {self.vendor}"))

    def _terraform_role(self) -> str:
        account = self.our_account or "${var.vendor_account_id}"
        return _TERRAFORM_ROLE.format(
            role=_hcl(self.role),
            principal=f'"arn:{self.partition}:iam::{account}:root"',
            external_id=_hcl(self.external_id),
            actions=", ".join(map(_hcl, ACTIONS)),
        )


def _policy(statement: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [statement]}


class _Quoting(yaml.SafeDumper):
    """Quotes every text that a reader of some version of YAML could take for another type."""


def _quote(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if _PLAIN.fullmatch(text) else '"')


_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z]{2,}[A-Za-z0-9:.]*")
_Quoting.add_representer(str, _quote)


def _hcl(text: str) -> str:
    """A quoted HCL string: characters that are not printable and template sequences are escaped."""
    quoted = text.replace("\\", r"\\").replace('"', r"\"").replace("${", "$${").replace("%{", "%%{")
    return '"' + "".join(c if c.isprintable() else _hcl_escape(c) for c in quoted) + '"'


def _hcl_escape(character: str) -> str:
    number = ord(character)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"  # noqa: PLR2004 - beyond four hex digits


_CLOUDFORMATION_HEAD: Final = """\
# For the account {account}, in the region {region}, with credentials of that account:
#   aws cloudformation deploy --region {region} --stack-name {stack} \\
#     --template-file cloudformation.yaml --capabilities CAPABILITY_NAMED_IAM"""
_TERRAFORM_HEAD: Final = """\
# For the account {account}, in the region {region}, with credentials of that account:
#   terraform init
#   AWS_REGION={region} terraform apply
terraform {{
  required_providers {{
    aws = {{
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }}
  }}
}}
"""
_TERRAFORM_VARIABLE: Final = """
variable "vendor_account_id" {{
  type        = string
  description = {description}
}}
"""
_TERRAFORM_BUS: Final = """\
resource "aws_cloudwatch_event_bus" "pushrail" {{
  name = {bus}
}}
"""
_TERRAFORM_ROLE: Final = """\
resource "aws_iam_role" "writer" {{
  name = {role}
  assume_role_policy = jsonencode({{
    Version = "2012-10-17"
    Statement = [{{
      Effect    = "Allow"
      Principal = {{ AWS = {principal} }}
      Action    = "sts:AssumeRole"
      Condition = {{ StringEquals = {{ "sts:ExternalId" = {external_id} }} }}
    }}]
  }})
}}

resource "aws_iam_role_policy" "put_events" {{
  name = "PutEvents"
  role = aws_iam_role.writer.id
  policy = jsonencode({{
    Version = "2012-10-17"
    Statement = [{{
      Effect   = "Allow"
      Action   = [{actions}]
      Resource = aws_cloudwatch_event_bus.pushrail.arn
    }}]
  }})
}}
"""
_TERRAFORM_ARCHIVE: Final = """\
resource "aws_cloudwatch_event_archive" "pushrail" {{
  name             = {name}
  event_source_arn = aws_cloudwatch_event_bus.pushrail.arn
  retention_days   = {days}
  event_pattern    = jsonencode({{ source = [{source}] }})
}}
"""
_TERRAFORM_OUTPUTS: Final = """\
output "bus_arn" {
  value = aws_cloudwatch_event_bus.pushrail.arn
}

output "role_arn" {
  value = aws_iam_role.writer.arn
}
"""
