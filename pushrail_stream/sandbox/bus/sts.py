"""STS's side: AssumeRole and GetCallerIdentity over the query protocol, with sessions the bus then knows."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from pushrail_stream.sandbox.bus.faults import Garbage, ResetAfter
from pushrail_stream.sandbox.bus.identity import Credential, Role, role_parts
from pushrail_stream.sandbox.bus.injector import Subject
from pushrail_stream.sandbox.bus.ledger import Assumed, Ledger
from pushrail_stream.sandbox.bus.policies import ASSUME_ROLE, Principal
from pushrail_stream.sandbox.bus.replies import Ids, struck, xml_error, xml_result
from pushrail_stream.sandbox.bus.signature import AuthFault, Unauthenticated, Verifier
from pushrail_stream.sandbox.bus.wire import Reply, Request

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from pushrail_stream.sandbox.bus.identity import Directory
    from pushrail_stream.sandbox.bus.injector import Injector

_EXPIRED = (403, "ExpiredToken")
_AUTH_ERRORS: dict[AuthFault, tuple[int, str]] = {
    "missing": (403, "MissingAuthenticationToken"),
    "incomplete": (400, "IncompleteSignature"),
    "unknown": (403, "InvalidClientTokenId"),
    "expired": _EXPIRED,
    "signature": (403, "SignatureDoesNotMatch"),
}
_SESSION_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_EXTERNAL_ID = re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII)
_MIN_SECS = 900
_MAX_SECS = 43200
_CHAINED_SECS = 3600
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


class _Ask(NamedTuple):
    """The parameters of one AssumeRole request."""

    role_arn: str
    external_id: str | None
    session_name: str
    duration_secs: int
    policy: str | None


class StsService:
    """Handles query-protocol requests. ``session_secs`` overrides how long issued sessions last, whatever was asked."""

    def __init__(
        self,
        *,
        directory: Directory,
        verifier: Verifier,
        injector: Injector,
        ledger: Ledger,
        ids: Ids,
        clock: Callable[[], float],
        dice: Random,
        session_secs: float | None,
    ) -> None:
        self._directory = directory
        self._verifier = verifier
        self._injector = injector
        self._ledger = ledger
        self._ids = ids
        self._clock = clock
        self._dice = dice
        self._session_secs = session_secs

    def handle(self, request: Request) -> Reply:
        """Answer one request."""
        request_id = self._ids.next()
        form = dict(parse_qsl((request.body or request.query.encode()).decode("latin-1"), encoding="utf-8"))
        action = form.get("Action", "")
        if action not in {"AssumeRole", "GetCallerIdentity"}:
            return xml_error(
                400, "InvalidAction", f"Could not find operation {action} for version 2011-06-15", request_id
            )
        caller = self._verifier.verify(request, "sts")
        if isinstance(caller, Unauthenticated):
            status, code = _AUTH_ERRORS[caller.fault]
            reply = xml_error(status, code, caller.message, request_id)
            if action == "AssumeRole":
                self._note(_ask(form), reply, code, access_key="")
            return reply
        if action == "AssumeRole":
            return self._assume(_ask(form), caller.credential, request_id)
        return self._identity(caller.credential, request_id)

    def _identity(self, credential: Credential, request_id: str) -> Reply:
        self._ledger.counter["getCallerIdentity"] += 1
        strike = self._injector.strike_call(
            Subject("GetCallerIdentity", credential.access_key, credential.role_arn, ())
        )
        reply = None if strike.effect is None else struck(strike.effect, request_id, xml_error, _EXPIRED)
        if isinstance(strike.effect, ResetAfter | Garbage) and reply is None:
            reply = Reply(0, action="abort")
        if reply is None:
            result = (
                f"<Arn>{escape(credential.arn)}</Arn><UserId>{credential.access_key}</UserId>"
                f"<Account>{credential.account}</Account>"
            )
            reply = xml_result("GetCallerIdentity", result, request_id)
        return reply._replace(delay_secs=strike.delay_secs)

    def _assume(self, ask: _Ask, base: Credential, request_id: str) -> Reply:
        strike = self._injector.strike_call(Subject("AssumeRole", base.access_key, ask.role_arn, ()))
        reply = None if strike.effect is None else struck(strike.effect, request_id, xml_error, _EXPIRED)
        issued = None
        if reply is not None:
            code = "" if reply.status in {0, 200} else _code_of(reply)
        else:
            role = self._admit(ask, base)
            if isinstance(role, Role):
                issued, code = self._issue(role, ask), ""
                reply = xml_result("AssumeRole", _issued_xml(issued, ask.session_name), request_id)
            else:
                status, code, message = role
                reply = xml_error(status, code, message, request_id)
        if isinstance(strike.effect, ResetAfter):
            reply = Reply(0, action="abort")
        self._note(
            ask,
            reply,
            code,
            access_key=base.access_key,
            issued_key=issued.access_key if issued is not None else None,
            fault=strike.label,
        )
        return reply._replace(delay_secs=strike.delay_secs)

    def _admit(self, ask: _Ask, base: Credential) -> Role | tuple[int, str, str]:
        wrong = _parameter_fault(ask)
        if wrong is not None:
            return 400, "ValidationError", wrong
        role = self._directory.role(ask.role_arn)
        caller = Principal(base.account, (base.arn, base.role_arn))
        # AWS gives the same answer for a missing role, a wrong external ID and a lack of permission.
        if (
            role is None
            or not role.trust.allows(caller, ask.external_id)
            or not base.permissions.allow(ASSUME_ROLE, role.arn)
        ):
            text = f"User: {base.arn} is not authorized to perform: sts:AssumeRole on resource: {ask.role_arn}"
            return 403, "AccessDenied", text
        if ask.duration_secs > role.max_session_secs:
            return (
                400,
                "ValidationError",
                "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
            )
        if base.role_arn and ask.duration_secs > _CHAINED_SECS:
            text = "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"
            return 400, "ValidationError", text
        return role

    def _issue(self, role: Role, ask: _Ask) -> Credential:
        parts = role_parts(role.arn)
        account, name = parts if parts is not None else ("", "")
        credential = Credential(
            access_key="ASIA" + "".join(self._dice.choices(_LETTERS, k=16)),
            secret=f"{self._dice.getrandbits(160):040x}",
            account=account,
            arn=f"arn:{role.arn.split(':')[1]}:sts::{account}:assumed-role/{name}/{ask.session_name}",
            permissions=role.permissions,
            # As long as AWS's tokens usually are, since the length costs the client something.
            session_token=f"{self._dice.getrandbits(3200):0800x}",
            expires_at=self._clock() + (ask.duration_secs if self._session_secs is None else self._session_secs),
            role_arn=role.arn,
        )
        self._directory.add_credential(credential)
        return credential

    def _note(
        self,
        ask: _Ask,
        reply: Reply,
        code: str,
        *,
        access_key: str,
        issued_key: str | None = None,
        fault: str | None = None,
    ) -> None:
        self._ledger.note_assumed(
            Assumed(
                at=self._clock(),
                status=reply.status,
                code=code,
                role_arn=ask.role_arn,
                external_id=ask.external_id,
                session_name=ask.session_name,
                duration_secs=ask.duration_secs,
                policy=ask.policy,
                access_key=access_key,
                issued_key=issued_key,
                fault=fault,
            )
        )


def _ask(form: dict[str, str]) -> _Ask:
    seconds = form.get("DurationSeconds", "3600")
    return _Ask(
        role_arn=form.get("RoleArn", ""),
        external_id=form.get("ExternalId"),
        session_name=form.get("RoleSessionName", ""),
        duration_secs=int(seconds) if seconds.isascii() and seconds.isdigit() and len(seconds) < 10 else 0,  # noqa: PLR2004 - int32
        policy=form.get("Policy"),
    )


def _parameter_fault(ask: _Ask) -> str | None:
    start = "1 validation error detected: Value"
    end = "failed to satisfy constraint: Member must"
    if role_parts(ask.role_arn) is None:
        return f"{ask.role_arn} is invalid"
    if _SESSION_NAME.fullmatch(ask.session_name) is None:
        return (
            f"{start} '{ask.session_name}' at 'roleSessionName' {end} satisfy regular expression pattern: [\\w+=,.@-]*"
        )
    if ask.external_id is not None and _EXTERNAL_ID.fullmatch(ask.external_id) is None:
        return f"{start} '{ask.external_id}' at 'externalId' {end} satisfy regular expression pattern: [\\w+=,.@:\\/-]*"
    if not _MIN_SECS <= ask.duration_secs <= _MAX_SECS:
        bound = f"greater than or equal to {_MIN_SECS} and less than or equal to {_MAX_SECS}"
        return f"{start} '{ask.duration_secs}' at 'durationSeconds' {end} have value {bound}"
    return None


def _issued_xml(issued: Credential, session_name: str) -> str:
    expires = datetime.fromtimestamp(issued.expires_at or 0.0, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return (
        f"<AssumedRoleUser><AssumedRoleId>AROASANDBOX:{session_name}</AssumedRoleId><Arn>{escape(issued.arn)}</Arn>"
        f"</AssumedRoleUser><Credentials><AccessKeyId>{issued.access_key}</AccessKeyId>"
        f"<SecretAccessKey>{issued.secret}</SecretAccessKey><SessionToken>{issued.session_token}</SessionToken>"
        f"<Expiration>{expires}</Expiration></Credentials>"
    )


def _code_of(reply: Reply) -> str:
    found = re.search(rb"<Code>([^<]*)</Code>", reply.body)
    return found[1].decode() if found else str(reply.status)
