"""IAM policies ("Policy evaluation logic", IAM User Guide): trust policies of roles, permissions of users and roles.

Supported elements are those that onboarding writes: Effect, Action, Resource, Principal.AWS, and as only condition
StringEquals on sts:ExternalId. Every other element is refused, since ignoring it would change the policy's meaning.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_pascal

from pushrail_stream.sandbox.bus.faults import FieldError

PUT_EVENTS: Final = "events:PutEvents"
DESCRIBE_BUS: Final = "events:DescribeEventBus"
PUT_PARTNER_EVENTS: Final = "events:PutPartnerEvents"
LIST_ACCOUNTS: Final = "events:ListPartnerEventSourceAccounts"
ASSUME_ROLE: Final = "sts:AssumeRole"
_CACHED_ANSWERS: Final = 4096
"""Answers kept by one set of permissions: more than the actions and buses of any test."""

_Texts = Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)]


class _Element(BaseModel):
    model_config = ConfigDict(alias_generator=to_pascal, extra="forbid", frozen=True)


class _Principal(_Element):
    aws: Annotated[_Texts, Field(alias="AWS")]


class _ExternalIds(_Element):
    external_ids: Annotated[_Texts, Field(alias="sts:ExternalId")]


class _Condition(_Element):
    string_equals: _ExternalIds


class _Statement(_Element):
    sid: str = ""
    effect: Literal["Allow", "Deny"]
    action: _Texts
    principal: Literal["*"] | _Principal | None = None
    resource: _Texts | None = None
    condition: _Condition | None = None

    def covers(self, action: str) -> bool:
        return any(fnmatchcase(action.lower(), pattern.lower()) for pattern in self.action)


class _Policy(_Element):
    version: str = ""
    statement: tuple[_Statement, ...]


class Principal(NamedTuple):
    """The caller of AssumeRole: its account, and the ARNs that a policy may name it by."""

    account: str
    arns: tuple[str, ...]


class TrustPolicy:
    """Decides who may assume a role. Raises FieldError for a document it cannot evaluate."""

    def __init__(self, document: Any) -> None:
        self._statements = _read(document, "trustPolicy", "principal", excluded=["resource"])

    def allows(self, caller: Principal, external_id: str | None) -> bool:
        """Tell whether this caller may assume the role with this external ID."""
        effects = {
            one.effect
            for one in self._statements
            if one.covers(ASSUME_ROLE)
            and (not isinstance(one.principal, _Principal) or any(_names(name, caller) for name in one.principal.aws))
            and (one.condition is None or external_id in one.condition.string_equals.external_ids)
        }
        return effects == {"Allow"}


class Permissions:
    """The permissions policies of one user or role. Raises FieldError for a document it cannot evaluate."""

    def __init__(self, documents: Iterable[Any]) -> None:
        self._statements = [
            statement
            for document in documents
            for statement in _read(document, "permissionsPolicies", "resource", excluded=["principal", "condition"])
        ]
        self.allow = lru_cache(_CACHED_ANSWERS)(self._allow)
        """Tell whether an action on a resource is permitted: a statement allows it and none denies it."""

    def _allow(self, action: str, resource: str) -> bool:
        effects = {
            one.effect
            for one in self._statements
            if one.covers(action) and any(fnmatchcase(resource, pattern) for pattern in one.resource or ())
        }
        return effects == {"Allow"}


def trust_with(external_id: str | None) -> TrustPolicy:
    """Return the trust policy that lets every caller with this external ID assume the role; None asks for no ID."""
    statement = {"Effect": "Allow", "Principal": "*", "Action": ASSUME_ROLE}
    condition = {} if external_id is None else {"Condition": {"StringEquals": {"sts:ExternalId": external_id}}}
    return TrustPolicy({"Statement": [statement | condition]})


def permissions_on(buses: Iterable[str] | None) -> Permissions:
    """Return permissions to assume every role, to put events on these buses and to describe them; None allows all."""
    if buses is None:
        return ALLOW_ALL
    on_buses = {"Effect": "Allow", "Action": [PUT_EVENTS, DESCRIBE_BUS], "Resource": tuple(buses)}
    return Permissions([{"Statement": [{"Effect": "Allow", "Action": ASSUME_ROLE, "Resource": "*"}, on_buses]}])


def _names(principal: str, caller: Principal) -> bool:
    """Whether a Principal element names this caller: as anyone, by its account, or by one of its ARNs."""
    account = principal.split(":")[-2] if principal.endswith(":root") else principal
    return principal == "*" or account == caller.account or principal in caller.arns


def _read(document: Any, name: str, element: str, *, excluded: Iterable[str]) -> tuple[_Statement, ...]:
    """Read a policy whose statements have this element and none of the excluded ones."""
    try:
        statements = _Policy.model_validate(document).statement
    except ValidationError as error:
        raise FieldError.of(error, name) from error
    for number, statement in enumerate(statements):
        if getattr(statement, element) is None:
            raise FieldError(f"{name}.Statement.{number}.{to_pascal(element)}: Field required")
        for other in excluded:
            if getattr(statement, other) is not None:
                raise FieldError(f"{name}.Statement.{number}.{to_pascal(other)}: must not be here")
    return statements


ALLOW_ALL: Final = Permissions([{"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}])
