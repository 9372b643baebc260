"""STS: AssumeRole and GetCallerIdentity over the query protocol. The bus knows the sessions that are issued here."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from random import Random
from typing import Final
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from pushrail_stream.sandbox.bus.backend import Backend
from pushrail_stream.sandbox.bus.entries import invalid
from pushrail_stream.sandbox.bus.identity import Credential, Role, role_parts
from pushrail_stream.sandbox.bus.injector import CallView
from pushrail_stream.sandbox.bus.ledger import Assumed
from pushrail_stream.sandbox.bus.policies import ASSUME_ROLE, Principal
from pushrail_stream.sandbox.bus.replies import ErrorStyle, xml_error, xml_result
from pushrail_stream.sandbox.bus.signature import Unauthenticated
from pushrail_stream.sandbox.bus.wire import Reply, Request

_STYLE: Final = ErrorStyle(
    xml_error,
    {
        "missing": (403, "MissingAuthenticationToken"),
        "incomplete": (400, "IncompleteSignature"),
        "unknown": (403, "InvalidClientTokenId"),
        "expired": (403, "ExpiredToken"),
        "signature": (403, "SignatureDoesNotMatch"),
    },
)
_SESSION_NAME: Final = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_EXTERNAL_ID: Final = re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII)
_PATTERN: Final = "satisfy regular expression pattern"
_MIN_SECS: Final = 900
_MAX_SECS: Final = 43200
_CHAINED_SECS: Final = 3600
"""The longest session that a role's own session may ask for (AssumeRole, STS API Reference: role chaining)."""
_INT32_DIGITS: Final = 9
_TOKEN_BITS: Final = 3200
"""As long as AWS's tokens usually are, since signing costs the client more for a longer token."""
_BASE32: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


class StsService:
    """Handles query-protocol requests."""

    def __init__(self, backend: Backend, rng: Random) -> None:
        self._backend = backend
        self._rng = rng

    def handle(self, request: Request) -> Reply:
        """Answer one request."""
        request_id = self._backend.ids.next()
        form = dict(parse_qsl((request.body or request.query.encode()).decode("latin-1"), encoding="utf-8"))
        action = form.get("Action", "")
        if action not in {"AssumeRole", "GetCallerIdentity"}:
            text = f"Could not find operation {action} for version 2011-06-15"
            return xml_error(400, "InvalidAction", text, request_id)
        asked = _asked(form, self._backend.clock())
        caller = self._backend.verifier.verify(request, "sts")
        if isinstance(caller, Unauthenticated):
            reply = _STYLE.refuse(caller, request_id)
            return self._note(asked, reply) if action == "AssumeRole" else reply
        if action == "AssumeRole":
            return self._assume(asked, caller.credential, request_id)
        return self._identity(caller.credential, request_id)

    def _identity(self, credential: Credential, request_id: str) -> Reply:
        self._backend.ledger.counter["getCallerIdentity"] += 1
        view = CallView("GetCallerIdentity", credential.access_key, credential.role_arn)
        injected = self._backend.inject(view, request_id, _STYLE)
        result = (
            f"<Arn>{escape(credential.arn)}</Arn><UserId>{credential.access_key}</UserId>"
            f"<Account>{credential.account}</Account>"
        )
        return injected.finish(injected.reply or xml_result("GetCallerIdentity", result, request_id))

    def _assume(self, asked: Assumed, base: Credential, request_id: str) -> Reply:
        injected = self._backend.inject(CallView("AssumeRole", base.access_key, asked.role_arn), request_id, _STYLE)
        asked = asked._replace(access_key=base.access_key, fault=injected.fault.label)
        reply = injected.reply
        if reply is None:
            role = self._admit(asked, base)
            if isinstance(role, Role):
                issued = self._issue(role, asked)
                asked = asked._replace(issued_key=issued.access_key)
                reply = xml_result("AssumeRole", _issued_xml(issued, asked.session_name), request_id)
            else:
                reply = xml_error(*role, request_id)
        return self._note(asked, injected.finish(reply))

    def _admit(self, asked: Assumed, base: Credential) -> Role | tuple[int, str, str]:
        """Return the role, or status, code and message of the refusal."""
        wrong = _parameter_fault(asked)
        if wrong is not None:
            return 400, "ValidationError", wrong
        role = self._backend.directory.role(asked.role_arn)
        caller = Principal(base.account, (base.arn, base.role_arn))
        # AWS gives the same answer for a missing role, a wrong external ID and a lack of permission.
        if (
            role is None
            or not role.trust.allows(caller, asked.external_id)
            or not base.permissions.allow(ASSUME_ROLE, role.arn)
        ):
            text = f"User: {base.arn} is not authorized to perform: sts:AssumeRole on resource: {asked.role_arn}"
            return 403, "AccessDenied", text
        if asked.duration_secs > role.max_session_secs:
            text = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
            return 400, "ValidationError", text
        if base.role_arn and asked.duration_secs > _CHAINED_SECS:
            text = "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"
            return 400, "ValidationError", text
        return role

    def _issue(self, role: Role, asked: Assumed) -> Credential:
        account, name = role_parts(role.arn) or ("", "")
        credential = Credential(
            access_key="ASIA" + "".join(self._rng.choices(_BASE32, k=16)),
            secret=f"{self._rng.getrandbits(160):040x}",
            account=account,
            arn=f"arn:{role.arn.split(':')[1]}:sts::{account}:assumed-role/{name}/{asked.session_name}",
            permissions=role.permissions,
            session_token=f"{self._rng.getrandbits(_TOKEN_BITS):0{_TOKEN_BITS // 4}x}",
            expires_at=self._backend.clock() + asked.duration_secs,
            role_arn=role.arn,
        )
        self._backend.directory.add_credential(credential)
        return credential

    def _note(self, asked: Assumed, reply: Reply) -> Reply:
        is_error = reply.status >= 400  # noqa: PLR2004 - HTTP's own number
        code = (reply.error_type or str(reply.status)) if is_error else ""
        self._backend.ledger.note_assumed(asked._replace(status=reply.status, code=code))
        return reply


def _asked(form: dict[str, str], now: float) -> Assumed:
    """Return the record of a request, without the answer."""
    seconds = form.get("DurationSeconds", "3600")
    is_int32 = seconds.isascii() and seconds.isdigit() and len(seconds) <= _INT32_DIGITS
    return Assumed(
        at=now,
        role_arn=form.get("RoleArn", ""),
        external_id=form.get("ExternalId"),
        session_name=form.get("RoleSessionName", ""),
        duration_secs=int(seconds) if is_int32 else 0,
        policy=form.get("Policy"),
    )


def _parameter_fault(asked: Assumed) -> str | None:
    if role_parts(asked.role_arn) is None:
        return f"{asked.role_arn} is invalid"
    if _SESSION_NAME.fullmatch(asked.session_name) is None:
        return invalid(f"'{asked.session_name}'", "roleSessionName", rf"{_PATTERN}: [\w+=,.@-]*").message
    if asked.external_id is not None and _EXTERNAL_ID.fullmatch(asked.external_id) is None:
        return invalid(f"'{asked.external_id}'", "externalId", rf"{_PATTERN}: [\w+=,.@:\/-]*").message
    if not _MIN_SECS <= asked.duration_secs <= _MAX_SECS:
        bound = f"have value greater than or equal to {_MIN_SECS} and less than or equal to {_MAX_SECS}"
        return invalid(f"'{asked.duration_secs}'", "durationSeconds", bound).message
    return None


def _issued_xml(issued: Credential, session_name: str) -> str:
    expires = datetime.fromtimestamp(issued.expires_at or 0.0, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return (
        f"<AssumedRoleUser><AssumedRoleId>AROASANDBOX:{session_name}</AssumedRoleId><Arn>{escape(issued.arn)}</Arn>"
        f"</AssumedRoleUser><Credentials><AccessKeyId>{issued.access_key}</AccessKeyId>"
        f"<SecretAccessKey>{issued.secret}</SecretAccessKey><SessionToken>{issued.session_token}</SessionToken>"
        f"<Expiration>{expires}</Expiration></Credentials>"
    )
