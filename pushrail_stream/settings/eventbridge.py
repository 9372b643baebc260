"""The destination types, one flavour of EventBridge's buses each, and the ways to sign in there.

Settings, documents, commands and ingest take these facts from here, as the bus itself does. A new type is one more
`Flavour` in `FLAVOURS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pushrail_stream.core.batch import CallLimits
from pushrail_stream.core.destination import CustomerBus, Destination, Secret
from pushrail_stream.settings.values import BUS_ARN, BUS_V2_ARN, MASK, PARTNER_BUS_ARN, Arn, Rule

TIME_BYTES: Final = 14
"""Bytes that AWS counts for an entry's ``Time``, whatever its value."""
MAX_SOURCE_BYTES: Final = 256
"""Longest ``sourceNamespace`` of a destination, in bytes."""
BUS: Final = "pushrail-events"
"""The name of a new customer's bus, unless the operator chooses another."""
ROLE: Final = "PushrailEventBridgeWriter"
"""The name of a new customer's role, unless the account has one of that name for another customer."""


@dataclass(frozen=True, slots=True)
class Flavour:
    """One kind of bus, and the calls that it takes."""

    type: str
    """``type`` of its destination documents."""
    limits: CallLimits
    """The most that one call carries."""
    arn: Rule
    """The rule for ``busArn``."""
    operation: str = "PutEvents"
    """EventBridge's operation that takes the entries."""
    check: str = "DescribeEventBus"
    """The operation that tells whether the bus exists: `operation` succeeds for a missing bus too."""
    tells_missing: bool = False
    """Whether `operation` fails for a missing bus, so that no check is needed."""
    key_context: str | None = None
    """The name of the bus in KMS's encryption context, where callers need ``kms:Decrypt`` for a bus with a key of its
    customer's; None where they need no key."""
    signs_as_us: bool = False
    """Whether our own credentials sign the calls. Documents of this type have no ``auth``."""
    refusals: tuple[tuple[str, str], ...] = ()
    """Parts of ARNs that a customer may mistake for such a bus, each with the reason why it is none."""

    @property
    def actions(self) -> tuple[str, str]:
        """The IAM actions that delivering takes."""
        return f"events:{self.operation}", f"events:{self.check}"

    def permissions(self, arn: str) -> list[dict[str, Any]]:
        """The statements of an IAM policy that allow what delivering takes, and nothing else."""
        if self.signs_as_us:
            put, check = self.actions
            name = Arn.of(arn)
            source = f"arn:{name.partition}:events:{name.region}::event-source/{name.name}"
            # PutPartnerEvents has no resources (Service Authorization Reference, "Amazon EventBridge").
            return [
                {"Effect": "Allow", "Action": put, "Resource": "*"},
                {"Effect": "Allow", "Action": check, "Resource": source},
            ]
        statements: list[dict[str, Any]] = [{"Effect": "Allow", "Action": list(self.actions), "Resource": arn}]
        if self.key_context is not None:
            condition = {"StringEquals": {f"kms:EncryptionContext:{self.key_context}": arn}}
            statements.append({"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*", "Condition": condition})
        return statements

    def check_arn(self, arn: str) -> str:
        """Return the ARN of a bus. Raises ``ValueError`` when it names none of this kind."""
        for part, reason in self.refusals:
            if part in arn:
                raise ValueError(reason)
        return self.arn.check(arn)


CLASSIC: Final = Flavour(
    "EVENTBRIDGE",
    # 10: botocore service model. 1,048,576 bytes: AWS documentation (262,144 before 2026-01-29).
    CallLimits(10, 1_048_576),
    BUS_ARN,
    refusals=(
        (
            ":event-bus/aws.partner/",
            "is the ARN of a partner's bus, which PutEvents cannot write to: name a bus of the customer's own",
        ),
    ),
)
V2: Final = Flavour(
    "EVENTBRIDGE_V2",
    # 100: botocore service model. No document of AWS tells its byte limit: that of classic buses is taken.
    CallLimits(100, 1_048_576),
    BUS_V2_ARN,
    tells_missing=True,
    key_context="aws:events:event-busv2:arn",
)
"""The Custom Event Bus of 2026. Its customers may also write the type of `CLASSIC`: the ARN tells the two apart."""
PARTNER: Final = Flavour(
    "EVENTBRIDGE_PARTNER",
    # 20: botocore service model. Bytes: as for PutEvents, whose calculation AWS's page of the operation refers to.
    CallLimits(20, 1_048_576),
    PARTNER_BUS_ARN,
    operation="PutPartnerEvents",
    check="ListPartnerEventSourceAccounts",
    signs_as_us=True,
)
"""The bus that a customer has made for an event source of ours, as a partner of AWS has them."""
FLAVOURS: Final = {flavour.type: flavour for flavour in (CLASSIC, V2, PARTNER)}
"""Every destination type."""
MAX_ENTRIES: Final = max(flavour.limits.max_entries for flavour in FLAVOURS.values())
"""Entries in one call, whatever its destination's type."""
MAX_REQUEST_BYTES: Final = max(flavour.limits.max_bytes for flavour in FLAVOURS.values())
"""Sum of the sizes of one call's entries in bytes, whatever its destination's type."""


def flavour_of(document_type: str, arn: str) -> Flavour:
    """The flavour of a document's bus. Raises ``KeyError`` for an unknown type."""
    flavour = FLAVOURS[document_type]
    return V2 if flavour is CLASSIC and ":event-busv2/" in arn else flavour


class Claim(NamedTuple):
    """A value of a document that belongs to one customer."""

    field: str
    value: tuple[str, ...]
    problem: str
    """Completes ``FIELD ... (OTHER DOCUMENT)`` when another customer has the value already."""
    key: str = ""
    """Customers with the same key may share the value; empty for a value that is never shared."""


def claims_of(bus: CustomerBus) -> tuple[Claim, ...]:
    """The claims of the bus itself.

    Two customers must not share one that keeps an idempotency key once. Nor may they share an event source of ours:
    no role keeps the events of one customer from the other's bus.
    """
    if bus.type == PARTNER.type:
        arn = Arn.of(bus.arn)
        problem = "names the event source of another customer ({}): each has an event source of their own"
        return (Claim("busArn", (arn.partition, arn.region, arn.name), problem),)
    problem = "is in use for another customer ({}): of two events with one idempotencyKey the bus would keep one"
    return (Claim("busArn", (bus.arn,), problem),) if bus.type == V2.type else ()


@dataclass(frozen=True, slots=True)
class AssumeRole:
    """Sign in as a role of the customer's account, bound to us by the external ID."""

    role_arn: str
    external_id: str

    @property
    def label(self) -> str:
        """In a word, for tables."""
        return "role"

    def document(self) -> dict[str, Any]:
        """The part ``auth`` of its document."""
        return {"mode": "ASSUME_ROLE", "roleArn": self.role_arn, "externalId": self.external_id}

    def claims(self) -> tuple[Claim, ...]:
        """The values that no other customer may use."""
        # Within an account a role's name is unique whatever its path and case (IAM): other spellings are the same role.
        role = Arn.of(self.role_arn)
        name = role.resource.rpartition("/")[2].casefold()
        return (
            Claim(
                "auth.roleArn",
                (role.partition, role.account, name),
                "is in use for another customer, with another external ID ({})",
                self.external_id,
            ),
            Claim(
                "auth.externalId",
                (self.external_id,),
                "is already another customer's ({}): every customer needs one of their own",
            ),
        )


@dataclass(frozen=True, slots=True)
class AccessKey:
    """Sign with the customer's IAM access key pair. Without ``secret`` (it could not be read) no call is made."""

    access_key_id: str
    secret: Secret | None
    is_waiting: bool = False
    """The document has the secret, but the key that opens it is missing. That is our own fault."""

    @property
    def label(self) -> str:
        """In a word, for tables."""
        return "key" if self.secret is not None else "key, secret missing"

    def document(self) -> dict[str, Any]:
        """The part ``auth`` of its document, with the secret masked."""
        shown = None if self.secret is None else MASK
        return {"mode": "ACCESS_KEY", "accessKeyId": self.access_key_id, "secretAccessKey": shown}

    def claims(self) -> tuple[Claim, ...]:
        """None: nobody can name another customer's key pair without its secret."""
        return ()


@dataclass(frozen=True, slots=True)
class OwnIdentity:
    """Sign with our own credentials. Only types with `Flavour.signs_as_us` do so."""

    @property
    def label(self) -> str:
        """In a word, for tables."""
        return "ours"

    def document(self) -> None:
        """None: its document has no ``auth``."""

    def claims(self) -> tuple[Claim, ...]:
        """None: all such destinations share our identity."""
        return ()


Auth = AssumeRole | AccessKey | OwnIdentity


def auth_of(destination: Destination) -> Auth:
    """The way to sign in at the destination's bus."""
    if isinstance(destination.bus.auth, AssumeRole | AccessKey | OwnIdentity):
        return destination.bus.auth
    raise TypeError(f"{destination.id} is no destination on EventBridge")


def needs_our_credentials(destination: Destination) -> bool:
    """Whether our own credentials sign its calls, or assume its role."""
    return not isinstance(destination.bus.auth, AccessKey)
