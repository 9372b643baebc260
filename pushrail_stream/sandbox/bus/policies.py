"""IAM policies ("Policy evaluation logic", IAM User Guide): trust policies of roles, permissions of users and roles.

Supported elements are those that onboarding writes: Effect, Action, Resource, Principal.AWS, and as only condition
StringEquals on sts:ExternalId. Every other element is refused, since skipping it would change the policy's meaning.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_pascal

from pushrail_stream.sandbox.bus.faults import FieldError

PUT_EVENTS: Final = "events:PutEvents"
DESCRIBE_BUS: Final = "events:DescribeEventBus"
ASSUME_ROLE: Final = "sts:AssumeRole"
_CACHED_ANSWERS: Final = 4096
_T = TypeVar("_T", bound=BaseModel)

_Texts = Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)]


class _Element(BaseModel):
    model_config = ConfigDict(alias_generator=to_pascal, extra="forbid", frozen=True)


class _Principal(_Element):
    aws: Annotated[_Texts, Field(alias="AWS")]


class _ExternalIds(_Element):
    external_ids: Annotated[_Texts, Field(alias="sts:ExternalId")]


class _Condition(_Element):
    string_equals: _ExternalIds


class _TrustStatement(_Element):
    sid: str = ""
    effect: Literal["Allow", "Deny"]
    principal: Literal["*"] | _Principal
    action: _Texts
    condition: _Condition | None = None


class _PermissionStatement(_Element):
    sid: str = ""
    effect: Literal["Allow", "Deny"]
    action: _Texts
    resource: _Texts


class _TrustDocument(_Element):
    version: str = ""
    statement: tuple[_TrustStatement, ...]


class _PermissionDocument(_Element):
    version: str = ""
    statement: tuple[_PermissionStatement, ...]


class Principal(NamedTuple):
    """The caller of AssumeRole: its account, and the ARNs that a policy may name it by."""

    account: str
    arns: tuple[str, ...]


class TrustPolicy:
    """Decides who may assume a role. Raises FieldError for a document it cannot evaluate."""

    def __init__(self, document: Any) -> None:
        self._statements = _read(_TrustDocument, document, "trust policy").statement

    def allows(self, caller: Principal, external_id: str | None) -> bool:
        """Tell whether this caller may assume the role with this external ID."""
        effects = {one.effect for one in self._statements if _applies(one, caller, external_id)}
        return effects == {"Allow"}


class Permissions:
    """The permissions policies of one user or role. Raises FieldError for a document it cannot evaluate."""

    def __init__(self, documents: Iterable[Any]) -> None:
        self._statements = [
            one
            for document in documents
            for one in _read(_PermissionDocument, document, "permissions policy").statement
        ]
        self.allow = lru_cache(_CACHED_ANSWERS)(self._allow)
        """Tell whether ``allow(action, resource)`` is permitted: by a statement, and denied by none."""

    def _allow(self, action: str, resource: str) -> bool:
        effects = {
            one.effect
            for one in self._statements
            if _matches_action(one.action, action) and any(fnmatchcase(resource, pattern) for pattern in one.resource)
        }
        return effects == {"Allow"}


def trust_with(external_id: str | None) -> TrustPolicy:
    """Return the trust policy that lets every caller with this external ID assume the role; None asks for no ID."""
    if external_id is None:
        return TRUST_ALL
    condition = {"StringEquals": {"sts:ExternalId": external_id}}
    statement = {"Effect": "Allow", "Principal": "*", "Action": ASSUME_ROLE, "Condition": condition}
    return TrustPolicy({"Statement": [statement]})


def permission_for(buses: Iterable[str] | None) -> Permissions:
    """Return permissions to assume every role, to put events on these buses and to describe them; None allows all."""
    if buses is None:
        return ALLOW_ALL
    return Permissions(
        [
            {
                "Statement": [
                    {"Effect": "Allow", "Action": ASSUME_ROLE, "Resource": "*"},
                    {"Effect": "Allow", "Action": [PUT_EVENTS, DESCRIBE_BUS], "Resource": tuple(buses)},
                ]
            }
        ]
    )


def _applies(statement: _TrustStatement, caller: Principal, external_id: str | None) -> bool:
    condition = statement.condition
    return (
        _matches_action(statement.action, ASSUME_ROLE)
        and (statement.principal == "*" or any(_names(name, caller) for name in statement.principal.aws))
        and (condition is None or external_id in condition.string_equals.external_ids)
    )


def _names(principal: str, caller: Principal) -> bool:
    """Whether a Principal element names this caller: as anyone, by its account, or by an ARN of its own."""
    account = principal.split(":")[4] if principal.endswith(":root") and principal.count(":") > 4 else principal  # noqa: PLR2004 - an ARN's fields
    return principal == "*" or account == caller.account or principal in caller.arns


def _matches_action(patterns: Iterable[str], action: str) -> bool:
    return any(fnmatchcase(action.lower(), pattern.lower()) for pattern in patterns)


def _read(kind: type[_T], document: Any, name: str) -> _T:
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise FieldError.of(error, name) from error


ALLOW_ALL: Final = Permissions([{"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}])
TRUST_ALL: Final = TrustPolicy({"Statement": [{"Effect": "Allow", "Principal": "*", "Action": ASSUME_ROLE}]})
