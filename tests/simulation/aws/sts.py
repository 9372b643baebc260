"""STS: AssumeRole and GetCallerIdentity, over the query protocol."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final
from xml.sax.saxutils import escape

from tests.simulation.aws.accounts import Credential, Role
from tests.simulation.aws.answers import Answer, xml_answer, xml_error
from tests.simulation.aws.permissions import denial
from tests.simulation.aws.policies import ASSUME_ROLE, decide, session_policy
from tests.simulation.aws.policies import Statement as PolicyStatement
from tests.simulation.aws.records import Blame, Call
from tests.simulation.aws.state import State

_ROLE: Final = re.compile(r"arn:aws[\w-]*:iam::[0-9]{12}:role/(?:[\x21-\x7e]*/)?[\w+=,.@-]+", re.ASCII)
_SESSION_NAME: Final = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_EXTERNAL_ID: Final = re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII)
_MIN_SECS: Final = 900
_MAX_SECS: Final = 43_200
_MAX_POLICY: Final = 2048
"""Characters of a session policy (STS service model)."""


class StsService:
    """Carries calls out on the state of AWS."""

    def __init__(self, state: State) -> None:
        self._state = state

    def caller_identity(self, call: Call, who: Credential) -> Answer:
        """Answer GetCallerIdentity, which needs no permission."""
        if not self._state.quotas.take(who.account, call.region, "GetCallerIdentity", call.at):
            return self._throttled(call)
        result = f"<Arn>{escape(who.arn)}</Arn><UserId>{who.access_key}</UserId><Account>{who.account}</Account>"
        return xml_answer("GetCallerIdentity", result, self._state.new_id())

    def assume_role(self, form: dict[str, str], call: Call, who: Credential) -> Answer:
        """Answer AssumeRole, and open a session when it is allowed."""
        if not self._state.quotas.take(who.account, call.region, "AssumeRole", call.at):
            return self._throttled(call)
        problem = _problem(form)
        if problem:
            return self._refuse(call, "customer", 400, "ValidationError", problem)
        role = self._admitted(form, call, who)
        if isinstance(role, Answer):
            return role
        policy: tuple[PolicyStatement, ...] | None = None
        if "Policy" in form:
            try:
                policy = session_policy(form["Policy"])
            except ValueError as error:
                return self._refuse(call, "ours", 400, "MalformedPolicyDocument", str(error))
        secs = int(form.get("DurationSeconds", "3600"))
        if secs > role.max_session_secs:
            text = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
            return self._refuse(call, "customer", 400, "ValidationError", text)
        session = self._state.accounts.issue(role, form["RoleSessionName"], self._state.clock(), secs, policy)
        call.issued_key = session.access_key
        return xml_answer("AssumeRole", _session_xml(session, form["RoleSessionName"]), self._state.new_id())

    def _admitted(self, form: dict[str, str], call: Call, who: Credential) -> Role | Answer:
        """The role; AWS gives one answer for a missing role, a wrong external ID and a lack of permission."""
        arn = form["RoleArn"]
        role = self._state.accounts.roles.get(arn)
        own = decide(self._state.accounts.permissions.get(who.arn, ()), ASSUME_ROLE, arn)
        trusts = role is not None and _trusts(role, who, form.get("ExternalId"))
        if role is not None and trusts and denial(self._state.accounts, who, ASSUME_ROLE, arn) is None:
            return role
        blame: Blame = "ours" if own != "allow" else "customer"
        text = f"User: {who.arn} is not authorized to perform: sts:AssumeRole on resource: {arn}"
        return self._refuse(call, blame, 403, "AccessDenied", text)

    def _throttled(self, call: Call) -> Answer:
        self._state.count(f"quota:{call.api}")
        return self._refuse(call, "aws", 400, "Throttling", "Rate exceeded")

    def _refuse(self, call: Call, blame: Blame, status: int, code: str, message: str) -> Answer:
        call.blame, call.code = blame, code
        return xml_error(status, code, message, self._state.new_id())


def _trusts(role: Role, who: Credential, external_id: str | None) -> bool:
    names = {"*", who.account, who.arn, f"arn:aws:iam::{who.account}:root"}
    return bool(names.intersection(role.trusted)) and role.external_id in {None, external_id}


def _problem(form: dict[str, str]) -> str:
    """The constraint of the service model that a request violates."""
    seconds = form.get("DurationSeconds", "3600")
    rules = (
        ("roleArn", _ROLE.fullmatch(form.get("RoleArn", ""))),
        ("roleSessionName", _SESSION_NAME.fullmatch(form.get("RoleSessionName", ""))),
        ("externalId", "ExternalId" not in form or _EXTERNAL_ID.fullmatch(form["ExternalId"])),
        ("policy", len(form.get("Policy", "")) <= _MAX_POLICY),
        ("durationSeconds", seconds.isdigit() and _MIN_SECS <= int(seconds) <= _MAX_SECS),
    )
    wrong = next((name for name, holds in rules if not holds), "")
    return wrong and f"1 validation error detected: Value at '{wrong}' failed to satisfy constraint"


def _session_xml(session: Credential, name: str) -> str:
    expires = datetime.fromtimestamp(session.expires_at or 0.0, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return (
        f"<AssumedRoleUser><AssumedRoleId>AROASIM:{name}</AssumedRoleId><Arn>{escape(session.arn)}</Arn>"
        f"</AssumedRoleUser><Credentials><AccessKeyId>{session.access_key}</AccessKeyId>"
        f"<SecretAccessKey>{session.secret}</SecretAccessKey><SessionToken>{session.session_token}</SessionToken>"
        f"<Expiration>{expires}</Expiration></Credentials>"
    )
