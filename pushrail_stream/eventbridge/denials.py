"""Denials: whose fault it is that AssumeRole is denied, the role's or our own identity's.

STS says AccessDenied for both: a trust policy that does not let us in, and an identity of ours that may not call
AssumeRole. One role cannot be told apart from that; many can. When the last roles that were met anew, of several
accounts, were all denied and none was granted meanwhile, the fault is taken to be ours until one is.

A refusal of PutEvents without AWS's own error comes from a proxy or a firewall, which treats all customers alike. When
several destinations get it and none is answered meanwhile, the fault is ours too.
"""

from __future__ import annotations

from typing import Final, final

ROLES: Final = 5
"""Denied one after the other, with none granted between them."""
ACCOUNTS: Final = 2
"""Whose roles these must be: one customer's trust policies may all be wrong."""


@final
class Denials:
    """What AssumeRole said of each role last."""

    __slots__ = ("_denied", "_lately")

    def __init__(self) -> None:
        self._denied: set[str] = set()
        self._lately: set[str] = set()
        """Denied since a role was last granted, and not denied the time before: a broken role that is probed again and
        again says nothing new."""

    def granted(self, role_arn: str) -> None:
        """This role was assumed: our identity may call AssumeRole."""
        self._denied.discard(role_arn)
        self._lately.clear()

    def forget(self, role_arn: str) -> None:
        """No document names this role any more, or another one does: its next denial counts as new."""
        self._denied.discard(role_arn)
        self._lately.discard(role_arn)

    def denied(self, role_arn: str) -> bool:
        """This role was denied; whether that is our own fault."""
        if role_arn not in self._denied:
            self._denied.add(role_arn)
            self._lately.add(role_arn)
        return len(self._lately) >= ROLES and len({arn.split(":")[4] for arn in self._lately}) >= ACCOUNTS


SEVERAL: Final = 2
"""Destinations whose calls a proxy or firewall must refuse before that counts as our own fault."""


@final
class RefusalsOnTheWay:
    """The destinations that a proxy or firewall has refused since AWS last answered a call to this endpoint."""

    __slots__ = ("_refused",)

    def __init__(self) -> None:
        self._refused: set[str] = set()

    def answered(self) -> None:
        """AWS answered a call to this endpoint."""
        self._refused.clear()

    def refused(self, destination_id: str) -> bool:
        """A call for this destination was refused on the way; whether that is our own fault."""
        if len(self._refused) < SEVERAL:
            self._refused.add(destination_id)
        return len(self._refused) >= SEVERAL
