"""The accounts of AWS: buses, roles, users, access keys and sessions. People change them while calls arrive."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

from tests.simulation.aws.policies import ASSUME_ROLE, DESCRIBE_BUS, PUT_EVENTS, Statement, allow

_BASE32: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_TOKEN_DIGITS: Final = 400
"""Hexadecimal digits of a session token. AWS's are about twice as long, which only costs time."""
_SECRET_BITS: Final = 160


@dataclass(slots=True)
class Bus:
    """An event bus. A bus that is deleted and made again has the same ARN and another generation."""

    arn: str
    generation: int = 1
    policy: list[Statement] = field(default_factory=list)
    """Its resource policy."""
    refused_sources: frozenset[str] = frozenset()
    """Sources that its resource policy does not admit."""
    refused_detail_types: frozenset[str] = frozenset()
    """Detail types that its resource policy does not admit."""
    is_key_denied: bool = False
    """Whether its KMS key cannot be used."""


@dataclass(slots=True)
class Role:
    """A role. ``trusted`` and ``external_id`` are its trust policy, ``permissions`` its own policies."""

    arn: str
    trusted: tuple[str, ...]
    """ARNs or account ids that may assume it."""
    external_id: str | None
    """The external ID that its trust policy demands; None when it demands none."""
    permissions: list[Statement]
    max_session_secs: int = 3600
    generation: int = 1
    revoked_before: float = -1.0
    """Sessions that were issued before this time (epoch seconds) are denied everything: AWSRevokeOlderSessions."""


@dataclass(frozen=True, slots=True)
class Credential:
    """An access key, of a user or of a role's session. It has the names that the signature's check reads."""

    access_key: str
    secret: str
    account: str
    arn: str
    session_token: str | None = None
    expires_at: float | None = None
    """Epoch seconds; None for a key that does not expire."""
    role: str = ""
    """ARN of the role whose session this is."""
    generation: int = 0
    issued_at: float = 0.0
    policy: tuple[Statement, ...] | None = None
    """The session policy."""
    is_ours: bool = False
    """Whether it belongs to the vendor, not to a customer."""

    def __repr__(self) -> str:
        return f"Credential({self.access_key}, {self.arn})"


class Accounts:
    """All accounts. Keys of one access key id exist once."""

    is_open: Final = False
    """Unknown keys are refused (read by the signature's check)."""

    def __init__(self, dice: Random) -> None:
        self._dice = dice
        self.buses: dict[str, Bus] = {}
        self.roles: dict[str, Role] = {}
        self.permissions: dict[str, list[Statement]] = {}
        """The permissions of users, by ARN."""
        self._keys: dict[str, Credential] = {}
        self.secrets: set[str] = set()
        """Every secret and session token that AWS ever issued."""
        self._generations: dict[str, int] = {}
        """Of buses and roles, those deleted included."""

    def create_bus(self, arn: str) -> Bus:
        """Make a bus, or make a deleted one again."""
        bus = self.buses[arn] = Bus(arn, self._next_generation(arn))
        return bus

    def delete_bus(self, arn: str) -> None:
        """Delete a bus: what is put on it from now on vanishes."""
        self.buses.pop(arn, None)

    def create_role(self, arn: str, trusted: str, external_id: str | None, bus: str = "*") -> Role:
        """Make a role, or make a deleted one again, that may put on a bus and describe it."""
        permissions = [allow((PUT_EVENTS, DESCRIBE_BUS), bus)]
        role = self.roles[arn] = Role(arn, (trusted,), external_id, permissions, generation=self._next_generation(arn))
        return role

    def delete_role(self, arn: str) -> None:
        """Delete a role. Its sessions lose every permission."""
        self.roles.pop(arn, None)

    def create_user(self, arn: str, statements: list[Statement]) -> None:
        """Make a user, or replace its permissions."""
        self.permissions[arn] = statements

    def create_customer_key(self, user_arn: str, access_key: str, secret: str, bus: str = "*") -> None:
        """Make a customer's user with an access key that may put on a bus and describe it."""
        self.create_user(user_arn, [allow((PUT_EVENTS, DESCRIBE_BUS), bus)])
        self.add_key(Credential(access_key, secret, user_arn.split(":")[4], user_arn))

    def create_our_key(self, user_arn: str, access_key: str, secret: str, expires_at: float | None = None) -> None:
        """Make a key of our own identity, which may assume every role and use every KMS key."""
        self.permissions.setdefault(user_arn, [allow((ASSUME_ROLE, "kms:*"))])
        account = user_arn.split(":")[4]
        self.add_key(Credential(access_key, secret, account, user_arn, expires_at=expires_at, is_ours=True))

    def add_key(self, credential: Credential) -> None:
        """Make a key, or replace the one with its id."""
        self._keys[credential.access_key] = credential
        self.secrets.update(filter(None, (credential.secret, credential.session_token)))

    def delete_key(self, access_key: str) -> None:
        """Delete a key: its next call is refused."""
        self._keys.pop(access_key, None)

    def expire_key(self, access_key: str, at: float) -> None:
        """Set the end of a key, in epoch seconds. A deleted key stays deleted."""
        if (key := self._keys.get(access_key)) is not None:
            self._keys[access_key] = replace(key, expires_at=at)

    def credential(self, access_key: str) -> Credential | None:
        """The key of this id (read by the signature's check)."""
        return self._keys.get(access_key)

    def issue(
        self, role: Role, session_name: str, now: float, secs: int, policy: tuple[Statement, ...] | None
    ) -> Credential:
        """Open a session of a role. ``now`` in epoch seconds."""
        partition, account, name = role.arn.split(":")[1], role.arn.split(":")[4], role.arn.rpartition("/")[2]
        session = Credential(
            access_key="ASIA" + "".join(self._dice.choices(_BASE32, k=16)),
            secret=f"{self._dice.getrandbits(_SECRET_BITS):040x}",
            account=account,
            arn=f"arn:{partition}:sts::{account}:assumed-role/{name}/{session_name}",
            session_token=f"{self._dice.getrandbits(4 * _TOKEN_DIGITS):0{_TOKEN_DIGITS}x}",
            expires_at=now + secs,
            role=role.arn,
            generation=role.generation,
            issued_at=now,
            policy=policy,
        )
        self.add_key(session)
        return session

    def revoke_sessions(self, role_arn: str, now: float) -> None:
        """Deny everything to the sessions of a role that were issued until now (epoch seconds)."""
        self.roles[role_arn].revoked_before = now

    def _next_generation(self, arn: str) -> int:
        self._generations[arn] = self._generations.get(arn, 0) + 1
        return self._generations[arn]
