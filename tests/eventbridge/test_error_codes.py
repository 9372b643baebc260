"""The whole table of codes, row by row, and replies that break the protocol."""

from __future__ import annotations

from itertools import product
from typing import Literal, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.core.outcome import (
    Blocked,
    Delivered,
    Outcome,
    Refresh,
    Rejected,
    Retryable,
    Split,
    Throttled,
    TooLarge,
    Verdict,
)
from pushrail_stream.eventbridge.error_codes import (
    Answered,
    CallFailed,
    CallReply,
    EntryResult,
    is_our_fault,
    judge,
    judge_check,
)

Level = Literal["entry", "PutEvents", "AssumeRole", "Credentials"]
Class = Literal[
    "retryable",
    "throttled",
    "rejected",
    "blocked",
    "ours",  # retryable without end: our clock or our base credentials
    "denied",  # assumed role: a new session once; then, and with access keys, blocked
    "split",  # each entry alone; rejected when it was alone
    "credentials refused",  # assumed role: refreshed once, then ours; with access keys blocked
]


class Row(NamedTuple):
    level: Level
    code: str
    meaning: Class
    http_status: int | None = 400
    message: str = "because"


TABLE = [
    Row("entry", "ThrottlingException", "throttled"),
    Row("entry", "InternalFailure", "retryable"),
    Row("entry", "InternalException", "retryable"),
    Row("entry", "ServiceUnavailable", "retryable"),
    Row("entry", "LimitExceededException", "retryable"),
    Row("entry", "SomethingAwsThinksOfNextYear", "retryable"),
    Row("entry", "MalformedDetail", "rejected"),
    Row("entry", "InvalidArgument", "rejected"),
    Row("entry", "RedactionFailure", "rejected"),
    Row("entry", "NotAuthorizedForSourceException", "blocked"),
    Row("entry", "NotAuthorizedForDetailTypeException", "blocked"),
    Row("entry", "AccessDeniedException", "denied"),
    Row("entry", "InvalidAccountIdException", "blocked"),
    Row("PutEvents", "ThrottlingException", "throttled"),
    Row("PutEvents", "Throttling", "throttled"),
    Row("PutEvents", "TooManyRequestsException", "throttled"),
    Row("PutEvents", "RequestLimitExceeded", "throttled"),
    Row("PutEvents", "RequestThrottled", "throttled"),
    Row("PutEvents", "RequestThrottledException", "throttled"),
    Row("PutEvents", "SlowDown", "throttled", 503),
    Row("PutEvents", "429", "throttled", 429),
    Row("PutEvents", "Whatever", "throttled", 429),
    *(Row("PutEvents", str(status), "retryable", status) for status in (500, 502, 503, 504)),
    Row("PutEvents", "InternalException", "retryable", 500),
    Row("PutEvents", "InternalFailure", "retryable", 500),
    Row("PutEvents", "ServiceUnavailable", "retryable", 503),
    Row("PutEvents", "RequestTimeout", "retryable"),
    Row("PutEvents", "RequestTimeoutException", "retryable"),
    Row("PutEvents", "ConnectTimeoutError", "retryable", None),
    Row("PutEvents", "ReadTimeoutError", "retryable", None),
    Row("PutEvents", "ConnectionClosedError", "retryable", None),
    Row("PutEvents", "EndpointConnectionError", "retryable", None),
    Row("PutEvents", "UnknownResult", "retryable", 200),
    Row("PutEvents", "SomethingAwsThinksOfNextYear", "retryable"),
    Row("PutEvents", "403", "retryable", 403),
    Row("PutEvents", "404", "retryable", 404),
    Row("PutEvents", "RefusedBeforeAws", "ours", 403),
    Row("PutEvents", "RequestExpired", "ours"),
    Row("PutEvents", "UnknownOperationException", "ours", 404),
    Row("PutEvents", "AccessDeniedException", "denied", 400),
    Row("PutEvents", "AccessDeniedException", "denied", 403),
    Row("PutEvents", "AccessDenied", "denied", 403),
    Row("PutEvents", "NotAuthorized", "denied", 401),
    Row("PutEvents", "ResourceNotFoundException", "blocked"),
    Row("PutEvents", "OptInRequired", "blocked", 403),
    Row("PutEvents", "RegionDisabled", "blocked", 403),
    Row("PutEvents", "RegionDisabledException", "blocked", 403),
    # A 403 that says something else is no refusal of the destination.
    Row("PutEvents", "SomethingAwsThinksOfNextYear", "retryable", 403),
    Row("PutEvents", "ValidationException", "split"),
    Row("PutEvents", "ValidationError", "split"),
    Row("PutEvents", "SerializationException", "split"),
    Row("PutEvents", "413", "split", 413),
    Row("PutEvents", "RequestEntityTooLarge", "split", 413),
    Row("PutEvents", "ExpiredToken", "credentials refused"),
    Row("PutEvents", "ExpiredTokenException", "credentials refused"),
    Row("PutEvents", "UnrecognizedClientException", "credentials refused"),
    Row("PutEvents", "InvalidClientTokenId", "credentials refused", 403),
    Row("PutEvents", "InvalidSignatureException", "credentials refused"),
    Row("PutEvents", "SignatureDoesNotMatch", "credentials refused", 403),
    Row("PutEvents", "IncompleteSignature", "credentials refused"),
    Row("PutEvents", "IncompleteSignature", "credentials refused", 403),
    Row("PutEvents", "MissingAuthenticationToken", "credentials refused", 403),
    Row("PutEvents", "IncompleteSignatureException", "credentials refused"),
    Row("PutEvents", "MissingAuthenticationTokenException", "credentials refused"),
    Row("PutEvents", "InvalidSignature", "credentials refused", 403),
    Row("PutEvents", "InvalidSignatureException", "ours", message="Signature expired: 20260526T142108Z is now earlier"),
    Row(
        "PutEvents", "SignatureDoesNotMatch", "ours", 403, "Signature not yet current: 20260526T142108Z is still later"
    ),
    Row("AssumeRole", "AccessDenied", "blocked", 403),
    Row("AssumeRole", "ValidationError", "blocked"),
    Row("AssumeRole", "RegionDisabledException", "blocked", 403),
    Row("AssumeRole", "ExpiredToken", "ours", 403),
    Row("AssumeRole", "ExpiredTokenException", "ours", 403),
    Row("AssumeRole", "InvalidClientTokenId", "ours", 403),
    Row("AssumeRole", "SignatureDoesNotMatch", "ours", 403),
    Row("AssumeRole", "UnrecognizedClientException", "ours", 403),
    Row("AssumeRole", "IncompleteSignature", "ours"),
    Row("AssumeRole", "MissingAuthenticationToken", "ours", 403),
    Row("AssumeRole", "MalformedPolicyDocument", "ours"),
    Row("AssumeRole", "PackedPolicyTooLarge", "ours"),
    Row("AssumeRole", "RequestExpired", "ours"),
    Row("AssumeRole", "UnknownOperationException", "ours", 404),
    Row("AssumeRole", "BaseCredentialsMissing", "ours", None),
    Row("AssumeRole", "BaseCredentialsDenied", "ours", 403),
    Row("AssumeRole", "SignInsQueued", "retryable", None),
    Row("Credentials", "BaseCredentialsMissing", "ours", None),
    Row("Credentials", "AwsSettingsUnusable", "ours", None),
    Row("Credentials", "SealingKeyMissing", "ours", None),
    # Throttled is retried too, and slows the destination down, which spares the STS quota.
    Row("AssumeRole", "Throttling", "throttled"),
    Row("AssumeRole", "ThrottlingException", "throttled"),
    Row("AssumeRole", "RequestThrottled", "throttled"),
    Row("AssumeRole", "429", "throttled", 429),
    Row("AssumeRole", "500", "retryable", 500),
    Row("AssumeRole", "ServiceUnavailable", "retryable", 503),
    Row("AssumeRole", "InternalFailure", "retryable", 500),
    Row("AssumeRole", "ConnectTimeoutError", "retryable", None),
    Row("AssumeRole", "ReadTimeoutError", "retryable", None),
    Row("AssumeRole", "SomethingAwsThinksOfNextYear", "retryable"),
    # A refusal of the role says nothing about an entry: AWS's words for PutEvents do not count here.
    Row("AssumeRole", "ValidationException", "retryable"),
    Row("AssumeRole", "ResourceNotFoundException", "retryable"),
    Row("Credentials", "CredentialsMissing", "blocked", None),
    Row("Credentials", "SomethingElse", "retryable", None),
]


def reply_of(row: Row, entries: int) -> CallReply:
    if row.level == "entry":
        return Answered((EntryResult(None, row.code, row.message),) * entries, 200, "request-1")
    return CallFailed(row.level, row.code, row.message, row.http_status, "request-1")


def verdict_of(row: Row, entries: int, *, assumed_role: bool, refreshed: bool) -> Verdict:
    """The expected verdict of the row, written without a look at the code."""
    code, message = row.code, row.message
    if row.meaning == "split" and entries > 1:
        return Split(code, message)
    if row.meaning in ("credentials refused", "denied") and assumed_role and not refreshed:
        return Refresh(code, message)
    each: dict[Class, Outcome] = {
        "retryable": Retryable(code, message),
        "ours": Retryable(code, message, is_our_fault=True),
        "throttled": Throttled(code, message),
        "rejected": Rejected(code, message),
        "blocked": Blocked(code, message),
        "split": Rejected(code, message),
        "denied": Blocked(code, message),
        "credentials refused": Retryable(code, message, is_our_fault=True) if assumed_role else Blocked(code, message),
    }
    return (each[row.meaning],) * entries


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.level} {row.code} {row.http_status} {row.meaning}")
def test_every_code_has_the_outcome_in_the_table(row: Row) -> None:
    for assumed_role, refreshed, entries in product([False, True], [False, True], [1, 10]):
        verdict = judge(reply_of(row, entries), entries, assumed_role=assumed_role, refreshed=refreshed)
        expected = verdict_of(row, entries, assumed_role=assumed_role, refreshed=refreshed)
        # As text, for tuples of the same values are equal whatever their class.
        assert repr(verdict) == repr(expected), (assumed_role, refreshed, entries)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.level} {row.code} {row.http_status} {row.meaning}")
def test_a_retrys_code_shows_our_own_fault(row: Row) -> None:
    for assumed_role, refreshed in product([False, True], [False, True]):
        verdict = judge(reply_of(row, 1), 1, assumed_role=assumed_role, refreshed=refreshed)
        if not isinstance(verdict, Split | TooLarge | Refresh) and isinstance(verdict[0], Retryable):
            assert is_our_fault(verdict[0].code) == verdict[0].is_our_fault


USER = "User: arn:aws:sts::123456789012:assumed-role/writer/pushrail-dst is not authorized to perform: events:PutEvents"
BUS = "on resource: arn:aws:events:us-east-1:123456789012:event-bus/orders"


@pytest.mark.parametrize("operation", ["PutEvents", "AssumeRole"])
@pytest.mark.parametrize("code", ["AccessDenied", "AccessDeniedException"])
@pytest.mark.parametrize(
    "why",
    [
        "because no VPC endpoint policy allows the events:PutEvents action",
        f"{BUS} because no VPC endpoint policy allows the events:PutEvents action",
        f"{BUS} with an explicit deny in a VPC endpoint policy",
        "because no session policy allows the events:PutEvents action",
        f"{BUS} with an explicit deny in a session policy",
    ],
)
def test_a_denial_by_our_own_policy_is_our_fault(
    operation: Literal["PutEvents", "AssumeRole"], code: str, why: str
) -> None:
    said = CallFailed(operation, code, f"{USER} {why}", 403)
    for assumed_role, refreshed in product([False, True], [False, True]):
        verdict = judge(said, 1, assumed_role=assumed_role, refreshed=refreshed)
        assert verdict == (Retryable("OurPolicyDenied", f"{USER} {why}", is_our_fault=True),)
    assert is_our_fault("OurPolicyDenied")


@pytest.mark.parametrize(
    "why",
    [
        "because no identity-based policy allows the events:PutEvents action",
        "because no resource-based policy allows the events:PutEvents action",
        "with an explicit deny in a service control policy",
        "with an explicit deny in a resource control policy",
        "because no permissions boundary allows the events:PutEvents action",
        "on resource: arn:aws:events:us-east-1:123456789012:event-bus/no-session-policy",
    ],
)
def test_a_customers_denial_blocks(why: str) -> None:
    (outcome,) = judge_once(CallFailed("PutEvents", "AccessDeniedException", f"{USER} {why}", 400))
    assert outcome == Blocked("AccessDeniedException", f"{USER} {why}")


@pytest.mark.parametrize("entries", [1, 10])
def test_too_large_differs_from_invalid(entries: int) -> None:
    message = "Total size of the entries in the request is over the limit."
    verdict = judge(
        CallFailed("PutEvents", "ValidationException", message, 400), entries, assumed_role=True, refreshed=False
    )
    assert verdict == TooLarge("ValidationException", message)
    assert type(verdict) is TooLarge


def judge_once(failed: CallFailed) -> tuple[Outcome, ...]:
    verdict = judge(failed, 1, assumed_role=False, refreshed=False)
    assert not isinstance(verdict, Split | TooLarge | Refresh)
    return verdict


@pytest.mark.parametrize("status", [301, 302, 307, 308, 401, 403, 404, 407, 421, 451])
def test_a_refusal_without_a_code_is_a_proxys(status: int) -> None:
    assert CallFailed("PutEvents", str(status), "<html>", status).is_not_from_aws


@pytest.mark.parametrize(
    "failed",
    [
        CallFailed("PutEvents", "AccessDeniedException", "", 403),
        CallFailed("PutEvents", "UnknownResult", "", 200),
        CallFailed("PutEvents", "ReadTimeout", "", None),
        *(CallFailed("PutEvents", str(status), "", status) for status in (413, 429, 500, 502, 503, 504)),
    ],
)
def test_errors_of_aws_are_no_proxys(failed: CallFailed) -> None:
    assert not failed.is_not_from_aws


def outcomes(results: list[EntryResult], entries: int) -> tuple[Outcome, ...]:
    verdict = judge(Answered(tuple(results), 200, None), entries, assumed_role=False, refreshed=False)
    assert not isinstance(verdict, Split | TooLarge | Refresh)
    return verdict


def test_every_entry_has_its_own_outcome_in_order() -> None:
    results = [
        EntryResult("event-1", None, None),
        EntryResult(None, "ThrottlingException", "slow down"),
        EntryResult(None, "MalformedDetail", "Detail is malformed."),
        EntryResult("event-4", None, None),
        EntryResult(None, "NotAuthorizedForSourceException", "aws."),
    ]
    assert outcomes(results, 5) == (
        Delivered("event-1"),
        Throttled("ThrottlingException", "slow down"),
        Rejected("MalformedDetail", "Detail is malformed."),
        Delivered("event-4"),
        Blocked("NotAuthorizedForSourceException", "aws."),
    )


@pytest.mark.parametrize("others", [EntryResult("event-2", None, None), EntryResult(None, "MalformedDetail", "no")])
def test_a_partial_denial_keeps_the_session(others: EntryResult) -> None:
    denied = EntryResult(None, "AccessDeniedException", "no")
    for results in ((denied, others), (others, denied)):
        verdict = judge(Answered(results, 200, None), 2, assumed_role=True, refreshed=False)
        assert not isinstance(verdict, Split | TooLarge | Refresh)
        assert Blocked("AccessDeniedException", "no") in verdict


def test_missing_results_may_be_sent_again() -> None:
    first, *others = outcomes([EntryResult("event-1", None, None)], 3)
    assert first == Delivered("event-1")
    assert others == [Retryable("UnknownResult", "the reply has 1 results for 3 entries")] * 2
    assert outcomes([], 1) == (Retryable("UnknownResult", "the reply has 0 results for 1 entries"),)


def test_too_many_results_answer_another_call() -> None:
    results = [EntryResult(f"event-{n}", None, None) for n in range(5)]
    assert outcomes(results, 2) == (Retryable("UnknownResult", "the reply has 5 results for 2 entries"),) * 2


@pytest.mark.parametrize("event_id", [None, ""])
@pytest.mark.parametrize("code", [None, ""])
def test_a_result_without_id_or_code_failed(event_id: str | None, code: str | None) -> None:
    (outcome,) = outcomes([EntryResult(event_id, code, None)], 1)
    assert outcome == Retryable("UnknownResult", "the entry's result has neither EventId nor ErrorCode")
    assert type(outcome) is Retryable


def test_a_code_beside_an_id_is_a_failure() -> None:
    assert outcomes([EntryResult("event-1", "InternalFailure", None)], 1) == (Retryable("InternalFailure", ""),)
    assert outcomes([EntryResult("event-1", "", None)], 1) == (Delivered("event-1"),)


SECRET_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.level} {row.code} {row.http_status} {row.meaning}")
def test_no_verdict_repeats_a_credential(row: Row) -> None:
    said = row._replace(message=f"{row.message}: the key {SECRET_KEY} is wrong")
    for assumed_role in (False, True):
        verdict = judge(reply_of(said, 2), 2, assumed_role=assumed_role, refreshed=False)
        assert SECRET_KEY not in repr(verdict)
        assert "the key *** is wrong" in repr(verdict)


maybe = st.none() | st.text(max_size=8)
replies = st.builds(
    Answered, st.lists(st.builds(EntryResult, maybe, maybe, maybe), max_size=12).map(tuple), st.just(200), st.none()
) | st.builds(
    CallFailed,
    st.sampled_from(["PutEvents", "AssumeRole", "Credentials"]),
    st.text(max_size=8) | st.sampled_from([row.code for row in TABLE]),
    st.text(max_size=8),
    st.none() | st.integers(100, 599),
)


@given(reply=replies, entries=st.integers(1, 10), assumed_role=st.booleans(), refreshed=st.booleans())
def test_any_reply_gives_one_outcome_per_entry(
    reply: CallReply, entries: int, *, assumed_role: bool, refreshed: bool
) -> None:
    verdict = judge(reply, entries, assumed_role=assumed_role, refreshed=refreshed)
    if isinstance(verdict, Refresh):
        assert assumed_role
        assert not refreshed
    elif isinstance(verdict, Split):
        assert entries > 1
    else:
        assert len(verdict) == entries


@pytest.mark.parametrize(
    ("failed", "bus_status"),
    [
        (None, "there"),
        (CallFailed("DescribeEventBus", "ResourceNotFoundException", "", 400), "gone"),
        (CallFailed("DescribeEventBus", "AccessDeniedException", "", 400), "denied"),
        (CallFailed("DescribeEventBus", "ThrottlingException", "", 400), "busy"),
        (CallFailed("DescribeEventBus", "429", "", 429), "busy"),
        (CallFailed("DescribeEventBus", "InternalException", "", 500), "unknown"),
        (CallFailed("DescribeEventBus", "ReadTimeout", ""), "unknown"),
    ],
)
def test_only_describe_tells_of_a_missing_bus(failed: CallFailed | None, bus_status: str) -> None:
    assert judge_check(failed) == bus_status
