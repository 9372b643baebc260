"""Error codes: the meaning of EventBridge's and STS's replies, as outcomes of the core.

The table follows the API references of EventBridge and STS, the botocore service models and recorded replies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple

from pushrail_stream.core.batch import Batch
from pushrail_stream.core.outcome import (
    BUS_NOT_FOUND,
    Blocked,
    BusStatus,
    CallResult,
    Delivered,
    Outcome,
    Refresh,
    Rejected,
    Reply,
    Retryable,
    Split,
    Throttled,
    TooLarge,
    Verdict,
)
from pushrail_stream.core.text import safe_message
from pushrail_stream.eventbridge.entry import RegionLimits


class EntryResult(NamedTuple):
    """One element of ``Entries`` in a reply: an event id, or a code and a message; nothing in a broken reply."""

    event_id: str | None
    code: str | None
    message: str | None


class Answered(NamedTuple):
    """The reply to a call with a result for each entry (HTTP 200)."""

    entries: tuple[Delivered | EntryResult, ...]
    """`Delivered` for a result that has an event id and nothing else, as most have."""
    http_status: int
    request_id: str | None


Operation = Literal["PutEvents", "DescribeEventBus", "AssumeRole", "GetCallerIdentity", "Credentials"]


class CallFailed(NamedTuple):
    """The call as a whole failed. ``http_status`` is None when no reply came: the outcome is then unknown."""

    operation: Operation
    code: str
    message: str
    http_status: int | None = None
    request_id: str | None = None

    @property
    def is_not_from_aws(self) -> bool:
        """Whether a redirect or refusal came without AWS's own error: a proxy or firewall answered instead of AWS.

        HTTP 413, 429 and 5xx do not count: from a proxy they mean the same as from AWS.
        """
        status = self.http_status or 0
        is_refusal = _HTTP_REDIRECT <= status < _HTTP_FAILED and status not in {_HTTP_TOO_LARGE, _HTTP_TOO_MANY}
        return is_refusal and self.code == str(status)


CallReply = Answered | CallFailed

CREDENTIALS_MISSING: Final = "CredentialsMissing"
"""The destination has no usable credentials, so no call was made."""
BASE_CREDENTIALS_MISSING: Final = "BaseCredentialsMissing"
"""We have no credentials of our own to call STS with."""
AWS_SETTINGS_UNUSABLE: Final = "AwsSettingsUnusable"
"""Our own settings of AWS's library (region, config file, CA bundle) cannot be used, so no call was made."""
BASE_CREDENTIALS_DENIED: Final = "BaseCredentialsDenied"
"""AssumeRole was denied for roles of several customers and granted for none: our identity may not call it."""
SEALING_KEY_MISSING: Final = "SealingKeyMissing"
"""We lack the key that decrypts the destination's sealed secret."""
UNKNOWN_RESULT: Final = "UnknownResult"
"""The reply says nothing about the entry."""
OUR_POLICY_DENIED: Final = "OurPolicyDenied"
"""A policy of ours denied the call: that of our VPC endpoint, or the one we give a role's session."""
OWN_IDENTITY_DENIED: Final = "OwnIdentityDenied"
"""Our own account or identity may not make the call, which our own credentials sign."""
BUS_KEY_DENIED: Final = "BusKeyDenied"
"""The bus is there and its policies allow the call, but its KMS key cannot be used: the owner of the key must act."""
REFUSED_BEFORE_AWS: Final = "RefusedBeforeAws"
"""Several destinations were refused without AWS's own error: a proxy or firewall on our side answers for AWS."""

# Codes are written here without AWS's suffix "Exception": most exist with it and without (`_name_of`).
_ENTRY_REJECTED: Final = frozenset({"MalformedDetail", "InvalidArgument", "InvalidInput", "RedactionFailure"})
_ENTRY_BLOCKED: Final = frozenset(
    {"NotAuthorizedForSource", "NotAuthorizedForDetailType", "AccessDenied", "InvalidAccountId", BUS_KEY_DENIED}
)
_CALL_INVALID: Final = frozenset({"Validation", "ValidationError", "InvalidInput", "Serialization"})
_OVER_THE_LIMIT: Final = "Total size of the entries in the request is over the limit"
"""The message of PutEvents about a request that is too large; its code is ValidationException."""
_CALL_THROTTLED: Final = frozenset({"Throttling", "TooManyRequests", "RequestLimitExceeded", "SlowDown"})
_CALL_BLOCKED: Final = frozenset(
    {
        "AccessDenied",
        "NotAuthorized",
        "ResourceNotFound",
        "OptInRequired",
        "RegionDisabled",
        CREDENTIALS_MISSING,
        BUS_NOT_FOUND,
        BUS_KEY_DENIED,
    }
)
_DENIED: Final = frozenset({"AccessDenied", "NotAuthorized"})
"""These may concern only the session that signed the call."""
_OF_OUR_ACCOUNT: Final = _DENIED | {"OptInRequired", "RegionDisabled", "OperationDisabled"}
"""These concern the account and the identity whose credentials sign the call."""
_CREDENTIALS_REFUSED: Final = frozenset(
    {
        "ExpiredToken",
        "UnrecognizedClient",
        "InvalidClientTokenId",
        "InvalidSignature",
        "SignatureDoesNotMatch",
        "IncompleteSignature",
        "MissingAuthenticationToken",
    }
)
_CHECK_JUDGED: Final[Mapping[str, BusStatus]] = {"ResourceNotFound": "gone", "AccessDenied": "denied"}
"""The refusals of DescribeEventBus that tell something about the bus."""
_CLOCK: Final = ("signature expired", "signature not yet current")
_OUR_POLICY: Final = re.compile(r"\b(?:no|explicit deny in a) (?:VPC endpoint|session) policy\b", re.IGNORECASE)
"""The name of the denying policy in a message (IAM User Guide, "Troubleshoot access denied error messages")."""
_BUS_KEY: Final = re.compile(r"\bKMS_[A-Z]|\bkms:[A-Z]")
"""The text by which AWS tells that a bus's key was denied, and not the call ("Encrypting events on a Custom Event Bus",
EventBridge User Guide)."""
_CALL_OURS: Final = frozenset({"RequestExpired", "UnknownOperation", OUR_POLICY_DENIED, REFUSED_BEFORE_AWS})
"""Our clock, our endpoint, our policy, our proxy."""
_ROLE_BLOCKED: Final = frozenset({"AccessDenied", "ValidationError", "RegionDisabled"})
_ROLE_OURS: Final = (
    _CALL_OURS
    | _CREDENTIALS_REFUSED
    | {
        BASE_CREDENTIALS_MISSING,
        BASE_CREDENTIALS_DENIED,
        AWS_SETTINGS_UNUSABLE,
        SEALING_KEY_MISSING,
        OWN_IDENTITY_DENIED,
        "MalformedPolicyDocument",
        "PackedPolicyTooLarge",
    }
)
_HTTP_REDIRECT: Final = 300
_HTTP_TOO_LARGE: Final = 413
_HTTP_TOO_MANY: Final = 429
_HTTP_FAILED: Final = 500


def is_our_fault(code: str) -> bool:
    """Whether a delivery waits for a retry by our own fault when its last attempt failed with this code.

    The same codes are the destination's fault when they concern its own key pair. Then nothing waits for a retry.
    """
    return _name_of(code) in _ROLE_OURS


def judge(reply: CallReply, entries: int, *, assumed_role: bool, refreshed: bool) -> Verdict:
    """The meaning of a reply for each of the call's ``entries`` entries.

    ``assumed_role``: a role's session signed the call, or our own credentials did, which change too.
    ``refreshed``: they have just replaced refused ones, so that there are no newer ones.
    """
    match reply:
        case Answered(results):
            # Results are matched by position. A shorter reply leaves the rest without one; a longer one answers
            # another call.
            known = [
                result if isinstance(result, Delivered) else _judge_entry(result)
                for result in (results if len(results) <= entries else ())
            ]
            if assumed_role and not refreshed and (denial := _denial_of_all(known)):
                return Refresh(denial.code, denial.message)
            if len(known) < entries:
                unknown = Retryable(UNKNOWN_RESULT, f"the reply has {len(results)} results for {entries} entries")
                known += [unknown] * (entries - len(known))
            return tuple(known)
        case CallFailed(operation="PutEvents"):
            verdict = _judge_call(reply, entries, assumed_role=assumed_role, refreshed=refreshed)
        case CallFailed():  # pragma: no branch - mypy proves that there is no third case
            verdict = _judge_sign_in(reply)
    return verdict if isinstance(verdict, Split | TooLarge | Refresh) else (verdict,) * entries


def interpret(
    reply: CallReply,
    batch: Batch,
    *,
    assumed_role: bool,
    refreshed: bool,
    renew: Callable[[], bool],
    limits: RegionLimits,
) -> Reply:
    """The reply to the batch's call, in the core's words.

    ``renew`` drops the refused session and returns whether the next call has a newer one. ``limits`` learns from a
    refusal for the request's size.
    """
    entries = len(batch.deliveries)
    verdict = judge(reply, entries, assumed_role=assumed_role, refreshed=refreshed)
    if isinstance(verdict, Refresh) and not renew():
        verdict = judge(reply, entries, assumed_role=assumed_role, refreshed=True)
    if isinstance(verdict, TooLarge) and not limits.refused(batch.destination.bus, batch.size):
        verdict = Split(*verdict) if entries > 1 else (Rejected(*verdict),)
    return Reply(verdict, _result_of(reply), reply.http_status, reply.request_id)


def blame_us(reply: Reply) -> Reply:
    """The reply to a call that our own credentials signed: a denial is our own fault, never the customer's."""
    if isinstance(reply.verdict, Split | TooLarge | Refresh):
        return reply
    return reply._replace(verdict=tuple(map(_as_ours, reply.verdict)))


def _as_ours(outcome: Outcome) -> Outcome:
    if isinstance(outcome, Blocked | Retryable) and _name_of(outcome.code) in _OF_OUR_ACCOUNT:
        return Retryable(OWN_IDENTITY_DENIED, safe_message(f"{outcome.code}: {outcome.message}"), is_our_fault=True)
    return outcome


def _result_of(reply: CallReply) -> CallResult:
    if isinstance(reply, Answered):
        return "answered"
    if reply.operation != "PutEvents":
        return "not_made"
    return "invalid" if _name_of(reply.code) in _CALL_INVALID else "failed"


def judge_check(failed: CallFailed | None) -> BusStatus:
    """Whether the bus exists, by the reply to DescribeEventBus. ``failed`` is None when the reply named the bus."""
    if failed is None:
        return "there"
    name = _name_of(failed.code)
    if name in _CHECK_JUDGED:
        return _CHECK_JUDGED[name]
    return "busy" if _is_throttling(name) or failed.http_status == _HTTP_TOO_MANY else "unknown"


def _judge_entry(result: EntryResult) -> Outcome:
    if not result.code:
        if result.event_id:
            return Delivered(result.event_id)
        return Retryable(UNKNOWN_RESULT, "the entry's result has neither EventId nor ErrorCode")
    message = safe_message(result.message or "")
    code = own_code(result.code, message)
    name = _name_of(code)
    if name in _ENTRY_REJECTED:
        return Rejected(code, message)
    if name in _ENTRY_BLOCKED:
        return Blocked(code, message)
    if _is_throttling(name):
        return Throttled(code, message)
    # InternalFailure and similar codes, and codes that are new: the entry may be sent again.
    return Retryable(code, message)


def _denial_of_all(outcomes: list[Outcome]) -> Blocked | None:
    """The first entry's denial when every entry was denied; else None."""
    first = outcomes[0] if outcomes else None
    if isinstance(first, Blocked) and all(
        isinstance(one, Blocked) and _name_of(one.code) in _DENIED for one in outcomes
    ):
        return first
    return None


def _judge_call(
    failed: CallFailed, entries: int, *, assumed_role: bool, refreshed: bool
) -> Outcome | Split | TooLarge | Refresh:
    message, status = safe_message(failed.message), failed.http_status
    code = own_code(failed.code, message)
    name = _name_of(code)
    if name in _CALL_INVALID and _OVER_THE_LIMIT in message:
        return TooLarge(code, message)
    if name in _CALL_INVALID or status == _HTTP_TOO_LARGE:
        return Split(code, message) if entries > 1 else Rejected(code, message)
    if _is_throttling(name) or status == _HTTP_TOO_MANY:
        return Throttled(code, message)
    if ours := _our_fault(name, code, message):
        return ours
    if name in _CREDENTIALS_REFUSED:
        return _judge_credentials(code, message, assumed_role=assumed_role, refreshed=refreshed)
    if name in _DENIED and assumed_role and not refreshed:
        # The customer may have revoked the role's sessions or recreated the role: a new session may be accepted.
        return Refresh(code, message)
    if name in _CALL_BLOCKED:
        return Blocked(code, message)
    # 5xx, time-outs, broken connections, answers that are not AWS's, and unknown codes.
    return Retryable(code, message)


def _our_fault(name: str, code: str, message: str) -> Retryable | None:
    """The outcome of a call that failed because of our own clock, endpoint, proxy or policy; else None."""
    if name in _CALL_OURS or (name in _CREDENTIALS_REFUSED and message.lower().startswith(_CLOCK)):
        return Retryable(code, message, is_our_fault=True)
    if name == "AccessDenied" and _OUR_POLICY.search(message):
        return Retryable(OUR_POLICY_DENIED, message, is_our_fault=True)
    return None


def own_code(code: str, message: str) -> str:
    """AWS's code, or ours for a denial that concerns the bus's key: a new session would be denied as well."""
    is_of_key = _name_of(code) == "AccessDenied" and _BUS_KEY.search(message) and not _OUR_POLICY.search(message)
    return BUS_KEY_DENIED if is_of_key else code


def _judge_credentials(code: str, message: str, *, assumed_role: bool, refreshed: bool) -> Outcome | Refresh:
    """Ours is a new session that AWS does not accept: it is expired where AWS's clock and ours differ by an hour."""
    if not assumed_role:
        return Blocked(code, message)
    return Retryable(code, message, is_our_fault=True) if refreshed else Refresh(code, message)


def _judge_sign_in(failed: CallFailed) -> Outcome:
    code, message = failed.code, safe_message(failed.message)
    name = _name_of(code)
    if failed.operation == "Credentials" and name in _CALL_BLOCKED:
        return Blocked(code, message)
    if ours := _our_fault(name, code, message):
        return ours
    if name in _ROLE_OURS:
        return Retryable(code, message, is_our_fault=True)
    if name in _ROLE_BLOCKED:
        return Blocked(code, message)
    if _is_throttling(name) or failed.http_status == _HTTP_TOO_MANY:
        return Throttled(code, message)
    return Retryable(code, message)


def _name_of(code: str) -> str:
    """An error code without "Exception": AWS spells most codes both ways."""
    return code.removesuffix("Exception")


def _is_throttling(name: str) -> bool:
    return name in _CALL_THROTTLED or name.startswith("RequestThrottled")
