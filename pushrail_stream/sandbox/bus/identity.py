"""The declared buses, access keys and roles, and the sessions issued for roles."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from pushrail_stream.sandbox.bus.policies import ALLOW_ALL, TRUST_ALL, Permissions, TrustPolicy

# The pattern of the service model; "/" is for partner buses. ``event-busv2`` ARNs do not match it, as on AWS.
BUS_PATTERN = r"(arn:aws[\w-]*:events:[a-z]+-[a-z]+-[\w-]+:[0-9]{12}:event-bus\/)?[/\.\-_A-Za-z0-9]+"
_BUS = re.compile(BUS_PATTERN, re.ASCII)
_BUS_ARN = re.compile(r"arn:aws[\w-]*:events:[a-z]+-[a-z]+-[\w-]+:[0-9]{12}:event-bus/[/.\-_A-Za-z0-9]+", re.ASCII)
_ROLE_ARN = re.compile(r"arn:aws[\w-]*:iam::([0-9]{12}):role/(?:[\x21-\x7e]*/)?([\w+=,.@-]+)", re.ASCII)
MAX_BUS_NAME = 1600

DEFAULT_ACCOUNT = "123456789012"


@dataclass(frozen=True, slots=True)
class Credential:
    """One access key: permanent, or of a role's session (then with a token and, as epoch seconds, an end)."""

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
    """Whether PutEvents takes this as an EventBusName (facts/aws-eventbridge.md section 2)."""
    return len(name) <= MAX_BUS_NAME and _BUS.fullmatch(name) is not None


def role_parts(role_arn: str) -> tuple[str, str] | None:
    """Give (account, role name), or None for what is no role's ARN."""
    found = _ROLE_ARN.fullmatch(role_arn)
    return (found[1], found[2]) if found else None


class Directory:
    """All that was declared, and all sessions issued. ``open`` takes undeclared keys, roles and buses as well."""

    def __init__(self, *, is_open: bool) -> None:
        self.is_open = is_open
        self.buses: set[str] = set()
        self._keys: dict[str, Credential] = {}
        self._roles: dict[str, Role] = {}

    def add_bus(self, arn: str) -> None:
        """Declare that this bus exists; ValueError for what is no classic bus ARN."""
        if _BUS_ARN.fullmatch(arn) is None:
            raise ValueError(f"{arn!r} is not the ARN of a classic event bus")
        self.buses.add(arn)

    def add_credential(self, credential: Credential) -> None:
        """Declare a key or a session; the same access key again replaces it."""
        self._keys[credential.access_key] = credential

    def add_role(self, role: Role) -> None:
        """Declare a role; ValueError for what is no role ARN."""
        if role_parts(role.arn) is None:
            raise ValueError(f"{role.arn!r} is not the ARN of a role")
        self._roles[role.arn] = role

    def credential(self, access_key: str) -> Credential | None:
        """Find a key; an open directory invents the undeclared."""
        found = self._keys.get(access_key)
        if found is None and self.is_open and access_key:
            found = permanent_credential(access_key, "", DEFAULT_ACCOUNT, ALLOW_ALL)
            self._keys[access_key] = found
        return found

    def role(self, arn: str) -> Role | None:
        """Find a role; an open directory lets every well-formed role be assumed, with any external ID."""
        found = self._roles.get(arn)
        if found is None and self.is_open and role_parts(arn) is not None:
            return Role(arn, TRUST_ALL, ALLOW_ALL, 43200)
        return found

    def bus_exists(self, arn: str) -> bool:
        """Whether events put on this bus arrive; every account has its default bus."""
        return self.is_open or arn in self.buses or arn.endswith(":event-bus/default")


def bus_arn(name: str, *, region: str, account: str) -> str:
    """Resolve an EventBusName as AWS does: an ARN stands for itself, a bare name for a bus of the caller's account."""
    return name if name.startswith("arn:") else f"arn:aws:events:{region}:{account}:event-bus/{name}"


def permanent_credential(access_key: str, secret: str, account: str, permissions: Permissions) -> Credential:
    """Make the credential of an IAM user named after its key."""
    return Credential(access_key, secret, account, f"arn:aws:iam::{account}:user/{access_key}", permissions)
