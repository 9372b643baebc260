"""IAM policies as values: statements, and the decision that follows from them (IAM User Guide, "Policy evaluation")."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Final, Literal, NamedTuple

PUT_EVENTS: Final = "events:PutEvents"
DESCRIBE_BUS: Final = "events:DescribeEventBus"
ASSUME_ROLE: Final = "sts:AssumeRole"

Decision = Literal["allow", "deny", "none"]
"""``deny``: a statement denies explicitly. ``none``: no statement says anything."""


class Statement(NamedTuple):
    """One statement of a policy. Patterns are IAM's, with ``*`` and ``?``."""

    effect: Literal["Allow", "Deny"]
    actions: tuple[str, ...]
    resources: tuple[str, ...] = ("*",)
    principals: tuple[str, ...] = ("*",)
    """Resource policies: ARNs or account ids."""


def allow(actions: str | Sequence[str], resources: str | Sequence[str] = "*", principal: str = "*") -> Statement:
    """A statement that allows."""
    return Statement("Allow", _texts(actions), _texts(resources), (principal,))


def deny(actions: str | Sequence[str], resources: str | Sequence[str] = "*", principal: str = "*") -> Statement:
    """A statement that denies."""
    return Statement("Deny", _texts(actions), _texts(resources), (principal,))


def decide(statements: Iterable[Statement], action: str, resource: str, principal: str = "*") -> Decision:
    """The decision of one policy about an action on a resource. An explicit denial wins."""
    found: Decision = "none"
    for one in statements:
        if _covers(one.actions, action) and _covers(one.resources, resource) and _names(one.principals, principal):
            if one.effect == "Deny":
                return "deny"
            found = "allow"
    return found


@lru_cache(4096)
def session_policy(document: str) -> tuple[Statement, ...]:
    """The statements of a session policy. Raises ``ValueError`` for a document that is none."""
    try:
        found = json.loads(document)["Statement"]
        return tuple(
            Statement(one["Effect"], _texts(one["Action"]), _texts(one["Resource"]))
            for one in ([found] if isinstance(found, dict) else found)
        )
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"no policy: {error}") from error


def _texts(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _covers(patterns: tuple[str, ...], text: str) -> bool:
    return any(pattern in {"*", text} or fnmatchcase(text, pattern) for pattern in patterns)


def _names(principals: tuple[str, ...], principal: str) -> bool:
    account = principal.split(":")[4] if principal.startswith("arn:") else principal
    return any(one in {"*", principal, account} or one.endswith(f":{account}:root") for one in principals)
