"""The declared buses, access keys and roles, and the sessions issued for roles."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from pushrail_stream.sandbox.bus.faults import FieldError
from pushrail_stream.sandbox.bus.policies import ALLOW_ALL, Permissions, TrustPolicy, trust_with

DEFAULT_ACCOUNT: Final = "123456789012"
SESSION_SECS: Final = 3600
"""The longest session of a role unless the role says otherwise (IAM's default)."""
_LONGEST_SESSION_SECS: Final = 43200
_MAX_BUS_NAME: Final = 1600

# The pattern of PutEvents' service model; "/" is for partner buses, and ``event-busv2`` ARNs do not match.
BUS_PATTERN = r"(arn:aws[\w-]*:events:[a-z]+-[a-z]+-[\w-]+:[0-9]{12}:event-bus\/)?[/\.\-_A-Za-z0-9]+"
_BUS = re.compile(BUS_PATTERN, re.ASCII)
_BUS_ARN = re.compile(r"arn:aws[\w-]*:events:[a-z]+-[a-z]+-[\w-]+:[0-9]{12}:event-bus/[/.\-_A-Za-z0-9]+", re.ASCII)
_V2_BUS_ARN = re.compile(
    r"arn:aws(-[a-z0-9]+)*:events:[a-z][a-z0-9]*(-[a-z0-9]+)*:[0-9]{12}:"
    r"event-busv2/[A-Za-z0-9][._A-Za-z0-9-]{0,255}/[a-z0-9]{25}",
    re.ASCII,
)
_ROLE_ARN = re.compile(r"arn:aws[\w-]*:iam::([0-9]{12}):role/(?:[\x21-\x7e]*/)?([\w+=,.@-]+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Credential:
    """One access key: permanent, or of a role's session, which has a token and an end in epoch seconds."""

    access_key: str
    secret: str
    account: str
    arn: str
    permissions: Permissions
    session_token: str | None = None
    expires_at: float | None = None
    role_arn: str = ""

    def __repr__(self) -> str:
        return f"Credential({self.access_key}, {self.arn})"


@dataclass(frozen=True, slots=True)
class Role:
    """A role: its trust policy decides who may assume it, its permissions what a session may do."""

    arn: str
    trust: TrustPolicy
    permissions: Permissions
    max_session_secs: int


@lru_cache(maxsize=4096)
def is_bus_name(name: str) -> bool:
    """Whether PutEvents takes this as an EventBusName (PutEventsRequestEntry, EventBridge API Reference)."""
    return len(name) <= _MAX_BUS_NAME and _BUS.fullmatch(name) is not None


@lru_cache(maxsize=4096)
def is_v2_bus(arn: str) -> bool:
    """Whether this is the ARN of a bus of eventbridgev2 (``EventBusArn`` of its service model)."""
    return _V2_BUS_ARN.fullmatch(arn) is not None


def role_parts(role_arn: str) -> tuple[str, str] | None:
    """Return account and name of a role's ARN, None for any other text."""
    found = _ROLE_ARN.fullmatch(role_arn)
    return (found[1], found[2]) if found else None


class Directory:
    """The declared and issued identities. An open directory takes undeclared keys, roles and buses as well."""

    def __init__(self, *, is_open: bool) -> None:
        self.is_open = is_open
        self.buses: set[str] = set()
        self.offers: set[str] = set()
        """Buses that partners have offered event sources for. They exist when they are declared besides."""
        self._keys: dict[str, Credential] = {}
        self._roles: dict[str, Role] = {}

    def add_bus(self, arn: str, field: str = "arn") -> None:
        """Declare that this bus exists, a classic one or one of eventbridgev2. Raises FieldError for another ARN."""
        if _BUS_ARN.fullmatch(arn) is None and not is_v2_bus(arn):
            raise FieldError(f"{field}: {arn!r} is not the ARN of an event bus")
        self.buses.add(arn)

    def add_credential(self, credential: Credential) -> None:
        """Declare a key or a session, in the place of one with the same access key."""
        self._keys[credential.access_key] = credential

    def add_role(self, role: Role) -> None:
        """Declare a role. Raises FieldError for any ARN but a role's."""
        if role_parts(role.arn) is None:
            raise FieldError(f"roleArn: {role.arn!r} is not the ARN of a role")
        self._roles[role.arn] = role

    def credential(self, access_key: str) -> Credential | None:
        """Find a key; an open directory makes up undeclared ones."""
        found = self._keys.get(access_key)
        if found is None and self.is_open and access_key:
            found = permanent_credential(access_key, "", DEFAULT_ACCOUNT, ALLOW_ALL)
            self._keys[access_key] = found
        return found

    def role(self, arn: str) -> Role | None:
        """Find a role; an open directory lets every well-formed role be assumed, with any external ID."""
        found = self._roles.get(arn)
        if found is None and self.is_open and role_parts(arn) is not None:
            return Role(arn, trust_with(None), ALLOW_ALL, _LONGEST_SESSION_SECS)
        return found

    def partner_bus(self, source: str, region: str) -> str:
        """The bus of a partner's event source: the declared or offered one, else one of the default account."""
        head, tail = f":events:{region}:", f":event-bus/{source}"
        known = (arn for arn in (*self.buses, *self.offers) if arn.endswith(tail) and head in arn)
        return next(known, bus_arn(source, region=region, account=DEFAULT_ACCOUNT))

    def bus_exists(self, arn: str) -> bool:
        """Whether events put on this bus arrive; every account has its default bus."""
        return self.is_open or arn in self.buses or arn.endswith(":event-bus/default")


def bus_arn(name: str, *, region: str, account: str) -> str:
    """Resolve an EventBusName as AWS does: a bare name names a bus of the caller's account and region."""
    return name if name.startswith("arn:") else f"arn:aws:events:{region}:{account}:event-bus/{name}"


def permanent_credential(access_key: str, secret: str, account: str, permissions: Permissions) -> Credential:
    """Return the credential of an IAM user that is named after its key."""
    return Credential(access_key, secret, account, f"arn:aws:iam::{account}:user/{access_key}", permissions)
